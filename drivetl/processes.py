"""One process or several, from torchrun's environment: the processes of a training, and the shards of a sweep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Group:
    """This process's rank, and the number of processes."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """`auto` and `cuda` become this process's own GPU where there is more than one process."""
        shared = self.world > 1 and name in ("auto", "cuda") and torch.cuda.is_available()
        return f"cuda:{self.local_rank % torch.cuda.device_count()}" if shared else name

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes, in rank order, on every process."""
        if self.world == 1:
            return items
        parts: list[list[Any]] = [[] for _ in range(self.world)]
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def process_group() -> Iterator[Group]:
    """The group that torchrun started (WORLD_SIZE in the environment), or a group of one; within another such block the
    group of that."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if dist.is_initialized():
        yield Group(dist.get_rank(), world, local)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    _join("nccl" if torch.cuda.is_available() else "gloo", world)
    try:
        yield Group(dist.get_rank(), world, local)
    finally:
        dist.destroy_process_group()


def _join(backend: str, world: int) -> None:
    """Meet the other processes.

    torchrun keeps its store when it starts the processes of a machine anew (`--max-restarts`), with the addresses of
    the dead ones; so those of each start have keys of their own. Over several machines the count of restarts may
    differ: there TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives each start a new store, see docs/distributed.md.
    """
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restarts == "0" or os.environ.get("LOCAL_WORLD_SIZE") != str(world):
        dist.init_process_group(backend)
        return
    store, rank, _ = next(rendezvous("env://"))
    own = dist.PrefixStore(f"start {restarts}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=own, rank=rank, world_size=world)


def wrap(model: nn.Module, group: Group, device: torch.device) -> nn.Module:
    """The model itself, or one that averages gradients over the group."""
    if group.world == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def join_sweep() -> tuple[Group, Callable[[], None]]:
    """This process's rank in a sweep that torchrun started, and a function that returns once every process has called
    it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Group(), lambda: None
    # shards may finish days apart; this barrier is their only communication
    dist.init_process_group("gloo", timeout=timedelta(days=30))

    def wait() -> None:
        dist.barrier()
        dist.destroy_process_group()

    return Group(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0"))), wait
