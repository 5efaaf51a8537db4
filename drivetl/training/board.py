"""What a training writes for viewers of experiments, into its own folder: TensorBoard and MLflow.

`runtime.tensorboard: true`, then `tensorboard --logdir runs`; `runtime.mlflow: true`, then
`mlflow ui --backend-store-uri sqlite:///runs/NAME/mlflow/mlflow.db`.
"""

from __future__ import annotations

import io
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from drivetl.config import FinetuneConfig, values_of
from drivetl.console.text import markdown, printable

TENSORBOARD, MLFLOW = "tensorboard", "mlflow"
"""Folders in the run directory."""
FLUSH_EVERY_S = 30
SCORES = ("AP", "AP50", "AP75")
Scalars = dict[str, float]
"""Tag -> finite value."""


class Board(Protocol):
    """Something that shows a training. Step numbers are those of metrics.jsonl: n after n steps."""

    def scalars(self, values: Scalars, step: int) -> None:
        """Values after that many steps."""

    def image(self, name: str, data: bytes, step: int) -> None:
        """A JPEG or PNG file, as it is after that many steps."""

    def text(self, name: str, text: str, step: int) -> None:
        """A sentence, as it is after that many steps."""

    def close(self) -> None:
        """Write what is still in memory."""


class TensorBoard:
    """An event file."""

    def __init__(self, folder: Path, done: int):
        """done: steps that a resumed run has behind it. What an earlier file of the folder has after them is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=done + 1 if done else None, flush_secs=FLUSH_EVERY_S)

    def scalars(self, values: Scalars, step: int) -> None:
        """One point in each curve."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def image(self, name: str, data: bytes, step: int) -> None:
        """The decoded image."""
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def text(self, name: str, text: str, step: int) -> None:
        """The sentence as Markdown."""
        self._writer.add_text(name, markdown(text), step)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


class Mlflow:
    """A SQLite database with one MLflow run, and a folder of artifacts.

    MLflow's own folders of files are not used: from 3.13 on it refuses them. A resumed run continues its run; the steps
    between the last saved state and a kill are in it twice.
    """

    def __init__(self, folder: Path, name: str, config: FinetuneConfig):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it reports its use over the network
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # else it tells of every table of a new database
        from mlflow.tracking import MlflowClient

        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._client: Any = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        self._waiting: list[Any] = []
        self._flushed_at = time.monotonic()
        experiment = self._client.get_experiment_by_name("drivetl")
        if experiment is None:
            artifacts = (folder / "artifacts").as_uri()
            number = self._client.create_experiment("drivetl", artifact_location=artifacts)
            self._run: str = self._client.create_run(number, run_name=name).info.run_id
            for key, value in values_of(config).items():
                self._client.log_param(self._run, key, str(value)[:500])
        else:
            self._run = self._client.search_runs([experiment.experiment_id], max_results=1)[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")

    def scalars(self, values: Scalars, step: int) -> None:
        """One point in each curve; they are written together every FLUSH_EVERY_S seconds."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        for tag, value in values.items():
            name = re.sub(r"[^\w\-./ ]", "_", tag, flags=re.ASCII)  # all that a name may have
            self._waiting.append(Metric(name, value, now, step))
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self._flush()

    def image(self, name: str, data: bytes, step: int) -> None:
        """The file as an artifact."""
        kind = str(Image.open(io.BytesIO(data)).format).lower()
        self._client.log_image(self._run, Image.open(io.BytesIO(data)), artifact_file=f"{name}.{kind}")

    def text(self, name: str, text: str, step: int) -> None:
        """The sentence as a tag of the run; it has no step."""
        self._client.set_tag(self._run, name, text[:5000])

    def close(self) -> None:
        """Write what is still in memory, and mark the run as finished."""
        self._flush()
        self._client.set_terminated(self._run)

    def _flush(self) -> None:
        waiting, self._waiting, self._flushed_at = self._waiting, [], time.monotonic()
        for first in range(0, len(waiting), 1000):  # the most of a batch
            self._client.log_batch(self._run, metrics=waiting[first : first + 1000])


class Boards:
    """All boards of a training, mostly none."""

    def __init__(self, boards: Sequence[Board] = ()):
        self._boards = boards

    def step(self, step: int, losses: Mapping[str, float], rate: float) -> None:
        """The losses and the learning rate of the heads in the step that was made last."""
        values = {
            "loss/total" if name == "loss" else f"loss/{name.removeprefix('loss_')}": value
            for name, value in losses.items()
        }
        self._scalars(values | {"learning rate": rate}, step)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl: AP, AP50, AP75, and AP50 of every class that occurs."""
        if not self._boards:
            return
        values = {f"validation/{name}": row[name] for name in SCORES}
        values |= {f"AP50 of a class/{printable(name)}": value for name, value in row["AP50_per_class"].items()}
        self._scalars(values, row["step"])

    def outcome(self, comparison: Mapping[str, Any], step: int) -> None:
        """outcome.json: the metric before the first step and of the best checkpoint, the gain with its 95 % interval
        and p, and the verdict in words."""
        metric, before, delta = comparison["metric"], comparison["before"] or {}, comparison["delta"] or {}
        values = {f"{metric} before": before.get(metric), f"{metric} best": comparison["best"][metric]}
        values |= {"gain": delta.get("point"), "gain low": delta.get("low"), "gain high": delta.get("high")}
        values |= {"p": delta.get("p")}
        self._scalars({f"outcome/{name}": value for name, value in values.items()}, step)
        for board in self._boards:
            if comparison["verdict"]:
                board.text("verdict", comparison["verdict"], step)

    def image(self, name: str, data: bytes, step: int = 0) -> None:
        """A JPEG or PNG file: the first batch, the curves."""
        for board in self._boards:
            board.image(name, data, step)

    def close(self) -> None:
        """Write what is still in memory."""
        for board in self._boards:
            board.close()

    def _scalars(self, values: Mapping[str, float | None], step: int) -> None:
        finite = {tag: float(value) for tag, value in values.items() if value is not None and math.isfinite(value)}
        for board in self._boards:
            board.scalars(finite, step)


@contextmanager
def open_boards(config: FinetuneConfig, run: Path, done: int, leads: bool) -> Iterator[Boards]:
    """The boards that the config asks for, closed also after an error; none on a process that does not lead."""
    boards: list[Board] = []
    if leads and config.runtime.tensorboard:
        boards.append(TensorBoard(run / TENSORBOARD, done))
    if leads and config.runtime.mlflow:
        boards.append(Mlflow(run / MLFLOW, run.name, config))
    opened = Boards(boards)
    try:
        yield opened
    finally:
        opened.close()
