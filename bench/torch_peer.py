"""The PyTorch twin of each benchmark case: reads a request a line, answers with the milliseconds of each run.

Started by torch-peer.ts with the number of threads. A request names a function below and its arguments; `seconds` is
how long to measure. What is prepared for a request is kept for the next one with the same arguments.
"""

import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
print(torch.__version__, flush=True)


def gemm(m, k, n, layout):
    a = torch.randn(k, m).t() if layout == "tn" else torch.randn(m, k)
    b = torch.randn(n, k).t() if layout == "nt" else torch.randn(k, n)
    out = torch.empty(m, n)
    return lambda: torch.mm(a, b, out=out)


def attention(batch, heads, length, size, backward):
    q, k, v = (torch.randn(batch, heads, length, size, requires_grad=True) for _ in range(3))
    grad = torch.ones(batch, heads, length, size)

    def forward_only():
        with torch.no_grad():
            F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def both():
        q.grad = k.grad = v.grad = None
        F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(grad)

    return both if backward else forward_only


def layer_norm(rows, width, residual):
    x, r = torch.randn(rows, width), torch.randn(rows, width)
    weight, bias = torch.ones(width), torch.zeros(width)

    def run():
        with torch.no_grad():
            F.layer_norm(x + r if residual else x, (width,), weight, bias)

    return run


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


def training_step(batch, length, vocabulary, layers, heads, width):
    model = GPT(vocabulary, length, layers, heads, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids, targets = (torch.randint(0, vocabulary, (batch, length)) for _ in range(2))

    def run():
        logits = model(ids)
        loss = F.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return run


def decode(layers, heads, width, vocabulary, prompt, count):
    model = GPT(vocabulary, 1024, layers, heads, width).eval()
    caches = [
        tuple(torch.zeros(1, heads, 1024, width // heads) for _ in range(2)) for _ in range(layers)
    ]
    with torch.no_grad():
        first = model(torch.randint(0, vocabulary, (1, prompt)), caches, 0).argmax(-1)

    def run():
        ids = first
        with torch.no_grad():
            for i in range(count):
                ids = model(ids, caches, prompt + i).argmax(-1)
                ids.item()

    return run


prepared = {}
for line in sys.stdin:
    request = json.loads(line)
    seconds, name = request.pop("seconds"), request.pop("name")
    key = json.dumps([name, request])
    if key not in prepared:
        prepared.clear()
        prepared[key] = globals()[name](**request)
        prepared[key]()
    run = prepared[key]
    run()
    samples, begin = [], time.perf_counter()
    while len(samples) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        samples.append((time.perf_counter() - start) * 1000)
    print(json.dumps(samples), flush=True)
