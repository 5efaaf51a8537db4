"""Several processes or machines at one sweep, started by torchrun: who takes which images, and waiting for all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist


@dataclass(frozen=True)
class Shards:
    """This process among its peers; alone when torchrun did not start it."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def reports(self) -> bool:
        """Whether this process writes the report."""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """`auto` and `cuda` become this process's own GPU where there is one for each."""
        import torch

        alone = self.world == 1 or wanted not in ("auto", "cuda") or not torch.cuda.is_available()
        return wanted if alone else f"cuda:{self.local_rank % torch.cuda.device_count()}"


def join() -> tuple[Shards, Callable[[], None]]:
    """This process's place as torchrun says it, and a function that returns when all have called it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Shards(), lambda: None
    # shards may end days apart; nothing but this barrier is ever exchanged
    dist.init_process_group("gloo", timeout=timedelta(days=30))

    def wait() -> None:
        dist.barrier()
        dist.destroy_process_group()

    return Shards(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0"))), wait
