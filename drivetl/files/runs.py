"""Where things are in a run directory, and what can be read from it without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from drivetl.console import is_leader
from drivetl.errors import CheckpointError, ConfigError, DataError
from drivetl.files.read import read_text
from drivetl.files.write import is_taken
from drivetl.files.yaml_reader import load_yaml

BEST_DETECTIONS = Path("eval", "best.npz")
"""Where a run keeps the detections by the weights in checkpoints/best on its validation images."""
PSEUDO = "pseudo.json"
"""Where a run keeps the labels of its footage without labels."""
STATE = "checkpoints/last/state.safetensors"
"""The file a killed training resumes from."""


def checkpoint_folder(run: Path, which: str = "best") -> Path:
    """The folder with model.safetensors and model.json. Raises CheckpointError that says what is missing."""
    for folder in (run / "checkpoints" / which, run):
        if (folder / "model.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    reason = "no such folder" if not run.is_dir() else f"no checkpoints/{which}/model.safetensors and model.json in it"
    raise CheckpointError(reason, remedy="name a run directory that finetune wrote", file=run)


def run_root(folder: Path) -> Path:
    """The run that a checkpoint folder is part of; for a folder outside a run, the folder itself."""
    return folder.parent.parent if folder.parent.name == "checkpoints" else folder


def class_names(run: Path, which: str = "best") -> tuple[str, ...]:
    """The classes of a run's detector, in id order. Raises CheckpointError."""
    path = checkpoint_folder(run, which) / "model.json"
    try:
        names = json.loads(read_text(path))["spec"]["categories"]
    except (DataError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = error.reason if isinstance(error, DataError) else f"does not describe a model ({error})"
        raise CheckpointError(reason, remedy="use a run that finetune wrote", file=path) from None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError("does not name its classes", remedy="use a run that finetune wrote", file=path)
    return tuple(names)


def validation_data(run: Path) -> Path:
    """The validation set in a run's config. Raises ConfigError when it names none."""
    path = run / "config.yaml"
    config = load_yaml(path) if path.is_file() else None
    section = config.get("data") if isinstance(config, dict) else None
    if not isinstance(section, dict) or not section.get("val"):
        raise ConfigError(f"{run} names no validation data", remedy="name the dataset with --data")
    return Path(str(section["val"]))


def check_out(out: Path, resume: bool) -> None:
    """Raises ConfigError unless a new run's folder is free, and a resumed run has a saved state."""
    has_state = (out / STATE).is_file()
    if (out / "config.yaml").is_file() and not has_state:
        raise ConfigError(
            "stopped before its first step, there is no state to resume from",
            remedy="remove it and start without --resume",
            file=out,
        )
    if not resume and is_taken(out):
        or_resume = ", or continue it with --resume" if has_state else ""
        raise ConfigError("exists already", remedy=f"choose another --out{or_resume}", file=out)
    if resume and not has_state:
        raise ConfigError(f"nothing to resume (no {STATE})", remedy="start it without --resume", file=out)


def resumes(run: Path) -> bool:
    """Whether a run has a saved state to resume. One without is removed by the leading process, to begin again."""
    resume = (run / STATE).is_file()
    if (run / "config.yaml").is_file() and not resume and is_leader():
        shutil.rmtree(run)
    return resume
