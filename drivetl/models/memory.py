"""Freed memory kept for the next step instead of given back to the system.

glibc maps every large tensor anew and unmaps it when it is freed, so that each step of a training on a CPU has the
kernel clear gigabytes of pages: 10 to 20 % of the step (`tools/benchmark.py training`).
"""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


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
