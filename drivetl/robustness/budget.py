"""A time budget in words."""

from __future__ import annotations

import math


def budget_text(seconds: float) -> str:
    """A time rounded up, as `--budget` takes it: `50s`, `7m`, `3h`."""
    if seconds <= 120:
        return f"{max(1, math.ceil(seconds / 10)) * 10}s"
    return f"{math.ceil(seconds / 60)}m" if seconds <= 7200 else f"{math.ceil(seconds / 3600)}h"
