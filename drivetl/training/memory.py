"""Out of memory: which batch size fits, and the command that continues with it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from drivetl import console
from drivetl.config import FinetuneConfig
from drivetl.data.dataset import TorchSample
from drivetl.data.sampling import Streams
from drivetl.errors import DrivetlError
from drivetl.models.build import forward_uint8
from drivetl.training.trainer import Trainer

SAYINGS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""What a RuntimeError says of memory that is not torch.OutOfMemoryError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device, or the CPU, has no memory left; one of a loader process does not
    count, as the model is elsewhere."""
    text = str(error)
    if "DataLoader worker" in text:
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in text for saying in SAYINGS)


@contextmanager
def memory_of_the_test() -> Iterator[None]:
    """Turn a range test that runs out of memory, before the run has a state to resume, into a DrivetlError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DrivetlError(
            "out of memory in the test of optim.lr find",
            remedy="lower optim.batch_size, with a larger optim.accumulate, and choose another --out",
        ) from None


Part = tuple[int, int]
"""(batch_size, accumulate)."""


def smaller_parts(batch_size: int, accumulate: int) -> list[Part]:
    """The parts with as many images per optimizer step and fewer at once, the most at once first."""
    images = batch_size * accumulate
    return [(size, images // size) for size in range(batch_size - 1, 0, -1) if images % size == 0]


def largest_that_fits(parts: Sequence[Part], fits: Callable[[int], bool]) -> Part | None:
    """The first of the parts whose batch size fits; None: none does."""
    return next((part for part in parts if fits(part[0])), None)


def out_of_memory(trainer: Trainer, reason: str) -> DrivetlError:
    """The error with the command that continues, for a trainer whose step or evaluation ran out of memory.

    Smaller batches of the images of that step are tried, with backward pass and optimizer step: the trainer's weights
    are those of the saved state no more.
    """
    config, step = trainer.config, f"step {trainer.step}"
    if trainer.evaluating:
        size = config.eval.batch_size
        remedy = smaller_images(config) if size == 1 else _continue(trainer, {"eval.batch_size": max(1, size // 2)})
        return DrivetlError(
            f"{step}: out of memory in the evaluation, eval.batch_size {size} ({reason})", remedy=remedy
        )
    size, accumulate = config.optim.batch_size, config.optim.accumulate
    samples = _samples_of_the_step(trainer)
    part = largest_that_fits(smaller_parts(size, accumulate), lambda count: fits(trainer, samples[:count]))
    remedy = smaller_images(config)
    if part is not None:
        flags = {"optim.batch_size": part[0], "optim.accumulate": part[1]}
        remedy = f"{part[0]} at once fit, {part[0] * part[1]} per step as before: {_continue(trainer, flags)}"
    return DrivetlError(f"{step}: out of memory with {size} images at once ({reason})", remedy=remedy)


def smaller_images(config: FinetuneConfig) -> str:
    """The remedy where no batch is small enough."""
    size = config.model.max_size
    return f"one image at once does not fit: lower model.max_size ({size}), or choose a smaller model.arch"


def _continue(trainer: Trainer, flags: dict[str, int]) -> str:
    """How to continue the run with other values of keys."""
    words = ["--resume", "--out", trainer.run, *(word for key, value in flags.items() for word in (f"--{key}", value))]
    command = console.command("finetune", *words)
    if trainer.group.world > 1:
        return "repeat your torchrun command with " + command.removeprefix("drivetl finetune ")
    return f"continue with: {command}"


def _samples_of_the_step(trainer: Trainer) -> list[TorchSample]:
    """The images of the step in progress with their targets, those that need most memory first."""
    data, batches = trainer.loader.dataset, trainer.batches
    assert isinstance(data, Streams)
    batches.epoch, batches.first = divmod(trainer.step, len(batches))
    samples = [data[item] for item in next(iter(batches))]
    return sorted(samples, key=lambda sample: (-sample[0].numel(), -len(sample[1]["boxes"])))


def fits(trainer: Trainer, samples: Sequence[TorchSample]) -> bool:
    """Whether a whole step on these images at once has enough memory; it changes weights and optimizer."""
    trainer.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
    images, targets = [image for image, _ in samples], [target for _, target in samples]
    bf16 = trainer.precision == torch.bfloat16
    try:
        with torch.autocast(trainer.device.type, dtype=torch.bfloat16, enabled=bf16):
            losses = forward_uint8(trainer.model, images, trainer.device, targets)
        torch.stack([value.float() for value in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        trainer.optimizer.step()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
