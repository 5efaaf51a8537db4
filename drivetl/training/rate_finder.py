"""`optim.lr: find`: a learning rate range test before the training, on its own model, data and optimizer.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks": the rate grows exponentially from step to step, and
where the loss falls most steeply is a good peak rate. Weights and random states are restored afterwards: the training
is that of a config with the picked rate written in it, bit for bit.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from drivetl.data.sharing import Batch
from drivetl.draw import rate_curve
from drivetl.errors import DrivetlError
from drivetl.models.build import architecture
from drivetl.processes import wrap
from drivetl.training.loop import Means, NotFiniteLossError, train_epoch
from drivetl.training.optimizer import set_trainable, trainable_stages
from drivetl.training.rundir import write_json
from drivetl.training.state import as_before
from drivetl.training.trainer import Trainer, progress_line

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
"""The rates of the test: so many, evenly spaced in their logarithm."""
DIVERGED = 3.0
"""The test ends when the running mean of the loss is this many times its lowest value."""
SMOOTHING = 4.0
"""Standard deviation, in steps, of the Gaussian that smooths the losses; centred, so that the pick does not lag."""
CLIPPED = 1.5
"""A loss counts as this many times its level at the lowest rates at most: those of a diverging model, which may be a
thousand times as large, would hide the fall before them."""
STANDARD_ERRORS = 7.0
"""A loss that falls by less than so many standard errors of the smoothed loss is flat: noise alone, of which the lowest
of a hundred steps is taken, exceeds it in three of a hundred tests."""


@dataclass(frozen=True)
class Curve:
    """The result of a range test: (N,) rates, the loss of each step, and the smoothed losses."""

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    picked: float | None
    """Rate of the steepest fall, to two digits; None: the loss does not fall."""
    fall: float
    """By how much the smoothed loss falls."""
    error: float
    """Standard error of the smoothed loss."""


def range_test(loss_at: Callable[[float], float], rates: Sequence[float]) -> tuple[list[float], list[float]]:
    """(rates, losses) of one step at each rate, until the loss diverges or is not finite."""
    losses: list[float] = []
    mean = lowest = math.inf
    for number, rate in enumerate(rates):
        try:
            losses.append(loss_at(rate))
        except NotFiniteLossError:
            if not losses:
                raise
            break
        mean = losses[0] if number == 0 else 0.8 * mean + 0.2 * losses[-1]
        lowest = min(lowest, mean)
        if mean > DIVERGED * lowest:
            break
    return list(rates[: len(losses)]), losses


def curve_of(rates: Sequence[float], losses: Sequence[float]) -> Curve:
    """The smoothed losses and the rate of their steepest fall before their lowest value.

    The standard error of the smoothed loss is that of the single steps (from the differences of neighbours, which a
    trend hardly changes) over the number of steps that the Gaussian averages.
    """
    if len(losses) < 10:
        return Curve(list(rates), list(losses), list(losses), None, 0.0, math.nan)
    most = CLIPPED * float(np.median(losses[: max(5, len(losses) // 4)]))
    smooth = gaussian_filter1d(np.minimum(losses, most), SMOOTHING, mode="nearest")
    low = int(np.argmin(smooth))
    before = slice(0, low + 1)
    noise = float(np.median(np.abs(np.diff(losses[before])))) / (0.6745 * math.sqrt(2)) if low > 1 else math.inf
    error = noise / math.sqrt(2 * math.sqrt(math.pi) * SMOOTHING)
    fall = float(smooth[before].max() - smooth[low])
    picked = None
    if fall > STANDARD_ERRORS * error:
        slope = np.gradient(smooth[before], np.log(np.asarray(rates[before])))
        picked = float(f"{rates[int(np.argmin(slope))]:.2g}")
    return Curve(list(rates), list(losses), smooth.tolist(), picked, fall, error)


def find_rate(trainer: Trainer) -> float:
    """The rate of the steepest fall. Writes lr_find.png and lr_find.json into the run.

    trainer: before its first step, with any rate. Its weights and the random states are restored; its optimizer is
    not, so it is to be made anew. Raises DrivetlError when the loss does not fall.
    """
    rates = np.geomspace(LOWEST, HIGHEST, STEPS).tolist()
    with (
        as_before(trainer.model, cuda=trainer.device.type == "cuda"),
        progress_line(trainer, "learning rate range test", STEPS, 0) as advance,
    ):
        curve = curve_of(*range_test(_step_of(trainer, advance), rates))
    if trainer.group.leads:
        rate_curve.plot(curve.rates, curve.losses, curve.smooth, curve.picked, trainer.run / "lr_find.png")
        write_json(trainer.run / "lr_find.json", dataclasses.asdict(curve))
    if curve.picked is None:
        steps = f"{len(curve.rates)} steps from rate {LOWEST:g} to {curve.rates[-1]:.2g}"
        raise DrivetlError(
            f"optim.lr find: the loss does not fall in {steps} (by {curve.fall:.3g}, standard error {curve.error:.2g})",
            remedy=f"look at {trainer.run / 'lr_find.png'}; write a rate, or auto",
        )
    return curve.picked


def _step_of(trainer: Trainer, advance: Callable[[str], None]) -> Callable[[float], float]:
    """A function that makes one optimizer step at a rate, on the next batches, and returns its loss: the mean over
    all processes."""
    optim = trainer.config.optim
    n_stages = len(architecture(trainer.config.model.arch).stages)
    stages = trainable_stages(optim.heads_only_epochs, n_stages, optim)
    set_trainable(trainer.model, trainer.config.model.arch, stages)
    model, batches = wrap(trainer.model, trainer.group, trainer.device), _endless(trainer)

    def loss_at(rate: float) -> float:
        means = Means()
        train_epoch(
            model,
            itertools.islice(batches, optim.accumulate),
            trainer.optimizer,
            dataclasses.replace(optim, lr=rate, schedule="constant", warmup_fraction=0.0),
            first_step=0,
            total_steps=1,
            device=trainer.device,
            precision=trainer.precision,
            l2sp_start=trainer.l2sp_start,
            means=means,
        )
        losses = trainer.group.gather([means.means()["loss"]])
        loss = math.fsum(losses) / len(losses)
        advance(f"rate {rate:.1e}  loss {loss:.3f}")
        return loss

    return loss_at


def _endless(trainer: Trainer) -> Iterator[Batch]:
    """The training's batches, epoch after epoch."""
    for epoch in itertools.count():
        trainer.batches.epoch, trainer.batches.first = epoch, 0
        yield from trainer.loader
