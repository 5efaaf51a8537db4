"""Settings that make a GPU faster, each with the reason for it; a CPU is left as it is.

They change rounding, or what the RPN's background is sampled from (padding), so a training on a GPU differs from one on
a CPU in its numbers, as it does in any case.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import combinations

import torch

from drivetl.models.anchors import resized

Shape = tuple[int, int]
"""(height, width) px."""
Choice = tuple[bool, str]
"""(the setting, the reason)."""

MOST_SHAPES = 3
"""Input shapes of a training for which kernels are chosen, and graphs compiled, once each."""
MOST_PADDING = 0.15
"""Share of pixels that padding to fixed shapes may add where nothing is compiled."""
CANDIDATES = 24
"""The most frequent shapes, among which the fixed ones are searched."""


def choose_layout(setting: str, device: torch.device, precision: torch.dtype, depthwise: bool) -> Choice:
    """Whether convolutions are channels_last, for `auto`, `on`, `off`."""
    if setting != "auto":
        return setting == "on", "as configured"
    if precision == torch.bfloat16:
        return True, "bf16 convolutions are fastest in it"
    if device.type == "cpu" and depthwise:
        return True, "depthwise convolutions are fastest in it on a CPU"
    return False, "fp32 convolutions gain nothing from it"


def choose_fused(device: torch.device) -> Choice:
    """Whether one kernel updates all weights."""
    return (True, "one kernel for all weights") if device.type == "cuda" else (False, "the device is not a GPU")


def choose_tf32(device: torch.device, precision: torch.dtype) -> Choice:
    """Whether matrix products that autocast leaves in fp32 are computed in TF32."""
    if device.type != "cuda":
        return False, "the device is not a GPU"
    if precision == torch.bfloat16:
        return True, "what autocast leaves in fp32 needs no more digits than bf16 has"
    return False, "fp32 is configured, or all that the GPU has"


def choose_cudnn_benchmark(device: torch.device, shapes: tuple[Shape, ...]) -> Choice:
    """Whether cuDNN tries its kernels for every new input shape."""
    if device.type != "cuda":
        return False, "the device is not a GPU"
    if not shapes:
        return False, "input shapes vary, and every new one would be tried"
    return True, f"{len(shapes)} input shape{'s' * (len(shapes) > 1)}, tried once each"


def input_shapes(sizes_wh: Iterable[tuple[int, int]], min_size: int, max_size: int, multiple: int = 32) -> list[Shape]:
    """The padded shape at network input of every image of (width, height) px, before augmentation."""
    return [
        (math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple)
        for width, height in (resized(*size, min_size, max_size) for size in sizes_wh)
    ]


def fixed_shapes(shapes: list[Shape], most: int = MOST_SHAPES) -> tuple[tuple[Shape, ...], float]:
    """(at most `most` shapes, the share of pixels they add) to pad images of these shapes to, smallest first.

    The largest height with the largest width is one of them, so that every batch has a shape; the others are those that
    pad least when every image is padded to the smallest shape it fits into.
    """
    counts = Counter(shapes)
    largest = max(height for height, _ in counts), max(width for _, width in counts)
    common = [shape for shape, _ in counts.most_common(CANDIDATES) if shape != largest]
    own = sum(count * height * width for (height, width), count in counts.items())

    def padded(chosen: tuple[Shape, ...]) -> int:
        return sum(count * math.prod(smallest_fit(shape, chosen) or largest) for shape, count in counts.items())

    options = [(*extra, largest) for n in range(most) for extra in combinations(common, n)]
    best = min(options, key=lambda chosen: (padded(chosen), len(chosen), chosen))
    return tuple(sorted(best, key=math.prod)), padded(best) / own - 1


def smallest_fit(shape: Shape, shapes: Iterable[Shape]) -> Shape | None:
    """The smallest of `shapes` that holds `shape`."""
    fits = [other for other in shapes if other[0] >= shape[0] and other[1] >= shape[1]]
    return min(fits, key=lambda other: (math.prod(other), other)) if fits else None


def choose_shapes(shapes: list[Shape], device: torch.device, compiles: bool) -> tuple[tuple[Shape, ...], str]:
    """(shapes that training batches are padded to, the reason); none on a CPU that does not compile, where
    torchvision's own padding is kept."""
    if device.type != "cuda" and not compiles:
        return (), "torchvision's padding: nothing depends on the shape"
    chosen, added = fixed_shapes(shapes)
    if added > MOST_PADDING and not compiles:
        return (), f"torchvision's padding: {len(chosen)} fixed shapes would add {added:.0%} of the pixels"
    names = ", ".join(f"{height}x{width}" for height, width in chosen)
    what = "graphs" if compiles else "kernels"
    return chosen, f"batches are padded to {names} ({added:.1%} more pixels), for {what} that are chosen once"


def apply_settings(device: torch.device, precision: torch.dtype, shapes: tuple[Shape, ...]) -> list[str]:
    """Set PyTorch's switches for the whole process where the device is a GPU; a line for each."""
    if device.type != "cuda":
        return []
    choices = {
        "TF32": choose_tf32(device, precision),
        "cudnn.benchmark": choose_cudnn_benchmark(device, shapes),
        "fused optimizer": choose_fused(device),
    }
    torch.set_float32_matmul_precision("high" if choices["TF32"][0] else "highest")
    torch.backends.cudnn.benchmark = choices["cudnn.benchmark"][0]
    return [f"{name} {'on' if on else 'off'}: {reason}" for name, (on, reason) in choices.items()]
