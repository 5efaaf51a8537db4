"""The trainer: everything that changes during a training, and how it is saved and resumed."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

import drivetl.training.capture as captures
from drivetl import console
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig, OptimConfig
from drivetl.console.text import counted
from drivetl.data.sampling import EpochBatches, Streams
from drivetl.data.sharing import Batch
from drivetl.draw import training_curves
from drivetl.errors import ConfigError
from drivetl.files.runs import BEST_DETECTIONS, STATE
from drivetl.metrics.match_store import match
from drivetl.metrics.results import save_results
from drivetl.models.build import ModelSpec, architecture
from drivetl.models.checkpoint import save_model
from drivetl.models.compiled import Compiled
from drivetl.models.weights import portable_state
from drivetl.processes import Group, wrap
from drivetl.training import skipped
from drivetl.training.board import Boards
from drivetl.training.ema import Average, SourceBlend, evaluated_weights
from drivetl.training.interrupts import Held, InterruptedWorkError, held_signals
from drivetl.training.loop import Means, NotFiniteLossError, train_epoch
from drivetl.training.optimizer import learning_rate, set_trainable, trainable_stages
from drivetl.training.pace import Pace
from drivetl.training.rundir import MetricsLog
from drivetl.training.state import is_finite, load_state, save_state
from drivetl.training.transfer import on_device
from drivetl.training.validate import headline, validate

SAVE_EVERY_S = 300.0
"""A killed training loses at most this much work."""
CURVES_EVERY_S = 60.0
"""curves.png is drawn anew after an evaluation when it is older than this, and at the end."""
CURVES = "curves.png"

SOURCE_DETECTIONS = "eval/source.npz"
"""Detections on the validation images before the first step."""
KEPT_DETECTIONS = "eval/step_{step:07d}.npz"
"""Detections of the evaluation after that many steps, where `eval.keep_detections` is set."""

Batches = DataLoader[tuple[Tensor, dict[str, Tensor]]]
Advance = Callable[[str], None]
"""Called after every unit of work with a short note for the progress line."""


@dataclass
class Trainer:
    """One training: its state, its data, and where it is written."""

    config: FinetuneConfig
    spec: ModelSpec
    relation: dict[str, dict[str, float]]
    model: nn.Module
    optimizer: Optimizer
    average: Average | None
    l2sp_start: dict[str, Tensor] | None
    """The starting weights that L2-SP pulls towards."""
    blend: SourceBlend | None
    """The share of the starting weights in those that are evaluated and saved."""
    device: torch.device
    precision: torch.dtype
    group: Group
    run: Path
    log: MetricsLog
    batches: EpochBatches
    loader: Batches
    val_loader: Batches
    val: Dataset
    step: int = 0
    rollbacks: list[dict[str, int]] = field(default_factory=list)
    """Of each return to a saved state the step that failed and the step returned to."""
    best: dict[str, Any] | None = None
    means: Means = field(default_factory=Means)
    """Of the losses since the last row of the metrics."""
    saved_at: float = field(default_factory=time.monotonic)
    boards: Boards = field(default_factory=Boards)
    skip_reasons: dict[str, str] = field(default_factory=dict)
    evaluating: bool = False
    compiled: Compiled | None = None
    pace: Pace = field(default_factory=Pace)
    """Of the present epoch."""
    drawn_at: float = field(default_factory=time.monotonic)

    @property
    def state_path(self) -> Path:
        """The file a training resumes from."""
        return self.run / STATE

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.config.optim.epochs * len(self.batches)

    @property
    def optim(self) -> OptimConfig:
        """The config's, with the learning rate of the current step: half of it after every rollback."""
        return dataclasses.replace(self.config.optim, lr=self.config.optim.lr * 0.5 ** len(self.rollbacks))

    def resume(self) -> None:
        """Continue from the last saved state."""
        self._return_to_saved()
        if self.group.leads:
            console.say(f"resumed at step {self.step} of {self.total_steps}")

    def _return_to_saved(self) -> None:
        """Return to the last saved state; later rows of metrics.jsonl are dropped."""
        progress = load_state(self.state_path, self.model, self.optimizer, self.average)
        world = progress.get("world", self.group.world)
        if world != self.group.world:
            raise ConfigError(
                f"began with {world} processes, now {self.group.world}: its steps would differ",
                remedy=f"resume with {world}, or start another --out",
                file=self.run,
            )
        self.step, self.best, self.rollbacks = int(progress["step"]), progress["best"], progress.get("rollbacks", [])
        self.means = Means(dict(progress["sums"]), int(progress["steps"]))
        # a row of the evaluation that is still to be made was written after this state
        first = self.best is None
        self.log = MetricsLog(self.log.path, resumed_step=self.step - (self._between_epochs or first))

    @property
    def _between_epochs(self) -> bool:
        """Whether the last step of an epoch is done, and the evaluation that may follow it is not."""
        return self.means.steps > 0 and self.step % len(self.batches) == 0

    def save(self) -> None:
        """Write everything needed to resume from here, as one atomic file. Weights that are not finite are not saved:
        the last good state is what a training returns to."""
        self.saved_at = time.monotonic()
        if self.group.leads and is_finite(self.model):
            progress = {
                "step": self.step,
                "world": self.group.world,
                "best": self.best,
                "sums": self.means.sums,
                "steps": self.means.steps,
                "rollbacks": self.rollbacks,
            }
            save_state(self.state_path, self.model, self.optimizer, self.average, progress)

    def train(self, evaluate_start: bool) -> None:
        """All epochs from the current step on. `evaluate_start`: first evaluate the start, as row 0 of the metrics.

        Raises NotFiniteLossError when a loss is not finite once more after `optim.rollbacks` returns to the last state.
        """
        if self.step == 0 and not self.log.rows and evaluate_start:
            self.evaluate(0, 0.0)
            self.save()
        while True:
            try:
                self._remaining_epochs()
                break
            except NotFiniteLossError as error:
                self._roll_back(error)
        if self.group.leads:
            with evaluated_weights(self.model, self.average, self.blend):
                self._save_checkpoint("last")
            self.draw_curves()
            self.boards.image("curves", (self.run / CURVES).read_bytes(), self.step)

    def _remaining_epochs(self) -> None:
        epochs, per_epoch = self.config.optim.epochs, len(self.batches)
        first_epoch = self.step // per_epoch
        with progress_line(self, "training", self.total_steps, self.step) as advance:
            if self._between_epochs:
                self._end_epoch(self.step // per_epoch, 0.0)
            for epoch in range(first_epoch, epochs):
                if self._stops_early(epoch):
                    break
                epoch_start = time.monotonic()
                self.one_epoch(epoch, advance)
                if self.group.leads and epoch == first_epoch and self.pace.images:
                    console.say(self.pace.in_words(self.loader.num_workers))
                self._end_epoch(epoch + 1, time.monotonic() - epoch_start)

    def _roll_back(self, error: NotFiniteLossError) -> None:
        """Capture the batch, and return to the last saved state with half the learning rate. Raises the error when
        that was done `optim.rollbacks` times already."""
        captured = self._capture(error) if error.is_here else None
        if len(self.rollbacks) >= self.config.optim.rollbacks:
            if captured is not None:
                error.remedy += f"; it is captured in {captured}"
            raise error
        if captured is not None:
            console.warn(f"{error.reason}; captured in {captured}")
        self._return_to_saved()
        self.rollbacks = [*self.rollbacks, {"failed": error.step, "to": self.step}]
        self.group.barrier()  # every process has read the state
        self.save()
        if self.group.leads:
            number, most = len(self.rollbacks), self.config.optim.rollbacks
            console.warn(f"back to step {self.step}, learning rate x {0.5**number:g} (rollback {number} of {most})")

    def remarks(self) -> list[str]:
        """What the user should know about this training at its end."""
        remarks = skipped.in_words(self.run / skipped.FILE)
        if not self.rollbacks:
            return remarks
        steps = ", ".join(str(back["failed"]) for back in self.rollbacks)
        count = f"{len(self.rollbacks)} times" if len(self.rollbacks) > 1 else "once"
        return [
            *remarks,
            f"rolled back {count}, as a loss was not finite (step {steps}): the learning rate ended at"
            f" {0.5 ** len(self.rollbacks):g} of its schedule, the batches are in {captures.FOLDER}/",
        ]

    def _capture(self, error: NotFiniteLossError) -> Path:
        """Write the batch whose loss is not finite. Returns the folder."""
        rank = f"_rank_{self.group.rank}" if self.group.world > 1 else ""
        folder = self.run / captures.FOLDER / f"step_{error.step:07d}_{len(self.rollbacks)}{rank}"
        targets = error.batch[1]
        facts = {
            "step": error.step,
            "losses": error.losses,
            "image_ids": [int(target["image_id"]) for target in targets],
            "streams": [int(target.get("stream", 0)) for target in targets],
            "weights_are_finite": is_finite(self.model),
            "rollbacks": len(self.rollbacks),
        }
        captures.write_capture(folder, self.model, self.spec, error.batch, error.random, self.precision, facts)
        return folder

    def _end_epoch(self, epochs_done: int, seconds: float) -> None:
        """Evaluate where it is due, and save. A signal ends the evaluation; the state from which it is made anew is
        saved."""
        with self._signals() as held:
            try:
                if epochs_done % self.config.eval.every == 0 or epochs_done == self.config.optim.epochs:
                    self.evaluate(epochs_done, seconds, held)
                    self.means = Means()
            except InterruptedWorkError:
                pass
            self.save()
            if held.number is not None:
                self._say_saved()

    def _signals(self) -> AbstractContextManager[Held]:
        """Hold signals back. Of several processes each ends at once: they may be in different steps, and none can
        finish a step alone."""
        return held_signals() if self.group.world == 1 else nullcontext(Held({}))

    def _say_saved(self) -> None:
        console.say(f"saved at step {self.step} of {self.total_steps}")

    def _stops_early(self, epochs_done: int) -> bool:
        """Whether the metric has not improved in the last `eval.stop_after` evaluations; says so. It follows from the
        rows of the metrics, so a resumed run knows it too."""
        patience, metric, best = self.config.eval.stop_after, self.config.eval.metric, self.best
        without = 0
        if best is not None:
            without = sum(row["step"] > best["step"] and row[metric] is not None for row in self.log.rows)
        stops = 0 < patience <= without
        if stops and best is not None:
            at = f"at epoch {best['epoch']}" if best["epoch"] else "before training"
            console.say(
                f"stopped early, after epoch {epochs_done} of {self.config.optim.epochs}: {metric} has not improved in"
                f" {counted(without, 'evaluation')}, best {best[metric]:.3f} {at}"
            )
        return any(self.group.gather([stops]))

    def _save_checkpoint(self, name: str) -> None:
        save_model(self.run / "checkpoints" / name, portable_state(self.model), self.spec, self.relation)

    def draw_curves(self) -> None:
        """Write curves.png: losses, learning rate of the heads and AP against steps."""
        self.drawn_at, total = time.monotonic(), self.total_steps
        steps = sorted({round(step) for step in np.linspace(0, total - 1, 400)})
        halved = [sum(back["to"] <= step for back in self.rollbacks) for step in steps]
        rate = [
            0.5**times * learning_rate(step, total, self.config.optim)
            for step, times in zip(steps, halved, strict=True)
        ]
        training_curves.plot(self.log.rows, (steps, rate), self.run / CURVES)

    def one_epoch(self, epoch: int, advance: Advance) -> None:
        """The rest of one epoch from the current step. A signal ends it after the step in progress, whose state is
        saved."""
        n_stages = len(architecture(self.config.model.arch).stages)
        set_trainable(self.model, self.config.model.arch, trainable_stages(epoch, n_stages, self.config.optim))
        self.batches.epoch, self.batches.first = epoch, self.step - epoch * len(self.batches)

        def after_step(step: int, losses: dict[str, float]) -> None:
            self.step = step + 1
            self._seed_step()
            if self.compiled is not None and (made := self.compiled.check()) and self.group.leads:
                console.say(made)
            self.boards.step(self.step, losses, learning_rate(step, self.total_steps, self.optim))
            advance(f"epoch {epoch + 1}/{self.config.optim.epochs}  loss {losses['loss']:.3f}")
            if held.number is not None or time.monotonic() - self.saved_at > SAVE_EVERY_S:
                self.save()
            if held.number is not None:
                self._say_saved()
                held.deliver()

        self._seed_step()
        self.pace = Pace()
        with self._signals() as held:
            train_epoch(
                wrap(self.model, self.group, self.device),
                on_device(self.pace.timed(self._batches(epoch)), self.device),
                self.optimizer,
                self.optim,
                first_step=self.step,
                total_steps=self.total_steps,
                device=self.device,
                precision=self.precision,
                average=self.average,
                l2sp_start=self.l2sp_start,
                means=self.means,
                after_step=after_step,
            )

    def _seed_step(self) -> None:
        """Of several processes, let each one's random numbers follow from its rank and the step: the saved state has
        those of the leading process alone, and a resumed training must draw what an undisturbed one draws."""
        if self.group.world > 1:
            words = np.random.SeedSequence([self.config.seed, self.group.rank, self.step]).generate_state(1, np.uint64)
            torch.manual_seed(int(words[0]) >> 1)

    def _batches(self, epoch: int) -> Iterable[Batch]:
        """The loader's; what was skipped in them is logged."""
        data = self.loader.dataset
        assert isinstance(data, Streams)
        return skipped.watched(self.loader, data, epoch, self.run / skipped.FILE, self.skip_reasons)

    def evaluate(self, epoch: int, seconds: float, held: Held | None = None) -> None:
        """Evaluate the (averaged, blended) weights, log the row, and save them when they are the best so far.

        Raises InterruptedWorkError after the batch in progress when a signal came; nothing is logged then.
        """
        self.evaluating = True
        with (
            evaluated_weights(self.model, self.average, self.blend),
            progress_line(self, "validating", len(self.val_loader), 0) as advance,
        ):

            def after_batch() -> None:
                advance("")
                if held is not None and held.number is not None:
                    raise InterruptedWorkError

            results = validate(self.model, self.val_loader, self.device, self.precision, self.group, after_batch)
            self.evaluating = False
            row = {"epoch": epoch, "step": self.step, "seconds": round(seconds, 2)}
            row |= headline(match(self.val, results))
            row |= {f"train_{key}": value for key, value in self.means.means().items()}
            row |= self.pace.row()
            row |= {"rollbacks": len(self.rollbacks)} if self.rollbacks else {}
            if not self.group.leads:
                return
            if epoch == 0:
                save_results(self.run / SOURCE_DETECTIONS, results)
            if self.config.eval.keep_detections:
                save_results(self.run / KEPT_DETECTIONS.format(step=self.step), results)
            metric = self.config.eval.metric
            if self.best is None or better(row[metric], self.best[metric]):
                self.best = {key: row[key] for key in ("epoch", "step", "AP", "AP50")}
                self._save_checkpoint("best")
                save_results(self.run / BEST_DETECTIONS, results)
        self.log.append(row)
        self.boards.evaluation(row)
        if time.monotonic() - self.drawn_at > CURVES_EVERY_S:
            self.draw_curves()
        name = "source" if epoch == 0 else f"epoch {epoch}/{self.config.optim.epochs}"
        loss = f"  loss {row['train_loss']:.3f}" if "train_loss" in row else ""
        trained = f"  {seconds:.0f} s" if seconds else ""
        scores = "  ".join(
            f"{key} {'-' if math.isnan(row[key]) else format(row[key], '.3f')}" for key in ("AP", "AP50")
        )
        console.say(f"{name}: {scores}{loss}{trained}")


def better(score: float, than: float) -> bool:
    """Whether a score is better than another; any number is better than NaN."""
    return score > than or (math.isnan(than) and not math.isnan(score))


@contextmanager
def progress_line(trainer: Trainer, title: str, total: int, done: int) -> Iterator[Advance]:
    """A progress bar with the remaining time on the leading process, nothing on the others."""
    if not trainer.group.leads:
        yield lambda note: None
        return
    with console.progress_bar() as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        yield lambda note: bar.update(task, advance=1, note=note)
