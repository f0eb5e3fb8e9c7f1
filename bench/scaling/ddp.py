"""The training of measure.mjs in PyTorch: GPT-2's blocks with AdamW, DistributedDataParallel over gloo.

mpirun -np N python3 bench/scaling/ddp.py SECONDS WIDTH LAYERS BATCH; the first process writes a line of JSON. Debian's
PyTorch lacks libuv, without which torchrun does not start processes on one machine.
"""

import json
import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn

seconds, width, layers, batch = float(sys.argv[1]), *map(int, sys.argv[2:5])
T, V = 128, 256
torch.set_num_threads(1)
torch.manual_seed(1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = width // 32
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        B = x.shape[0]
        q, k, v = self.attn(self.ln_1(x)).view(B, T, 3, self.heads, 32).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, width))
        return x + self.out(nn.functional.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, width), nn.Embedding(T, width)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe.weight
        for block in self.blocks:
            x = block(x)
        logits = self.ln_f(x) @ self.wte.weight.T
        return nn.functional.cross_entropy(logits.view(-1, V), targets.view(-1))


# Open MPI and MPICH name them differently.
size = int(os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE") or "1")
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or "0")
model = GPT()
parameters = sum(p.numel() for p in model.parameters())
if size > 1:
    store = dist.TCPStore("127.0.0.1", 29500, size, rank == 0, use_libuv=False)
    dist.init_process_group("gloo", store=store, world_size=size, rank=rank)
    model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
data = torch.tensor([(i * i + (i >> 3)) % 251 for i in range(100_000)])
generator = torch.Generator().manual_seed(rank)
steps, tokens, begun, start = 0, 0, 0.0, time.perf_counter()
while True:
    at = torch.randint(0, len(data) - T - 1, (batch,), generator=generator)
    ids = torch.stack([data[i : i + T] for i in at])
    targets = torch.stack([data[i + 1 : i + T + 1] for i in at])
    optimizer.zero_grad(set_to_none=True)
    model(ids, targets).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    steps += 1
    if steps == 3:
        begun = time.perf_counter()
    elif steps > 3:
        tokens += size * batch * T
    over = torch.tensor([1.0 if time.perf_counter() - start > seconds else 0.0])
    if size > 1:
        dist.broadcast(over, 0)
    if over.item() > 0:
        break
speed = tokens / (time.perf_counter() - begun)
if rank == 0:
    print(json.dumps({"size": size, "version": torch.__version__, "result": {"tokensPerSecond": speed, "parameters": parameters}}))
if size > 1:
    dist.destroy_process_group()
