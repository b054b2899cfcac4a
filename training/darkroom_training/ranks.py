"""Data-parallel training on one machine: one process a rank, averaged gradients."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def launch(worker: Callable[..., None], *, rank_count: int, args: tuple[object, ...]) -> None:
    """Runs `worker(rank, rank_count, *args)` in each of `rank_count` one-thread processes.

    On two busy cores one-thread ranks beat two threads that spin at barriers.
    """
    if rank_count == 1:
        worker(0, 1, *args)
        return
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ["MASTER_PORT"] = str(_free_port())
    os.environ["OMP_NUM_THREADS"] = "1"
    mp.spawn(_enter, args=(rank_count, worker, args), nprocs=rank_count)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _enter(
    rank: int, rank_count: int, worker: Callable[..., None], args: tuple[object, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=rank_count)
    try:
        worker(rank, rank_count, *args)
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[torch.nn.Parameter], rank_count: int) -> None:
    """Replaces every gradient by its mean over the ranks, in one exchange."""
    if rank_count == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= rank_count
    offset = 0
    for grad in grads:
        grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
        offset += grad.numel()
