"""Pre-flight by trying it: some images through the loader and some steps of the model, within a time limit.

The weights are random: time and memory are those of the real ones, as the numbers of proposals and RoIs are fixed.
"""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from drivetl.console.text import byte_size, counted
from drivetl.data import augment
from drivetl.data.dataset import DetectionDataset, TorchSample, collate, loader_processes
from drivetl.errors import DrivetlError
from drivetl.models.build import architecture, build_model
from drivetl.models.gpu import choose_layout
from drivetl.training.batch_size import with_part
from drivetl.training.loop import Means, train_epoch
from drivetl.training.memory import Part, is_out_of_memory, smaller_images
from drivetl.training.optimizer import build_optimizer, set_trainable, trainable_stages
from drivetl.training.preflight_checks import Finding
from drivetl.training.preflight_plan import Planned

MOST_IMAGES = 16
LOAD_SHARE = 0.25
"""Share of the time limit for loading."""
TIMED_STEPS = 3
WAITING_SHARE = 0.3
"""Share of a training's time in which the model waits for images from which on it is a warning."""

LONG_S = 24 * 3600
"""A training of more seconds is a warning."""
FASTER = "a GPU or a faster one, a smaller --model.max_size, a smaller model.arch, or fewer --optim.epochs"


@dataclass(frozen=True)
class Speed:
    """What was measured. A step is one forward and backward pass of `optim.batch_size` images and the update."""

    load_s: float
    """Per image, in one process: reading, decoding, augmenting."""
    step_s: float
    peak_bytes: int
    """Of the process on a CPU, of the device on a GPU; with the most crowded images in the step."""
    whole: bool
    """Whether whole steps were timed; else one image was, and its time multiplied."""


def try_training(
    planned: Planned, device: torch.device, precision: torch.dtype, seconds: float, smaller: Sequence[Part] = ()
) -> list[Finding]:
    """Time loader and model; as soon as `seconds` are over, no further step is begun.

    smaller: what `optim.batch_size: auto` chooses among where the memory is too small for the plan; each has `seconds`
    of its own. Raises DataError for an image that cannot be read.
    """
    size = planned.config.optim.batch_size
    for part in ((size, planned.config.optim.accumulate), *smaller):
        planned = dataclasses.replace(planned, config=with_part(planned.config, part))
        try:
            speed = measure(planned, device, precision, seconds)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        except DrivetlError as error:
            return [Finding("step", "note", f"not measured: {error.reason}", error.remedy)]
        findings = check_speed(planned, speed, device, loader_processes(planned.config.data.workers, device))
        chosen = Finding("batch_size", "ok", f"auto: {part[0]} at once, {part[1]} times per step on {device}")
        return [chosen, *findings] if smaller else findings
    images = counted(planned.config.optim.batch_size, "image")
    value = f"a batch of {images} is too large for the memory of {device}"
    if size == 1 or smaller:
        return [Finding("step", "error", value, smaller_images(planned.config))]
    fix = f"--optim.batch_size {size // 2} --optim.accumulate {2 * planned.config.optim.accumulate}, or smaller images"
    return [Finding("step", "error", value, fix)]


def measure(planned: Planned, device: torch.device, precision: torch.dtype, seconds: float) -> Speed:
    """Load up to MOST_IMAGES images, the most crowded ones first, and train on them: on one, on a whole batch of the
    most crowded, and TIMED_STEPS times on a batch of the others."""
    config, size, began = planned.config, planned.config.optim.batch_size, time.monotonic()
    samples, load_s = _load(planned, LOAD_SHARE * seconds)
    model = build_model(planned.spec).to(device).train()
    arch = architecture(config.model.arch)
    if choose_layout(config.runtime.channels_last, device, precision, arch.depthwise)[0]:
        model = model.to(memory_format=torch.channels_last)
    set_trainable(model, config.model.arch, trainable_stages(config.optim.epochs, len(arch.stages), config.optim))
    optim = dataclasses.replace(config.optim, accumulate=1, lr=1e-9, l2sp=0.0)  # the weights stay usable
    optimizer = build_optimizer(model, config.model.arch, optim)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step_s(batch: list[TorchSample]) -> float:
        start = time.monotonic()
        train_epoch(
            model,
            [collate(batch)],
            optimizer,
            optim,
            first_step=0,
            total_steps=1,
            device=device,
            precision=precision,
            means=Means(),
        )
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.monotonic() - start

    def is_over(next_s: float) -> bool:
        return time.monotonic() - began + next_s > seconds

    one = step_s(samples[:1])
    if size > 1 and is_over(size * one):
        again = one if is_over(one) else step_s(samples[:1])  # the first step also allocates
        return Speed(load_s, size * min(one, again), _peak_bytes(device), whole=False)
    times = [step_s(_cycled(samples, 0, size))]
    for number in range(1, TIMED_STEPS + 1):
        if is_over(times[-1]):
            break
        times.append(step_s(_cycled(samples, number * size, size)))
    return Speed(load_s, float(np.median(times[1:] or times)), _peak_bytes(device), whole=True)


def _load(planned: Planned, seconds: float) -> tuple[list[TorchSample], float]:
    """The most crowded images of a batch, then others spread over the dataset, while time is left; and the mean time of
    one, without the first."""
    config, images = planned.config, planned.train.images
    preset = augment.with_scale_jitter(augment.load_preset(config.data.augment), config.data.scale_jitter)
    data = DetectionDataset(
        planned.train, with_masks=architecture(config.model.arch).masks, augment=augment.build(preset), seed=config.seed
    )
    crowded = sorted(range(len(images)), key=lambda index: -len(images[index].annotations))
    crowded = crowded[: min(config.optim.batch_size, MOST_IMAGES)]
    spread = np.linspace(0, len(images) - 1, MOST_IMAGES).round().astype(int).tolist()
    samples: list[TorchSample] = []
    times: list[float] = []
    began = time.monotonic()
    for index in [*crowded, *(index for index in dict.fromkeys(spread) if index not in crowded)]:
        if samples and (time.monotonic() - began > seconds or len(samples) >= MOST_IMAGES):
            break
        start = time.monotonic()
        samples.append(data[(0, index)])
        times.append(time.monotonic() - start)
    return samples, float(np.mean(times[1:] or times))


def _cycled(samples: list[TorchSample], first: int, count: int) -> list[TorchSample]:
    return [samples[(first + number) % len(samples)] for number in range(count)]


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KB on Linux


def check_speed(planned: Planned, speed: Speed, device: torch.device, workers: int) -> list[Finding]:
    """The loader against the model, the time of the whole training, and the memory of a step."""
    config, size = planned.config, planned.config.optim.batch_size
    model_rate, per_process = size / speed.step_s, 1 / speed.load_s
    cores = os.cpu_count() or 1
    loading_s = size * speed.load_s / max(1, min(workers, cores))
    waiting_s = loading_s if not workers else max(0.0, loading_s - speed.step_s)
    share = waiting_s / (speed.step_s + waiting_s)
    processes = counted(workers, "process") if workers else "the training process"
    value = f"the model takes {_rate(model_rate)}, the loader gives {_rate(size / loading_s)} from {processes}"
    fix = ""
    if share >= WAITING_SHARE:
        value += f": the model waits {share:.0%} of the time"
        needed = math.ceil(model_rate / per_process)
        fix = f"--data.workers {needed}" if needed <= cores else "smaller image files, or a cheaper --data.augment"
    total_s = planned.steps * config.optim.accumulate * (speed.step_s + waiting_s)
    about = "" if speed.whole else ", from the time of one image"
    steps = counted(planned.steps, "step")
    length = f"about {_duration(total_s)} on {device} for {steps}{about}; evaluations come on top"
    where = "the process" if device.type == "cpu" else str(device)
    step = f"{byte_size(speed.peak_bytes)} of memory in {where} at most, with the most crowded images"
    return [
        Finding("speed", "warning" if fix else "ok", value, fix),
        Finding("time", "warning", length, FASTER) if total_s > LONG_S else Finding("time", "ok", length),
        Finding("step", "ok", step if speed.whole else f"{step.partition(' at most')[0]} with one image"),
    ]


def _rate(images_per_s: float) -> str:
    return f"{images_per_s:.3g} images/s"


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2.5 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"
