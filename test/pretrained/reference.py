"""Logits of a saved GPT-2 or Llama in float64, by the papers' equations and Hugging Face's names and conventions.

    python3 reference.py FOLDER < ids.json

prints the logits of one sequence as JSON. NumPy and safetensors only.
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
    return weights


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attend(q, k, v, window=0):
    """[H, T, D] each; a token sees itself and what is before it."""
    t = q.shape[1]
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[2])
    distance = np.arange(t)[:, None] - np.arange(t)[None, :]
    hidden = (distance < 0) | ((distance >= window) if window else False)
    return softmax(np.where(hidden, -np.inf, scores)) @ v


def heads_of(x, heads):
    return x.reshape(x.shape[0], heads, -1).transpose(1, 0, 2)


def joined(x):
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def gpt2(config, w, ids):
    def norm(name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + config["layer_norm_epsilon"])
        return x * w[name + ".weight"] + w[name + ".bias"]

    def dense(name, x):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    assert config["activation_function"] == "gelu_new"
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    for n in range(config["n_layer"]):
        qkv = dense(f"h.{n}.attn.c_attn", norm(f"h.{n}.ln_1", x))
        q, k, v = (heads_of(part, config["n_head"]) for part in np.split(qkv, 3, axis=-1))
        x = x + dense(f"h.{n}.attn.c_proj", joined(attend(q, k, v)))
        x = x + dense(f"h.{n}.mlp.c_proj", gelu(dense(f"h.{n}.mlp.c_fc", norm(f"h.{n}.ln_2", x))))
    return norm("ln_f", x) @ w["wte.weight"].T


def llama(config, w, ids):
    def norm(name, x):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + config["rms_norm_eps"]) * w[name + ".weight"]

    def dense(name, x):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    size = config["head_dim"]
    frequencies = config["rope_theta"] ** (-np.arange(0, size, 2) / size)
    scaling = config["rope_scaling"]
    if scaling:
        if scaling["rope_type"] == "linear":
            frequencies = frequencies / scaling["factor"]
        else:
            assert scaling["rope_type"] == "longrope"
            frequencies = frequencies / np.array(scaling["long_factor"])
    angles = np.arange(len(ids))[:, None] * frequencies
    cosines, sines = (np.concatenate([f(angles), f(angles)], axis=-1) for f in (np.cos, np.sin))

    def turn(x):
        half = size // 2
        return x * cosines + np.concatenate([-x[..., half:], x[..., :half]], axis=-1) * sines

    assert config["hidden_act"] == "silu" and "partial_rotary_factor" not in config
    window = config.get("sliding_window", 0)
    group = config["num_attention_heads"] // config["num_key_value_heads"]
    x = w["model.embed_tokens.weight"][ids]
    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}.self_attn."
        y = norm(f"model.layers.{n}.input_layernorm", x)
        q = heads_of(dense(at + "q_proj", y), config["num_attention_heads"])
        k = heads_of(dense(at + "k_proj", y), config["num_key_value_heads"])
        v = heads_of(dense(at + "v_proj", y), config["num_key_value_heads"])
        if config["model_type"] == "qwen3":
            q, k = norm(at + "q_norm", q), norm(at + "k_norm", k)
        k, v = (np.repeat(part, group, axis=0) for part in (turn(k), v))
        x = x + dense(at + "o_proj", joined(attend(turn(q), k, v, window)))
        y = norm(f"model.layers.{n}.post_attention_layernorm", x)
        gate = dense(f"model.layers.{n}.mlp.gate_proj", y)
        y = gate / (1 + np.exp(-gate)) * dense(f"model.layers.{n}.mlp.up_proj", y)
        x = x + dense(f"model.layers.{n}.mlp.down_proj", y)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return norm("model.norm", x) @ w[head].T


models = {"gpt2": gpt2, "llama": llama, "mistral": llama, "qwen2": llama, "qwen3": llama}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    print(json.dumps(models[config["model_type"]](config, read_weights(folder), json.load(sys.stdin)).ravel().tolist()))
