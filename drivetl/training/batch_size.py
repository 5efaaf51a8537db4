"""`optim.batch_size: auto`: as many images at once as the device's memory holds, as many per step on every machine.

A step has STEP_IMAGES images over all processes, whatever fits: what does not go through the network at once is
accumulated. So the learning rate, the number of steps and BatchNorm (frozen below 16 images at once) do not depend on
the machine, and a GPU with little memory trains what one with much memory trains.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch

from drivetl.config import FinetuneConfig, with_values
from drivetl.data.dataset import DetectionDataset, TorchSample
from drivetl.data.sampling import Streams
from drivetl.errors import DrivetlError
from drivetl.models.anchors import resized
from drivetl.models.build import architecture
from drivetl.training.memory import Part, fits, largest_that_fits, smaller_images, smaller_parts
from drivetl.training.optimizer import SAME_RATE, set_trainable, trainable_stages
from drivetl.training.state import as_before
from drivetl.training.trainer import Trainer

STEP_IMAGES = SAME_RATE[1]
"""Images per optimizer step over all processes, times optim.accumulate: the most that the recipe's learning rates are
used for as they are."""
ON_A_CPU = 4
"""Images at once on a CPU at most, whose memory is seldom what limits a training."""
HEADROOM = 0.1
"""Share of a GPU's memory that a step leaves free: images of other shapes need other blocks."""


def candidates(config: FinetuneConfig, device: torch.device, world: int) -> list[Part]:
    """What may be chosen for `auto`, the most images at once first; a single one is not tried."""
    accumulate, share = config.optim.accumulate, max(1, STEP_IMAGES // world)
    if device.type == "cpu":
        at_once = min(ON_A_CPU, share)
        return [(at_once, accumulate * (share // at_once))]
    return [(share, accumulate), *smaller_parts(share, accumulate)]


def with_part(config: FinetuneConfig, part: Part) -> FinetuneConfig:
    """The config with these numbers."""
    return with_values(config, {"optim.batch_size": part[0], "optim.accumulate": part[1]})


def part_that_fits(trainer: Trainer, parts: Sequence[Part]) -> Part:
    """The first of the parts with which a whole step fits into the memory of every process, tried with the largest and
    with the most crowded images.

    trainer: before its first step; its weights and the random states are restored, its optimizer is not, so it is to be
    made anew. Raises DrivetlError when even one image at once does not fit.
    """
    config, model, group = trainer.config, trainer.model, trainer.group
    batches, least = hardest_batches(trainer, parts[0][0]), parts[-1][0]

    def fit_everywhere(count: int) -> bool:
        here = all(_fits(trainer, batch[:count], with_room=count > least) for batch in batches)
        return all(group.gather([here]))

    n_stages = len(architecture(config.model.arch).stages)
    with as_before(model, cuda=trainer.device.type == "cuda"):
        set_trainable(model, config.model.arch, trainable_stages(config.optim.epochs, n_stages, config.optim))
        part = largest_that_fits(parts, fit_everywhere)
        trainer.optimizer.zero_grad(set_to_none=True)
    if part is None:
        raise DrivetlError(
            f"optim.batch_size auto: out of memory on {trainer.device}", remedy=smaller_images(trainer.config)
        )
    return part


def hardest_batches(trainer: Trainer, count: int) -> list[list[TorchSample]]:
    """Batches of `count` images: those with the most objects, and the largest at network input, as they are and
    augmented (no augmentation adds objects, but a crop may be enlarged more than the image)."""
    data, m = trainer.loader.dataset, trainer.config.model
    assert isinstance(data, Streams)
    plain = Streams([_without_augmentation(part) for part in data.parts])
    images = [image for part in data.parts for image in part.images]
    pixels = [math.prod(resized(image.width, image.height, m.min_size, m.max_size)) for image in images]
    objects = [len(image.annotations) for image in images]
    batches = []
    for amounts, read in ((objects, plain), (pixels, plain), (pixels, data)):
        most = sorted(range(len(images)), key=amounts.__getitem__, reverse=True)[:count]
        samples = [read[0, index] for index in most]
        batches.append([samples[number % len(samples)] for number in range(count)])
    return batches


def _without_augmentation(data: DetectionDataset) -> DetectionDataset:
    plain = copy.copy(data)
    plain.augment = None
    return plain


def in_words(config: FinetuneConfig, parts: Sequence[Part], device: torch.device) -> str:
    """The choice with its reason."""
    size = config.optim.batch_size
    if device.type == "cpu":
        reason = "the default on a CPU, where memory is not the limit"
    elif len(parts) == 1:
        reason = f"its share of the {STEP_IMAGES} images of a step"
    else:
        tried = ", ".join(str(at_once) for at_once, _ in parts)
        reason = f"the most of {tried} that fit on {device}, tried with the largest and the most crowded images"
    return f"batch_size auto: {size} at once, {reason}"


def _fits(trainer: Trainer, samples: Sequence[TorchSample], *, with_room: bool) -> bool:
    """Whether a step fits, with_room: and leaves HEADROOM on a GPU."""
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(trainer.device)
    if not fits(trainer, samples):
        return False
    if not (with_room and on_gpu):
        return True
    free, total = torch.cuda.mem_get_info(trainer.device)
    others = total - free - torch.cuda.memory_reserved(trainer.device)
    return leaves_room(torch.cuda.max_memory_allocated(trainer.device), others, total)


def leaves_room(peak: int, others: int, total: int) -> bool:
    """Whether HEADROOM of a GPU's `total` bytes is left by this process at its peak and by other processes."""
    return peak + others <= (1 - HEADROOM) * total
