"""`drivetl info`: the content of a dataset json or a run directory as tables, or whether a config is ready to train.

Missing files of a run are listed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from drivetl import console
from drivetl.coco.drives import Drives
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.commands.flags import config_file, default_run, input_path
from drivetl.console.text import byte_size
from drivetl.errors import ConfigError, DataError
from drivetl.files.read import read_text
from drivetl.files.write import free_path
from drivetl.files.yaml_reader import load_yaml

T = TypeVar("T")

TAKES_OVERRIDES = True

_RUN_FILES = (
    *("config.yaml", "taxonomy.yaml", "anchors.json", "surgery.json"),
    *("augmentation.json", "provenance.json", "metrics.jsonl", "README.md"),
)
MOST_TIMED_S = 3600
_MOST_LEVELS = 12
"""Of nested settings that are shown as rows; what lies deeper is one value."""
_MOST_ROWS = 300
"""Of a table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("path", type=input_path, nargs="?", metavar="PATH", help="a dataset json or a run directory")
    group = parser.add_argument_group("pre-flight, instead of PATH")
    group.add_argument(
        "--config",
        type=config_file,
        action="append",
        metavar="FILE.yaml",
        help=(
            "check a training that `drivetl finetune --config FILE.yaml` would start, without starting it: data, "
            "classes, scale, rates, memory, speed and disk, each with a fix; exit code 2 where it cannot train. Takes "
            "finetune's keys too: --optim.batch_size 8"
        ),
    )
    group.add_argument(
        "--timed",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="time for trying the loader and some steps of the model; 0: do not try them (default: 20)",
    )


def run(args: argparse.Namespace) -> None:
    """Print the tables of a dataset or a run, or the checks of a training."""
    if args.config:
        _check_config(args)
        return
    if args.path is None:
        args.parser.error("needs PATH or --config")
    if args.path.is_dir():
        _show_run(args.path)
    else:
        _show_dataset(args.path, read_dataset(args.path))


def _check_config(args: argparse.Namespace) -> None:
    """Pre-flight. Raises ConfigError when the training could not begin."""
    if args.path is not None:
        raise ConfigError("PATH and --config", remedy="leave one of them out")
    if not 0 <= args.timed <= MOST_TIMED_S:
        raise ConfigError(f"--timed is {args.timed:g}", remedy=f"it must be from 0 to {MOST_TIMED_S}")

    from drivetl.config import check_files, load_config
    from drivetl.training.pair import read_pair

    config = load_config(args.config, args.rest)
    check_files(config)
    console.say(f"checking {' + '.join(map(str, args.config))}")
    train, val = read_pair(config)
    with console.loading("torch"):
        from drivetl.training.preflight import preflight

    run = default_run(args.config)
    preflight(config, train, val, run, args.timed)
    words = [word for path in args.config for word in ("--config", path)]
    free = free_path(run)
    out = ["--out", free] if free != run else []
    console.suggest(console.command("finetune", *words, *args.rest, *out))


def _show_dataset(path: Path, dataset: Dataset) -> None:
    images = dataset.images
    drives = Drives.of(images)
    lengths = [len(indices) for name, indices in drives.places().items() if name]
    taxonomy = dataset.info.get("taxonomy")
    name = taxonomy.get("name", "") if isinstance(taxonomy, dict) else ""
    facts = [
        ("source", _cell(dataset.info.get("source", "unknown"))),
        ("taxonomy", f"{_cell(name)} {_cell(dataset.info.get('taxonomy_hash', ''))}".strip() or "none"),
        ("split", _cell(dataset.info.get("split", "not split"))),
        ("images root", dataset.images_root),
        ("images root exists", "yes" if dataset.images_root.is_dir() else "NO"),
        ("images", len(images)),
        ("  without objects", sum(not image.annotations for image in images)),
        ("drives", f"{len(lengths)}, {min(lengths)} to {max(lengths)} images each" if lengths else "unknown"),
        *([("images of unknown drive", drives.n_unknown)] if drives.n_unknown and lengths else []),
        ("image sizes", _most(Counter(f"{image.width} x {image.height}" for image in images))),
        ("objects", sum(len(image.annotations) for image in images)),
        ("  with masks", sum(item.segmentation is not None for image in images for item in image.annotations)),
        ("ignore regions", sum(len(image.ignore_regions) for image in images)),
        ("images with labels of some classes only", sum(image.labelled is not None for image in images)),
    ]
    console.table(path.name, ("", ""), facts)
    numbers = dict(facts)
    console.numbers(images=numbers["images"], objects=numbers["objects"], drives=len(lengths))
    objects = Counter(item.category_id for image in images for item in image.annotations)
    with_class = Counter(number for image in images for number in {item.category_id for item in image.annotations})
    console.table(
        "classes",
        ("class", "id", "objects", "images"),
        ((name, number, objects[number], with_class[number]) for number, name in enumerate(dataset.categories, 1)),
    )
    values = {
        "image": _attributes(image.attributes for image in images),
        "object": _attributes(item.attributes for image in images for item in image.annotations),
    }
    rows = [(f"{kind}: {key}", _most(counts)) for kind, attributes in values.items() for key, counts in attributes]
    if rows:
        console.table("attributes", ("attribute", "values"), rows)


def _attributes(records: Iterable[dict[str, Any]]) -> list[tuple[str, Counter[str]]]:
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for key, value in record.items():
            plain = value if isinstance(value, str | int | float) else type(value).__name__
            counts.setdefault(key, Counter())[str(plain)] += 1
    return sorted(counts.items())


def _most(counts: Counter[str], shown: int = 5) -> str:
    text = ", ".join(f"{value} ({count})" for value, count in counts.most_common(shown))
    return text + (f", ... {len(counts)} different" if len(counts) > shown else "") or "none"


def _show_run(path: Path) -> None:
    present = [name for name in _RUN_FILES if (path / name).is_file()]
    checkpoints = sorted(file for file in path.glob("checkpoints/*/*") if file.is_file())
    if not present and not checkpoints:
        raise DataError(
            "not a run directory: none of the files of a run is there",
            remedy=f"a run has {', '.join(_RUN_FILES[:3])}, ... and checkpoints/",
            file=path,
        )
    missing = [name for name in _RUN_FILES if name not in present]
    metric = _show_config(path / "config.yaml")
    _show_model(path)
    _show_metrics(path / "metrics.jsonl", metric)
    for name, show in (("surgery.json", _surgery), ("anchors.json", _anchors), ("augmentation.json", _flat)):
        document = _json(path / name)
        if document is not None and (rows := show(document)):
            _table(name, rows)
    document = _json(path / "provenance.json")
    if document is not None:
        _table("provenance.json", _flat(document))
    rows = [(file.relative_to(path).as_posix(), byte_size(file.stat().st_size)) for file in checkpoints]
    for folder in ("eval", "robustness"):
        count = sum(file.is_file() for file in (path / folder).rglob("*"))
        rows += [(f"{folder}/", f"{count} files")] if count else []
    console.table(
        "files", ("file", "size"), [*((name, byte_size((path / name).stat().st_size)) for name in present), *rows]
    )
    if missing:
        console.say(f"missing: {', '.join(missing)}")


def _show_config(path: Path) -> str:
    """Print the config. Returns the metric that its best evaluation is best in."""
    if not path.is_file():
        return "AP"
    try:
        document = load_yaml(path)
    except DataError as error:
        console.warn(str(error))
        return "AP"
    _table("config.yaml", _flat(document), ("setting", "value"))
    evaluation = document.get("eval") if isinstance(document, dict) else None
    return "AP50" if isinstance(evaluation, dict) and evaluation.get("metric") == "AP50" else "AP"


def _table(title: str, rows: list[tuple[str, str]], columns: tuple[str, str] = ("", "")) -> None:
    more = len(rows) - _MOST_ROWS
    console.table(title, columns, [*rows[:_MOST_ROWS], *([("...", f"{more} more")] if more > 0 else [])])


def _show_model(path: Path) -> None:
    for which in ("best", "last"):
        document = _json(path / "checkpoints" / which / "model.json")
        if document is not None:
            _table(f"checkpoints/{which}/model.json", _flat(document.get("spec", document)))
            return


def _show_metrics(path: Path, metric: str) -> None:
    """Print the first, the best and the last row."""
    rows = []
    for number, line in enumerate((_text(path) or "").splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # not JSON, an integer of too many digits, nested too deep
            console.warn(f"{path}:{number}: not a JSON row; skipped")
            continue
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        return
    scored = [row for row in rows if isinstance(row.get(metric), int | float)]
    best = max(scored, key=lambda row: row[metric], default=None)
    columns = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if any(isinstance(row.get(key), int | float) for row in rows)
    ][:9]
    if best:
        headline = {key: best.get(key) for key in ("epoch", "step", "AP", "AP50")}
        console.numbers(**{key: value for key, value in headline.items() if isinstance(value, int | float)})
    picked = [("first", rows[0]), *([("best", best)] if best else []), ("last", rows[-1])]
    console.table(
        f"metrics.jsonl: {len(rows)} rows",
        ("row", *columns),
        ([name, *(_cell(row.get(column)) for column in columns)] for name, row in picked),
    )
    per_class = best.get("AP50_per_class") if best else None
    if isinstance(per_class, dict):
        _table("AP50 per class at best", [(key, _cell(value)) for key, value in per_class.items()], ("class", "AP50"))


def _surgery(document: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for item in _of_type(document, "classes", list):
        if isinstance(item, dict):
            sources = ", ".join(map(_cell, _of_type(item, "sources", list))) or "nothing"
            rows.append((_cell(item.get("name", "?")), f"{_cell(item.get('status', '?'))} from {sources}"))
    return rows + [(f"tensors {key}", _cell(value)) for key, value in _of_type(document, "counts", dict).items()]


def _of_type(document: dict[str, Any], key: str, kind: type[T]) -> T:
    """The value of a key, or an empty one where it is missing or of another type."""
    value = document.get(key)
    return value if isinstance(value, kind) else kind()


def _anchors(document: dict[str, Any]) -> list[tuple[str, str]]:
    return _flat({key: value for key, value in document.items() if key != "proposals"})


def _json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where the file is missing, with a warning if it is broken, or where it is empty."""
    text = _text(path)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        console.warn(f"{path}:{error.lineno}: not valid JSON; skipped")
        return None
    except (ValueError, RecursionError):
        console.warn(f"{path}: nested too deep, or an integer of too many digits; skipped")
        return None
    return document if isinstance(document, dict) and document else None


def _text(path: Path) -> str | None:
    """A text file; None where it is missing, with a warning if it cannot be read."""
    if not path.is_file():
        return None
    try:
        return read_text(path)
    except DataError as error:
        console.warn(f"{error}; skipped")
        return None


def _flat(document: object, prefix: str = "", level: int = 0) -> list[tuple[str, str]]:
    """Nested mappings as dotted names with their values; long and deep values are cut."""
    if not isinstance(document, dict):
        return [(prefix or "value", _cell(document))]
    rows = []
    for key, value in document.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        nested = isinstance(value, dict) and value and level < _MOST_LEVELS
        rows += _flat(value, name, level + 1) if nested else [(name, _cell(value))]
    return rows


def _cell(value: object) -> str:
    try:
        text = f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
    except (RecursionError, ValueError):  # nested too deep, or an integer of too many digits
        text = f"{type(value).__name__} too large to show"
    return text if len(text) <= 90 else text[:87] + "..."
