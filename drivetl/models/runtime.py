"""Where and how a model runs: the device, compilation of the backbone, and memory kept between steps.

glibc maps every large tensor anew and unmaps it when it is freed, so that each step of a training on a CPU has the
kernel clear gigabytes of pages: 10 to 20 % of the step (`tools/benchmark.py training`).
"""

from __future__ import annotations

import ctypes
import os

import torch
from torch import nn

from drivetl.errors import ConfigError

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


def choose_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N`. Raises ConfigError when it is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"device {wanted!r} is unknown", remedy="use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {wanted!r} is not there ({torch.cuda.device_count()} GPUs found)", remedy="use auto or cpu"
        )
    return device


def keep_memory() -> bool:
    """Ask glibc to keep what is freed, for the whole process; whether it does.

    The process' peak stays what it is. A user's own MALLOC_* or GLIBC_TUNABLES, and other C libraries, are left alone.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc; Windows has no process-wide handle
        return False
    return all([mallopt(MMAP_MAX, 0), mallopt(TRIM_THRESHOLD, -1), mallopt(TOP_PAD, 64 << 20)])


def compile_backbone(model: nn.Module) -> str:
    """Compile the model's backbone in place (names of parameters stay), at its first use; what was done, in one line.

    Where this machine cannot compile (no C++ compiler, no Triton), the model is left as it is.
    """
    try:
        torch.compile(nn.ReLU())(torch.zeros(2))
    except Exception as error:  # inductor's failures share no base class: a missing compiler, header, or Triton
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"backbone not compiled: {reason} - install a C++ compiler, or leave runtime.compile false"
    model.get_submodule("backbone.body").compile(dynamic=True)
    return "backbone compiled by torch.compile at its first use, which takes a minute or more"
