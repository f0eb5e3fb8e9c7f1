"""The PyTorch twin of each benchmark case: reads a request a line, answers with the milliseconds of each run.

Started by torch-peer.ts with the number of threads. A request names a function below, its arguments, the device and the
dtype; `seconds` is how long to measure. What is prepared for a request is kept for the next one with the same arguments.
On CUDA, events measure runs in a row, as bench/timing.ts does; a run that waits for results itself is marked so.
"""

import json
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
print(torch.__version__, flush=True)

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def waits(run):
    """Marks a run that reads results: it is timed by the wall clock."""
    run.waits = True
    return run


def gemm(m, k, n, layout, device, dtype):
    options = {"device": device, "dtype": dtype}
    a = torch.randn(k, m, **options).t() if layout == "tn" else torch.randn(m, k, **options)
    b = torch.randn(n, k, **options).t() if layout == "nt" else torch.randn(k, n, **options)
    out = torch.empty(m, n, **options)
    return lambda: torch.mm(a, b, out=out)


def attention(batch, heads, length, size, causal, backward, device, dtype):
    options = {"device": device, "dtype": dtype}
    q, k, v = (torch.randn(batch, heads, length, size, requires_grad=True, **options) for _ in range(3))
    grad = torch.ones(batch, heads, length, size, **options)

    def forward_only():
        with torch.no_grad():
            F.scaled_dot_product_attention(q, k, v, is_causal=bool(causal))

    def both():
        q.grad = k.grad = v.grad = None
        F.scaled_dot_product_attention(q, k, v, is_causal=bool(causal)).backward(grad)

    return both if backward else forward_only


def layer_norm(rows, width, **rest):
    device, dtype, which = rest["device"], rest["dtype"], rest["pass"]
    x, r = (torch.randn(rows, width, device=device, dtype=dtype) for _ in range(2))
    weight, bias = torch.ones(width, device=device, dtype=dtype), torch.zeros(width, device=device, dtype=dtype)
    if which == "backward":
        for tensor in (x, weight, bias):
            tensor.requires_grad = True

    def run():
        with torch.no_grad():
            F.layer_norm(x + r if which == "add + forward" else x, (width,), weight, bias)

    def training():
        x.grad = weight.grad = bias.grad = None
        F.layer_norm(x, (width,), weight, bias).sum().backward()

    return training if which == "backward" else run


def cross_entropy(rows, vocabulary, device, dtype):
    logits = torch.randn(rows, vocabulary, device=device, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, vocabulary, (rows,), device=device)

    def run():
        logits.grad = None
        F.cross_entropy(logits, targets).backward()

    return run


def adamw(layers, width, device, dtype):
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width), (width,)] * layers
    parameters = [torch.randn(*shape, device=device, requires_grad=True) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    return optimizer.step


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cache=None, position=0):
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).split(width, dim=2)
        q, k, v = (t.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for t in parts)
        if cache is not None:
            keys, values = cache
            keys[:, :, position : position + length] = k
            values[:, :, position : position + length] = v
            k, v = keys[:, :, : position + length], values[:, :, : position + length]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, layers, heads, width):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, ids, caches=None, position=0):
        length = ids.shape[1]
        x = self.tokens(ids) + self.positions.weight[position : position + length]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i], position)
        if caches is not None:
            x = x[:, -1:]
        return F.linear(self.norm(x), self.tokens.weight)


class LSTM(nn.Module):
    def __init__(self, vocabulary, layers, width):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.tokens.weight, 0, 0.1)
        self.rnn = nn.LSTM(width, width, layers, batch_first=True)

    def forward(self, ids):
        return F.linear(self.rnn(self.tokens(ids))[0], self.tokens.weight)


def training_step(batch, length, vocabulary, layers, heads, width, device, dtype):
    return step_of(GPT(vocabulary, length, layers, heads, width), batch, length, vocabulary, device, dtype)


def lstm_training_step(batch, length, vocabulary, layers, width, device, dtype):
    return step_of(LSTM(vocabulary, layers, width), batch, length, vocabulary, device, dtype)


def step_of(model, batch, length, vocabulary, device, dtype):
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids, targets = (torch.randint(0, vocabulary, (batch, length), device=device) for _ in range(2))

    def run():
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            logits = model(ids)
            loss = F.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return waits(run)


def decode(layers, heads, width, vocabulary, batch, prompt, count, device, dtype):
    context = max(1024, prompt + count)
    model = GPT(vocabulary, context, layers, heads, width).to(device, dtype).eval()
    options = {"device": device, "dtype": dtype}
    caches = [
        tuple(torch.zeros(batch, heads, context, width // heads, **options) for _ in range(2)) for _ in range(layers)
    ]
    start = torch.randint(0, vocabulary, (batch, prompt), device=device)

    def run():
        with torch.no_grad():
            ids = model(start, caches, 0).argmax(-1)
            for i in range(count - 1):
                ids.tolist()
                ids = model(ids, caches, prompt + i).argmax(-1)
            ids.tolist()

    return waits(run)


def wall_times(run, seconds):
    run()
    samples, begin = [], time.perf_counter()
    while len(samples) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        samples.append((time.perf_counter() - start) * 1000)
    return samples


def event_times(run, seconds):
    def sample(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / repeats

    sample(1)
    repeats = max(1, math.ceil(2 / max(sample(1), 1e-3)))
    sample(repeats)
    samples, begin = [], time.perf_counter()
    while len(samples) < 3 or time.perf_counter() - begin < seconds:
        samples.append(sample(repeats))
    return samples


prepared = {}
for line in sys.stdin:
    request = json.loads(line)
    seconds, name = request.pop("seconds"), request.pop("name")
    key = json.dumps([name, request])
    if key not in prepared:
        prepared.clear()
        request["dtype"] = DTYPES[request["dtype"]]
        prepared[key] = globals()[name](**request)
        prepared[key]()
    run = prepared[key]
    on_events = request["device"] != "cpu" and not getattr(run, "waits", False)
    print(json.dumps((event_times if on_events else wall_times)(run, seconds)), flush=True)
