"""Where and how a model runs: the device, what is read from it, and memory kept between steps.

glibc maps memory for every large tensor and unmaps it when the tensor is freed. In every step of a training on a CPU
the kernel then clears gigabytes of pages, which takes 10 to 20 % of the step (`tools/benchmark.py training`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from drivetl.errors import ConfigError

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N`. Raises ConfigError when this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is unknown", remedy="use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not available ({torch.cuda.device_count()} GPUs found)", remedy="use auto or cpu"
        )
    return device


def read_later(values: Tensor) -> Callable[[], list[float]]:
    """Begin copying (N,) values to the host; returns a function that returns them.

    On a GPU the function waits for the work that was queued before this call, not for what is queued between the two,
    so that the device stays busy.
    """
    if values.device.type != "cuda":
        return values.tolist
    copied = values.to("cpu", non_blocking=True)  # into pinned memory
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def read() -> list[float]:
        done.synchronize()
        numbers: list[float] = copied.tolist()
        return numbers

    return read


CGROUP = Path("/sys/fs/cgroup")
"""Limits of the container, version 2 of the kernel's interface."""


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still allocate on a device: free memory of the GPU, or available memory of the
    machine within the container's limit. None where it is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        text = Path("/proc/meminfo").read_text()
        available = 1024 * int(next(line for line in text.splitlines() if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration, ValueError, IndexError):  # not Linux
        return None
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or `max`: no limit
        return available
    return min(available, max(0, limit - used))


def keep_memory() -> bool:
    """Make glibc keep freed memory, for the whole process. Returns whether it does.

    The peak memory of the process is unchanged. Nothing is done where the user sets MALLOC_* or GLIBC_TUNABLES, or with
    another C library.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc; Windows has no process-wide handle
        return False
    return all([mallopt(MMAP_MAX, 0), mallopt(TRIM_THRESHOLD, -1), mallopt(TOP_PAD, 64 << 20)])
