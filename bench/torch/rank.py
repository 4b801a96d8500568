"""One rank of PyTorch's process groups: votes as vLLM's `has_unfinished_dp` makes them, timed. Rank 0 prints JSON."""
import json
import os
import time

import torch
import torch.distributed as dist

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
iterations, backend = int(os.environ["ITERATIONS"]), os.environ["BACKEND"]
warm_up = 200
device = torch.device("cpu")
if backend == "nccl":
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
torch.set_num_threads(1)
dist.init_process_group(backend, rank=rank, world_size=size)
micros = []
for i in range(warm_up + iterations):
    begin = time.perf_counter()
    tensor = torch.tensor([i % size == rank], dtype=torch.int32, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    vote = bool(tensor.item())
    took = time.perf_counter() - begin
    assert vote
    if i >= warm_up:
        micros.append(took * 1e6)
micros.sort()
if rank == 0:
    print(json.dumps({"p50": micros[len(micros) // 2], "p99": micros[int(len(micros) * 0.99)]}))
dist.destroy_process_group()
