"""PyTorch's twin of each benchmark case, eager or compiled, in the protocol of peer.ts.

Usage: torch_peer.py MODE, where MODE is "eager" or "compiled". A function below prepares the case of its name: it gets
the arguments of the case, the device and the dtype, checks what it can, and returns a Twin. On CUDA, events measure runs
in a row, as in bench/timing.ts, unless a run waits for results itself.
"""

import ctypes
import json
import math
import mmap
import struct
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

MODE = sys.argv[1]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
CASES = {
    "eager": "add gemm attention layer_norm cross_entropy projected_cross_entropy adamw lion muon "
    "training_step "
    "lora_training_step qlora_training_step lstm_training_step decode prefill encoder",
    "compiled": "layer_norm projected_cross_entropy lion muon training_step lora_training_step qlora_training_step",
}[MODE].split()


class Twin:
    """A ready case. `run` is timed, or times itself and returns milliseconds; `before` runs untimed before it."""

    def __init__(self, run, before=None, result=None, waits=False):
        self.run, self.before, self.result, self.waits = run, before, result, waits


def maybe_compiled(function):
    return torch.compile(function) if MODE == "compiled" else function


def expect_close(what, got, expected, tolerance):
    error = (got.double() - expected).abs().max().item()
    if not error <= tolerance * max(1.0, expected.abs().max().item()):
        raise ValueError(f"{what}: off by {error}")


TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2**-5, torch.float16: 2**-8}


def add(size, count, device, dtype):
    a, b = (torch.randn(size, device=device, dtype=dtype) for _ in range(2))

    def run():
        for _ in range(count):
            torch.add(a, b)

    return Twin(run)


def gemm(m, k, n, layout, device, dtype):
    options = {"device": device, "dtype": dtype}
    a = torch.randn(k, m, **options).t() if layout == "tn" else torch.randn(m, k, **options)
    b = torch.randn(n, k, **options).t() if layout == "nt" else torch.randn(k, n, **options)
    out = torch.empty(m, n, **options)
    torch.mm(a, b, out=out)
    expect_close("gemm", out[-1], a[-1].double() @ b.double(), TOLERANCE[dtype])
    return Twin(lambda: torch.mm(a, b, out=out))


def attention(batch, heads, length, size, causal, backward, deviation, device, dtype):
    options = {"device": device, "dtype": dtype}
    q, k, v = (
        (factor * torch.randn(batch, heads, length, size, **options)).requires_grad_()
        for factor in (deviation, deviation, 1)
    )
    grad = torch.ones(batch, heads, length, size, **options)

    def forward():
        with torch.no_grad():
            return F.scaled_dot_product_attention(q, k, v, is_causal=bool(causal))

    def both():
        F.scaled_dot_product_attention(q, k, v, is_causal=bool(causal)).backward(grad)
        q.grad = k.grad = v.grad = None

    # The last query sees every key, with and without the causal mask.
    with torch.no_grad():
        weights = (k[-1, -1].double() @ q[-1, -1, -1].double() / math.sqrt(size)).softmax(0)
        expect_close("attention", forward()[-1, -1, -1], weights @ v[-1, -1].double(), TOLERANCE[dtype])
    return Twin(both if backward else forward)


def layer_norm(rows, width, device, dtype, **rest):
    residual, backward = "add" in rest["pass"], "backward" in rest["pass"]
    options = {"device": device, "dtype": dtype}
    x, r, dout, dsum = (torch.randn(rows, width, **options) for _ in range(4))
    weight, bias = torch.ones(width, **options), torch.zeros(width, **options)
    for tensor in (x, r, weight, bias):
        tensor.requires_grad = backward

    def plain(x, r):
        return (F.layer_norm(x, (width,), weight, bias),)

    def with_residual(x, r):
        total = x + r
        return F.layer_norm(total, (width,), weight, bias), total

    forward = maybe_compiled(with_residual if residual else plain)
    with torch.no_grad():
        row = (x[-1].double() + r[-1].double()) if residual else x[-1].double()
        expect_close("layer norm", forward(x, r)[0][-1], F.layer_norm(row, (width,)), TOLERANCE[dtype])

    def run():
        with torch.no_grad():
            forward(x, r)

    outputs = []

    def before():
        for tensor in (x, r, weight, bias):
            tensor.grad = None
        outputs[:] = forward(x, r)

    def run_backward():
        torch.autograd.backward(outputs, (dout, dsum)[: len(outputs)])

    return Twin(run_backward, before) if backward else Twin(run)


def cross_entropy(rows, vocabulary, device, dtype):
    logits = torch.randn(rows, vocabulary, device=device, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, vocabulary, (rows,), device=device)

    def run():
        F.cross_entropy(logits, targets).backward()
        logits.grad = None

    return Twin(run)


def projected_cross_entropy(rows, width, vocabulary, device, dtype):
    options = {"device": device, "dtype": dtype}
    x = torch.randn(rows, width, **options).requires_grad_()
    weight = (0.02 * torch.randn(vocabulary, width, **options)).requires_grad_()
    targets = torch.randint(0, vocabulary, (rows,), device=device)
    loss = maybe_compiled(lambda x, weight: F.cross_entropy(F.linear(x, weight).float(), targets))

    def run():
        loss(x, weight).backward()
        x.grad = weight.grad = None

    # Logits are about normally distributed, with a variance of 0.02² · width.
    expected = torch.tensor(math.log(vocabulary) + 0.02**2 * width / 2, dtype=torch.float64)
    expect_close("loss", loss(x, weight).detach().cpu(), expected, 0.02)
    return Twin(run)


def adamw(layers, width, device, dtype):
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width), (width,)] * layers
    parameters = [torch.randn(*shape, device=device, requires_grad=True) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return Twin(torch.optim.AdamW(parameters, lr=1e-3, fused=True).step)


def pattern(shape, seed, device):
    """Numbers from -0.5 to 0.5 that look random, the same as in bench/cases/lion-and-muon.ts."""
    low = 0xFFFFFFFF
    x = torch.arange(math.prod(shape), dtype=torch.int64) + 1 + seed * 0x1000003
    x = (x & low) * 0x9E3779B1 & low
    x = (x ^ (x >> 15)) * 0x85EBCA77 & low
    x = x ^ (x >> 13)
    return (x.double() / 2**32 - 0.5).float().reshape(shape).to(device)


def patterned_parameters(layers, width, device):
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width), (width,)] * layers
    parameters = [pattern(shape, 2 * k, device) for k, shape in enumerate(shapes)]
    gradients = [pattern(shape, 2 * k + 1, device) for k, shape in enumerate(shapes)]
    return parameters, gradients


def first_elements(parameters):
    return [value for parameter in parameters[:5] for value in parameter.flatten()[:8].tolist()]


def lion(layers, width, device, dtype):
    """Lion (Chen et al. 2023) with lists of tensors, as PyTorch's own optimisers have it."""
    parameters, gradients = patterned_parameters(layers, width, device)
    moments = [torch.zeros_like(parameter) for parameter in parameters]

    def step():
        directions = torch._foreach_sign(torch._foreach_lerp(moments, gradients, 1 - 0.9))
        torch._foreach_add_(parameters, directions, alpha=-1e-4)
        torch._foreach_lerp_(moments, gradients, 1 - 0.99)

    run = maybe_compiled(step)
    run()
    return Twin(run, result=first_elements(parameters))


def newton_schulz(x):
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.float().norm() + 1e-7).to(x.dtype)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def muon(layers, width, device, dtype):
    """Muon (Jordan et al. 2024) for matrices; AdamW takes the vectors."""
    parameters, gradients = patterned_parameters(layers, width, device)
    pairs = list(zip(parameters, gradients))
    matrices = [pair for pair in pairs if pair[0].dim() == 2]
    moments = [torch.zeros_like(parameter) for parameter, _ in matrices]
    vectors = []
    for vector, gradient in pairs:
        if vector.dim() == 1:
            vector.requires_grad_().grad = gradient
            vectors.append(vector)
    adamw = torch.optim.AdamW(vectors, lr=0.02 * 0.015, betas=(0.9, 0.95), eps=1e-10, weight_decay=0, fused=True)
    direction = maybe_compiled(newton_schulz)

    def step():
        adamw.step()
        for (parameter, gradient), moment in zip(matrices, moments):
            moment.lerp_(gradient, 1 - 0.95)
            update = direction(gradient.lerp(moment, 0.95).to(dtype))
            scale = max(1, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.add_(update.float(), alpha=-0.02 * scale)

    step()
    with torch.no_grad():
        return Twin(step, result=first_elements(parameters))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cache=None, position=0):
        batch, length, width = x.shape
        parts = self.qkv(self.ln_1(x)).split(width, dim=2)
        q, k, v = (t.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for t in parts)
        if cache is not None:
            keys, values = cache
            keys[:, :, position : position + length] = k
            values[:, :, position : position + length] = v
            k, v = keys[:, :, : position + length], values[:, :, : position + length]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, layers, heads, width):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, ids, caches=None, position=0):
        length = ids.shape[1]
        x = self.wte(ids) + self.wpe.weight[position : position + length]
        for i, block in enumerate(self.h):
            x = block(x, None if caches is None else caches[i], position)
        if caches is not None:
            x = x[:, -1:]
        return F.linear(self.ln_f(x), self.wte.weight)


class LSTM(nn.Module):
    def __init__(self, vocabulary, layers, width):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.wte.weight, 0, 0.1)
        self.rnn = nn.LSTM(width, width, layers, batch_first=True)

    def forward(self, ids):
        return F.linear(self.rnn(self.wte(ids))[0], self.wte.weight)


def training_step(batch, length, vocabulary, layers, heads, width, device, dtype):
    return step_of(GPT(vocabulary, length, layers, heads, width), batch, length, vocabulary, device, dtype)


def lstm_training_step(batch, length, vocabulary, layers, width, device, dtype):
    return step_of(LSTM(vocabulary, layers, width), batch, length, vocabulary, device, dtype)


class Rounded(torch.autograd.Function):
    """The product with a weight in 4 bits, which is dequantised before the product, forward and backward."""

    GROUP = 32

    @staticmethod
    def quantize(weight):
        groups = weight.float().view(weight.shape[0], -1, Rounded.GROUP)
        scales = (groups.abs().amax(2, keepdim=True) / 7).clamp(min=1e-8).bfloat16()
        codes = ((groups / scales.float()).round().clamp(-8, 7) + 8).to(torch.uint8).flatten(1)
        return codes[:, ::2] | codes[:, 1::2] << 4, scales

    @staticmethod
    def weight(codes, scales, dtype):
        pairs = torch.stack((codes & 15, codes >> 4), 2).view(len(codes), -1, Rounded.GROUP)
        return ((pairs.to(dtype) - 8) * scales.to(dtype)).flatten(1)

    @staticmethod
    def forward(ctx, x, codes, scales, bias):
        ctx.save_for_backward(codes, scales)
        return F.linear(x, Rounded.weight(codes, scales, x.dtype), bias)

    @staticmethod
    def backward(ctx, dout):
        return dout @ Rounded.weight(*ctx.saved_tensors, dout.dtype), None, None, None


class Adapted(nn.Module):
    """A frozen linear layer, perhaps in 4 bits, with a LoRA whose parameters are f32."""

    def __init__(self, layer, rank, bits):
        super().__init__()
        self.bias = layer.bias
        self.a = nn.Parameter(torch.empty(rank, layer.in_features).uniform_(-1, 1) / math.sqrt(layer.in_features))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))
        if bits == 4:
            codes, self.weight = Rounded.quantize(layer.weight.detach()), None
            self.register_buffer("codes", codes[0])
            self.register_buffer("scales", codes[1])
        else:
            self.weight = layer.weight

    def forward(self, x):
        change = F.linear(F.linear(x, self.a), self.b)
        if self.weight is not None:
            return F.linear(x, self.weight, self.bias) + change
        return Rounded.apply(x.to(self.bias.dtype), self.codes, self.scales, self.bias) + change


def lora_training_step(batch, length, vocabulary, layers, heads, width, rank, device, dtype, bits=None):
    model = GPT(vocabulary, length, layers, heads, width).to(device, dtype).requires_grad_(False)
    for block in model.h:
        for name in ("qkv", "proj", "up", "down"):
            setattr(block, name, Adapted(getattr(block, name), rank, bits).to(device))
    return step_of(model, batch, length, vocabulary, device, dtype, 1e-2)


def qlora_training_step(**case):
    return lora_training_step(bits=4, **case)


def step_of(model, batch, length, vocabulary, device, dtype, lr=3e-4):
    model = model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids, targets = (torch.randint(0, vocabulary, (batch, length), device=device) for _ in range(2))
    forward = maybe_compiled(model)

    def run():
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            logits = forward(ids)
            loss = F.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    # An untrained model is about as good as chance.
    expect_close("first loss", torch.tensor(run()), torch.tensor(math.log(vocabulary), dtype=torch.float64), 0.05)
    return Twin(lambda: [run()], waits=True)


def read_weights(path):
    """Return the tensors of a safetensors file in f32, by name."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {
        name: torch.frombuffer(
            data, dtype=torch.float32, count=math.prod(entry["shape"]), offset=8 + size + entry["data_offsets"][0]
        ).view(entry["shape"])
        for name, entry in header.items()
    }


def gpt_of(weights, context, vocabulary, layers, heads, width, device, dtype):
    """A GPT with the weights of a file, whose matrices are [in, out]."""
    model = GPT(vocabulary, context, layers, heads, width)
    names = {"qkv": "attn.c_attn", "proj": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    tensors = read_weights(weights)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parts = [names.get(part, part) for part in name.split(".")]
            value = tensors[".".join(parts)]
            turned = parts[-2].split(".")[-1].startswith("c_") and value.dim() == 2
            parameter.copy_(value.t() if turned else value)
    return model.to(device, dtype).eval()


def caches_of(layers, batch, heads, context, width, device, dtype):
    shape = (batch, heads, context, width // heads)
    return [tuple(torch.zeros(shape, device=device, dtype=dtype) for _ in range(2)) for _ in range(layers)]


def decode(weights, context, layers, heads, width, vocabulary, batch, prompt, count, device, dtype, **rest):
    model = gpt_of(weights, context, vocabulary, layers, heads, width, device, dtype)
    caches = caches_of(layers, batch, heads, context, width, device, dtype)
    start = (torch.arange(batch * prompt, device=device) * 7919 % vocabulary).view(batch, prompt)

    def generated():
        """Return the tokens of the last sequence and the milliseconds from the first token to the last."""
        tokens = []
        with torch.inference_mode():
            ids = model(start, caches, 0).argmax(-1)
            tokens.append(ids[-1, 0].item())
            begin = time.perf_counter()
            for i in range(count - 1):
                ids = model(ids, caches, prompt + i).argmax(-1)
                tokens.append(ids.tolist()[-1][0])
        return tokens, (time.perf_counter() - begin) * 1000

    return Twin(lambda: generated()[1], result=generated()[0], waits=True)


def prefill(weights, context, layers, heads, width, vocabulary, prompt, device, dtype, **rest):
    model = gpt_of(weights, context, vocabulary, layers, heads, width, device, dtype)
    caches = caches_of(layers, 1, heads, context, width, device, dtype)
    start = (torch.arange(prompt, device=device) * 7919 % vocabulary).view(1, prompt)

    def run():
        with torch.inference_mode():
            return model(start, caches, 0).argmax(-1).item()

    return Twin(lambda: [run()], result=[run()], waits=True)


def encoder(weights, layers, heads, width, vocabulary, batch, length, device, dtype):
    w = {name: tensor.to(device, dtype) for name, tensor in read_weights(weights).items()}
    ids = (torch.arange(batch * length, device=device) * 7919 % vocabulary).view(batch, length)

    def dense(x, name):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x, name):
        return F.layer_norm(x, (width,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    def forward():
        kinds = w["embeddings.token_type_embeddings.weight"][0]
        positions = w["embeddings.position_embeddings.weight"][:length]
        x = norm(F.embedding(ids, w["embeddings.word_embeddings.weight"]) + positions + kinds, "embeddings.LayerNorm")
        for i in range(layers):
            p = f"encoder.layer.{i}."
            parts = (dense(x, f"{p}attention.self.{part}") for part in ("query", "key", "value"))
            q, k, v = (t.view(batch, length, heads, width // heads).transpose(1, 2) for t in parts)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
            x = norm(x + dense(y, f"{p}attention.output.dense"), f"{p}attention.output.LayerNorm")
            y = F.gelu(dense(x, f"{p}intermediate.dense"))
            x = norm(x + dense(y, f"{p}output.dense"), f"{p}output.LayerNorm")
        return x

    def run():
        with torch.inference_mode():
            return forward()

    return Twin(run, result=run()[-1, -1, :8].float().tolist())


def resident(which):
    """Return the bytes of this process's memory: now ("VmRSS"), or the most so far ("VmHWM")."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(which))


def trimmed():
    """Return the bytes in use, without blocks that the allocator keeps, and reset the peak."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return resident("VmRSS")


def event_time(run, repeats):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / repeats


class Prepared:
    def __init__(self, case, dtype, device, threads, memory):
        torch.set_num_threads(threads)
        torch._dynamo.reset()
        case = dict(case)
        prepare = globals()[case.pop("name")]
        torch.manual_seed(0)
        whole = trimmed() if memory else 0
        self.twin = prepare(**case, device=device, dtype=DTYPES[dtype])
        self.device = device
        if MODE == "compiled":
            self.once()  # the first run compiles
        step = trimmed() if memory else 0
        self.once()
        peak = resident("VmHWM") if memory else 0
        self.memory = {"whole": peak - whole, "step": peak - step} if memory else None

    def once(self):
        if self.twin.before:
            self.twin.before()
        start = time.perf_counter()
        own = self.twin.run()
        if self.device != "cpu":
            torch.cuda.synchronize()
        return own if isinstance(own, float) else (time.perf_counter() - start) * 1000

    def times(self, seconds, least):
        """Return the milliseconds of at least `least` runs, and of as many as last `seconds`."""
        sample = self.once
        if self.device != "cpu" and not self.twin.waits and not self.twin.before:
            repeats = max(1, math.ceil(2 / max(event_time(self.twin.run, 1), 1e-3)))
            sample = lambda: event_time(self.twin.run, repeats)
        sample()  # not timed, because the other contenders have emptied the caches
        samples, begin = [], time.perf_counter()
        while len(samples) < least or time.perf_counter() - begin < seconds:
            samples.append(sample())
        return samples


print(json.dumps({"version": torch.__version__, "cases": {name: list(DTYPES) for name in CASES}}), flush=True)
prepared = None
for line in sys.stdin:
    request = json.loads(line)
    try:
        action = request.pop("action")
        if action == "prepare":
            prepared = Prepared(**request)
            answer = {"result": prepared.twin.result, "memory": prepared.memory}
        elif action == "time":
            answer = {"times": prepared.times(request["seconds"], request["least"])}
        else:
            prepared, answer = None, {}
            trimmed()
    except Exception as error:
        prepared = None
        answer = {"error": (str(error).strip() or type(error).__name__).splitlines()[0][:300]}
    print(json.dumps(answer), flush=True)
