"""What a training writes for TensorBoard: `runtime.tensorboard: true`, then `tensorboard --logdir runs`."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetl.console.text import printable

FOLDER = "tensorboard"
"""In the run directory."""
FLUSH_EVERY_S = 30
SCORES = ("AP", "AP50", "AP75")


class Board:
    """An event file. Step numbers are those of metrics.jsonl: n after n steps."""

    def __init__(self, folder: Path, done: int):
        """done: steps that a resumed run has behind it. What an earlier file of the folder has after them is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=done + 1 if done else None, flush_secs=FLUSH_EVERY_S)

    def step(self, step: int, losses: Mapping[str, float], rate: float) -> None:
        """The losses and the learning rate of the heads in the step that was made last."""
        for name, value in losses.items():
            self._scalar("loss/total" if name == "loss" else f"loss/{name.removeprefix('loss_')}", value, step)
        self._scalar("learning rate", rate, step)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl: AP, AP50, AP75, and AP50 of every class that occurs."""
        for name in SCORES:
            self._scalar(f"validation/{name}", row[name], row["step"])
        for name, value in row["AP50_per_class"].items():
            self._scalar(f"AP50 of a class/{printable(name)}", value, row["step"])

    def image(self, name: str, jpeg: bytes) -> None:
        """An image of the time before the first step."""
        self._writer.add_image(name, np.asarray(Image.open(io.BytesIO(jpeg))), 0, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()

    def _scalar(self, tag: str, value: float | None, step: int) -> None:
        if value is not None and math.isfinite(value):
            self._writer.add_scalar(tag, value, step)


@contextmanager
def open_board(wanted: bool, run: Path, done: int) -> Iterator[Board | None]:
    """The board of a run, closed also after an error; None where it is not wanted."""
    board = Board(run / FOLDER, done) if wanted else None
    try:
        yield board
    finally:
        if board is not None:
            board.close()
