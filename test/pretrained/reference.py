"""Computes a saved GPT-2 or Llama in float64, by the papers' equations and Hugging Face's names and conventions.

    python3 reference.py FOLDER IDS

prints the logits of one sequence, whose ids are JSON, as JSON. Entries that config.json lacks have transformers' defaults.
If the folder has an adapter in PEFT's layout, it is applied by the formulas of LoRA and DoRA.
It needs only NumPy and safetensors.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import safetensors


def read_weights(folder):
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    weights = {}
    for name in files:
        with safetensors.safe_open(folder / name, framework="np") as file:
            assert file.metadata() == {"format": "pt"}
            for key in file.keys():
                weights[key] = file.get_tensor(key).astype(np.float64)
    if (folder / "adapter_config.json").exists():
        apply_adapter(weights, folder)
    return weights


def apply_adapter(weights, folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"])
    with safetensors.safe_open(folder / "adapter_model.safetensors", framework="np") as file:
        parts = {key: file.get_tensor(key).astype(np.float64) for key in file.keys()}
    while parts:
        layer = next(iter(parts)).split(".lora_")[0]
        change = scale * parts.pop(f"{layer}.lora_B.weight") @ parts.pop(f"{layer}.lora_A.weight")
        name = layer.removeprefix("base_model.model.")
        assert any(f".{name}".endswith(f".{target}") for target in config["target_modules"])
        key = name.removeprefix("transformer.") + ".weight"
        weight = (weights[key].T if config["fan_in_fan_out"] else weights[key]) + change
        if config["use_dora"]:
            weight *= (parts.pop(f"{layer}.lora_magnitude_vector") / np.linalg.norm(weight, axis=1))[:, None]
        weights[key] = weight.T if config["fan_in_fan_out"] else weight


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attend(q, k, v, window=0, scale=None):
    """Computes causal attention; q, k and v are [H, T, D]."""
    t = q.shape[1]
    scores = q @ k.transpose(0, 2, 1) * (1 / math.sqrt(q.shape[2]) if scale is None else scale)
    distance = np.arange(t)[:, None] - np.arange(t)[None, :]
    hidden = (distance < 0) | ((distance >= window) if window else False)
    return softmax(np.where(hidden, -np.inf, scores)) @ v


def heads_of(x, heads):
    return x.reshape(x.shape[0], heads, -1).transpose(1, 0, 2)


def joined(x):
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def erf(x):
    return np.vectorize(math.erf)(x)


activations = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_python": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def gpt2(config, w, ids):
    def norm(name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + config.get("layer_norm_epsilon", 1e-5))
        return x * w[name + ".weight"] + w.get(name + ".bias", 0)

    def dense(name, x):
        return x @ w[name + ".weight"] + w.get(name + ".bias", 0)

    act = activations[config.get("activation_function", "gelu_new")]
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    for n in range(config["n_layer"]):
        qkv = dense(f"h.{n}.attn.c_attn", norm(f"h.{n}.ln_1", x))
        q, k, v = (heads_of(part, config["n_head"]) for part in np.split(qkv, 3, axis=-1))
        scale = 1 / math.sqrt(q.shape[2]) if config.get("scale_attn_weights", True) else 1
        scale = scale / (n + 1) if config.get("scale_attn_by_inverse_layer_idx", False) else scale
        x = x + dense(f"h.{n}.attn.c_proj", joined(attend(q, k, v, scale=scale)))
        x = x + dense(f"h.{n}.mlp.c_proj", act(dense(f"h.{n}.mlp.c_fc", norm(f"h.{n}.ln_2", x))))
    return norm("ln_f", x) @ w["wte.weight" if config.get("tie_word_embeddings", True) else "lm_head.weight"].T


def rope_entries(config):
    """Returns the settings of positions, under their older names if there are any."""
    entries = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    entries.setdefault("rope_type", entries.get("type", "default"))
    entries.setdefault("rope_theta", config.get("rope_theta", 10000))
    for name in ("partial_rotary_factor", "original_max_position_embeddings"):
        if name in config:
            entries[name] = config[name]
    return entries


def rope(config, scaling, size):
    """Returns the angles per position and the factor of cosines and sines, by the published formulas."""
    base, context = scaling["rope_theta"], config["max_position_embeddings"]
    angles = base ** (-np.arange(0, size, 2) / size)
    kind, factor = scaling["rope_type"], scaling.get("factor")
    original = scaling.get("original_max_position_embeddings", context)
    if kind == "default" or kind == "dynamic":
        # No text is longer than the context, up to which dynamic scaling changes nothing.
        return angles, 1
    if kind == "linear":
        return angles / factor, 1
    if kind == "longrope":
        return angles / np.array(scaling["long_factor"]), scaling["attention_factor"]
    turns = original * angles / (2 * math.pi)
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        share = np.clip((turns - low) / (high - low), 0, 1)
        return share * angles + (1 - share) * angles / factor, 1
    assert kind == "yarn"

    def pair(turns):
        return size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    def mscale(by):
        return 0.1 * by * math.log(factor) + 1

    low, high = pair(scaling.get("beta_fast") or 32), pair(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    share = np.clip((np.arange(size // 2) - low) / (high - low or 0.001), 0, 1)
    both = scaling.get("mscale") and scaling.get("mscale_all_dim")
    usual = mscale(scaling["mscale"]) / mscale(scaling["mscale_all_dim"]) if both else mscale(1)
    return share * angles / factor + (1 - share) * angles, scaling.get("attention_factor", usual)


def windows_of(config):
    """Returns the window of each layer, or 0 if it has none."""
    kind, layers = config["model_type"], config["num_hidden_layers"]
    window = config.get("sliding_window", 4096) or 0
    if kind == "llama":
        return [0] * layers
    if kind == "mistral":
        return [window] * layers
    if not config.get("use_sliding_window", False):
        return [0] * layers
    first = config.get("max_window_layers", 28)
    usual = ["sliding_attention" if n >= first else "full_attention" for n in range(layers)]
    return [window if kind == "sliding_attention" else 0 for kind in config.get("layer_types", usual)]


def heads_and_size(config):
    """Returns the number of key and value heads, and the size of a head."""
    kind, heads = config["model_type"], config["num_attention_heads"]
    usual = {"llama": heads, "mistral": 8, "qwen2": 32, "qwen3": 32}[kind]
    size = config.get("head_dim", 128 if kind == "qwen3" else None) or config["hidden_size"] // heads
    return config.get("num_key_value_heads", usual) or heads, size


def llama(config, w, ids):
    def norm(name, x):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + config.get("rms_norm_eps", 1e-6)) * w[name + ".weight"]

    def dense(name, x):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    kv_heads, head_size = heads_and_size(config)
    entries = rope_entries(config)
    size = int(head_size * entries.get("partial_rotary_factor", 1))
    frequencies, factor = rope(config, entries, size)
    angles = np.arange(len(ids))[:, None] * frequencies
    cosines, sines = (np.concatenate([f(angles), f(angles)], axis=-1) * factor for f in (np.cos, np.sin))

    def turn(x):
        half = size // 2
        x, rest = x[..., :size], x[..., size:]
        turned = x * cosines + np.concatenate([-x[..., half:], x[..., :half]], axis=-1) * sines
        return np.concatenate([turned, rest], axis=-1)

    act = activations[config.get("hidden_act", "silu")]
    windows = windows_of(config)
    group = config["num_attention_heads"] // kv_heads
    x = w["model.embed_tokens.weight"][ids]
    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}.self_attn."
        y = norm(f"model.layers.{n}.input_layernorm", x)
        q = heads_of(dense(at + "q_proj", y), config["num_attention_heads"])
        k = heads_of(dense(at + "k_proj", y), kv_heads)
        v = heads_of(dense(at + "v_proj", y), kv_heads)
        if config["model_type"] == "qwen3":
            q, k = norm(at + "q_norm", q), norm(at + "k_norm", k)
        k, v = (np.repeat(part, group, axis=0) for part in (turn(k), v))
        x = x + dense(at + "o_proj", joined(attend(turn(q), k, v, windows[n])))
        y = norm(f"model.layers.{n}.post_attention_layernorm", x)
        gate = dense(f"model.layers.{n}.mlp.gate_proj", y)
        y = act(gate) * dense(f"model.layers.{n}.mlp.up_proj", y)
        x = x + dense(f"model.layers.{n}.mlp.down_proj", y)
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings", False) else "lm_head.weight"
    return norm("model.norm", x) @ w[head].T


models = {"gpt2": gpt2, "llama": llama, "mistral": llama, "qwen2": llama, "qwen3": llama}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    print(json.dumps(models[config["model_type"]](config, read_weights(folder), json.loads(sys.argv[2])).ravel().tolist()))
