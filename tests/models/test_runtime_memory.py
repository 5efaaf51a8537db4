"""Memory kept between steps is reused without page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from drivetl.models.runtime import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.zeros(8 << 20).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_memory() if sys.argv[1] == "keep" else False
torch.zeros(8 << 20)
print(int(kept), faults())
"""


def run(mode: str, **environment: str) -> tuple[bool, int]:
    completed = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True, env=environment
    )
    kept, faults = completed.stdout.split()
    return kept == "1", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    kept, faults = run("keep")
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < run("as it is")[1] / 4


def test_the_users_own_settings_are_respected() -> None:
    assert not run("keep", MALLOC_ARENA_MAX="2")[0]
