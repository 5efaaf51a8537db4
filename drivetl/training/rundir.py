"""The run directory: the interface between training and everything after it. Never overwritten."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import yaml

from drivetl import __version__
from drivetl.coco.hashes import file_hash
from drivetl.config import FinetuneConfig, dump_yaml
from drivetl.errors import CheckpointError, ConfigError
from drivetl.files.write import is_taken, write_atomically
from drivetl.models.source import weights_file

IMAGES = {
    "train_images_sha256": "data.train",
    "val_images_sha256": "data.val",
    "source_images_sha256": "data.source",
    "unlabelled_images_sha256": "data.unlabelled",
}
"""Key in provenance.json -> key of the config whose images it is the hash of."""


def create_run(path: Path, config: FinetuneConfig, taxonomy: dict[str, Any]) -> None:
    """Make the folder and write config and taxonomy. Raises ConfigError when the folder exists and is not empty."""
    if is_taken(path):
        raise ConfigError("exists already", remedy="choose another --out, or continue it with --resume", file=path)
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / "config.yaml", dump_yaml(config))
    write_atomically(path / "taxonomy.yaml", yaml.safe_dump(taxonomy, sort_keys=False))


def write_json(path: Path, value: object) -> None:
    """Sorted, indented JSON, atomically; a number that is not finite becomes null."""
    write_atomically(path, json.dumps(_finite(value), indent=1, sort_keys=True) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def provenance(
    config: FinetuneConfig, device: torch.device, precision: str, source_data: Path | None = None
) -> dict[str, Any]:
    """What is needed to reproduce the weights: hashes of the inputs, versions, device, seed."""
    return {
        "drivetl": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "numpy": str(np.__version__),
        "machine": platform.machine(),
        "device": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        ),
        "precision": precision,
        "seed": config.seed,
        "source_data": str(source_data) if source_data is not None else None,
    } | {key: hashed for key, (_, hashed) in input_hashes(config).items()}


def input_hashes(config: FinetuneConfig) -> dict[str, tuple[str, str]]:
    """Key in provenance.json -> (key of the config, sha256) of every input file of a training."""
    files = {"train_sha256": ("data.train", config.data.train), "val_sha256": ("data.val", config.data.val)}
    if config.data.source:
        files["source_sha256"] = ("data.source", config.data.source)
    if Path(config.data.unlabelled).is_file():
        files["unlabelled_sha256"] = ("data.unlabelled", config.data.unlabelled)
    if config.data.pseudo:
        files["pseudo_input_sha256"] = ("data.pseudo", config.data.pseudo)
    start = weights_file(config.model.start)
    if start is not None:
        files["start_sha256"] = ("model.start", str(start))
    return {key: (name, file_hash(Path(path))) for key, (name, path) in files.items()}


def check_inputs(recorded: dict[str, Any], config: FinetuneConfig) -> None:
    """Raises ConfigError when an input file of a resumed run is not the recorded one."""
    for key, (name, hashed) in input_hashes(config).items():
        if recorded.get(key, hashed) != hashed:
            raise ConfigError(
                f"the file is not the one this run began with ({key} was {str(recorded[key])[:12]}, now {hashed[:12]})",
                remedy="restore it, or start another --out",
                file=name,
            )


def changed_images(recorded: dict[str, Any], images: dict[str, str], accept: bool) -> dict[str, Any] | None:
    """Compare the hashes of the images with those in provenance.json.

    Returns the new provenance when they differ and `accept` is set, None when they are the same. Raises ConfigError
    when they differ otherwise. A run without recorded hashes passes.
    """
    changes = [
        {"key": key, "was": recorded[key], "now": now} for key, now in images.items() if recorded.get(key, now) != now
    ]
    if not changes:
        return None
    if not accept:
        names = " and ".join(IMAGES[change["key"]] for change in changes)
        raise ConfigError(
            f"the images of {names} are not those this run began with",
            remedy="restore them, start another --out, or continue with --accept-changed-images",
        )
    return recorded | images | {"changed_images": [*recorded.get("changed_images", []), *changes]}


def read_provenance(run: Path) -> dict[str, Any]:
    """provenance.json of a run. Raises CheckpointError when it cannot be read."""
    path = run / "provenance.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        if isinstance(document, dict):
            return document
        reason = "not an object"
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = str(error)
    raise CheckpointError(f"cannot be read ({reason})", remedy="restore it, or start another --out", file=path)


class MetricsLog:
    """metrics.jsonl: one row per evaluation. A resumed run drops the rows after its saved step."""

    def __init__(self, path: Path, resumed_step: int | None = None):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if resumed_step is not None and path.is_file():
            rows = read_metrics(path)
            self.rows = [row for row in rows if int(row["step"]) <= resumed_step]
            self._write()

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; the file is replaced atomically."""
        self.rows.append(_finite(row))
        self._write()

    def _write(self) -> None:
        write_atomically(self.path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in self.rows))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. Raises CheckpointError with the number of an invalid line."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            int(row["step"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            raise CheckpointError("not a metrics row", remedy="remove the line", file=path, line=number) from None
        rows.append(row)
    return rows
