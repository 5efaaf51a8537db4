"""How a detector holds up under conditions: a sweep, its numbers, and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from drivetl.api.dataset import read_dataset
from drivetl.api.detector import load
from drivetl.api.tables import html_table, text_table
from drivetl.coco import records
from drivetl.conditions import parse_severities
from drivetl.detectors.any_detector import as_detector
from drivetl.detectors.spec import FORMS, open_detector, parse_spec
from drivetl.draw.palette import BLUE, GREEN, ORANGE, PINK, VERMILLION, VIOLET
from drivetl.draw.svg_charts import Series, legend, line_chart
from drivetl.errors import ConfigError, check_least
from drivetl.files.write import new_directory
from drivetl.metrics.measures import METRICS
from drivetl.metrics.statistics import Interval
from drivetl.report import texts
from drivetl.report.document import write_document
from drivetl.robustness.clean_slice import choose_clean
from drivetl.robustness.held_out import choose_conditions
from drivetl.robustness.report_document import report_document
from drivetl.robustness.run import FinishedSweep, at_most, run_sweep
from drivetl.robustness.sweep import SupportsInfer, SweptDetector

NAN = float("nan")
CURVES = 6
"""Conditions in the figure of a notebook: the weakest."""
COLOURS = (BLUE, VERMILLION, GREEN, VIOLET, ORANGE, PINK)


@dataclass(eq=False, repr=False)
class Robustness:
    """The numbers of a sweep, 0..1; NaN where nothing was measured."""

    document: dict[str, Any]
    """The content of results.json; its schema is drivetl/report/schema.md."""
    swept: FinishedSweep
    """The detections in every cell."""

    @property
    def clean(self) -> Interval:
        """The metric on the clean images."""
        return _interval(self.document["clean"]["value"])

    @property
    def mpc(self) -> Interval:
        """Mean performance under corruption, over the conditions that are held out from the training."""
        return _interval(self.document["headline"]["mpc"])

    @property
    def rpc(self) -> Interval:
        """`mpc` as a share of `clean`."""
        return _interval(self.document["headline"]["rpc"])

    @property
    def cells(self) -> dict[str, dict[int, Interval]]:
        """Condition -> severity -> the metric."""
        cells: dict[str, dict[int, Interval]] = {}
        for row in self.document["cells"]:
            cells.setdefault(row["condition"], {})[row["severity"]] = _interval(row["value"])
        return cells

    def table(self) -> list[dict[str, Any]]:
        """A row per condition: condition, level (held-out level), images, s1 ... s5, mean, low, high, `baseline` and
        `delta` where there is one. A list for `pandas.DataFrame`.
        """
        return [_row(row, self.cells[row["name"]]) for row in self.document["conditions"]]

    def report(self, folder: str | Path) -> Path:
        """Write report.html, results.json, cells.csv, summary.md and images into a new folder; returns the page's path.

        Raises ConfigError or DataError for a folder that has something in it.
        """
        path = Path(folder)
        if path.suffix == ".html":
            raise ConfigError(f"{path} is not a folder", remedy="name a new folder, report.html is written into it")
        with new_directory(path, remedy="name another folder") as new:
            write_document(self.swept, self.document, new)
        return path / "report.html"

    def __repr__(self) -> str:
        name, metric = self.document["run"]["name"], self.document["metric"]
        clean, n = texts.percent(self.document["clean"]["value"]["point"]), len(self.document["cells"])
        return f"Robustness({name}: {metric} {clean} clean; {n} cells of {self.document['data']['images']} images)"

    def __str__(self) -> str:
        title, columns, rows = texts.condition_table(self.document)
        said = [*texts.verdict(self.document), *texts.class_sentences(self.document)]
        return "\n".join([title, text_table(columns, rows), *said])

    def _repr_html_(self) -> str:
        """What a notebook shows: a table, a figure and the verdict."""
        title, columns, rows = texts.condition_table(self.document)
        said = [*texts.verdict(self.document), *texts.class_sentences(self.document)]
        verdict = Markup("").join(Markup("<p>{}</p>").format(sentence) for sentence in said)
        page = Markup('<div class="drivetl">{}{}{}{}</div>').format(
            _style(), html_table(title, columns, rows), _figure(self.document), verdict
        )
        return str(page)


def evaluate_robustness(
    detector: str | Path | SweptDetector | SupportsInfer,
    dataset: str | Path | records.Dataset,
    *,
    conditions: str | Sequence[str] = "held_out",
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    baseline: str | Path | SweptDetector | SupportsInfer | None = None,
    metric: str = "AP",
    iou_type: str = "bbox",
    class_map: Mapping[str, str | None] | None = None,
    slices: Sequence[str] = (),
    clean: Mapping[str, str] | None = None,
    images: int | None = None,
    budget_s: float | None = None,
    cache: str | Path | None = None,
    workers: int | None = None,
    batch_size: int = 8,
    draws: int = 400,
    seed: int = 0,
) -> Robustness:
    """Detect on clean images and under conditions, and measure, with 95 % intervals over drives.

    detector, baseline: a loaded detector, a run directory, a text like `onnx:FILE.onnx` (`drivetl.detectors.spec`), or
    any object with `categories` and `infer(images)`, see `drivetl.detectors.any_detector`. conditions: names, or a set
    (`held_out`, `all`, `drive`, `common`). metric: AP or AP50. class_map: classes of the detectors -> classes of the
    data (None: of none), where names and the data's taxonomy do not say it; a class that a detector does not know has
    no AP and is in no mean. slices, clean: image attributes to slice by, and the values of the clean slice that the
    conditions are applied to. images: at most that many clean images, spread over the drives. budget_s: stop after that
    many seconds, with the same images in all cells. cache: folder for the detections (default: in the run, or memory
    for another detector). workers: processes that render (default: one per core).
    Raises ConfigError for a wrong argument or no class of the data, DataError for what is not a dataset, an
    unreadable image, or detections of another form.
    """
    if metric not in METRICS:
        raise ConfigError(f"metric is {metric!r}", remedy=f"use {' or '.join(METRICS)}")
    check_least(("images", images, 1), ("batch_size", batch_size, 1), ("draws", draws, 50), ("workers", workers, 0))
    steps = parse_severities(",".join(map(str, severities)))
    data = read_dataset(dataset) if isinstance(dataset, str | Path) else dataset
    clean_values = choose_clean(data.images, slices, clean or {})
    data = at_most(data, clean_values, images)
    own, other = _detector(detector), None if baseline is None else _detector(baseline)
    swept = run_sweep(
        own,
        data,
        choose_conditions(conditions if isinstance(conditions, str) else ",".join(conditions), own.augmentation, steps),
        steps,
        baseline=other,
        cache=None if cache is None else Path(cache),
        clean=clean_values,
        budget_s=budget_s,
        workers=workers,
        batch_size=batch_size,
        iou_type=iou_type,
        class_map=class_map,
    )
    return Robustness(report_document(swept, metric=metric, n_draws=draws, seed=seed, slices=slices), swept)


def _detector(detector: Any) -> SweptDetector:
    if isinstance(detector, str) and detector.partition(":")[0] in FORMS:
        return open_detector(parse_spec(detector))
    return as_detector(load(detector) if isinstance(detector, str | Path) else detector)


def _interval(row: Mapping[str, Any]) -> Interval:
    """An interval of the document, whose missing numbers are None."""
    return Interval(*(NAN if row.get(key) is None else float(row[key]) for key in ("point", "low", "high", "se")))


def _row(row: Mapping[str, Any], cells: Mapping[int, Interval]) -> dict[str, Any]:
    mean = _interval(row["mean"])
    values: dict[str, Any] = {"condition": row["name"], "level": str(row["level"]), "images": row["images"]}
    values |= {f"s{severity}": cell.point for severity, cell in cells.items()}
    values |= {"mean": mean.point, "low": mean.low, "high": mean.high}
    if "delta" in row:
        values |= {"baseline": row["baseline_mean"], "delta": row["delta"]["point"], "p_holm": row["delta"]["p_holm"]}
    return values


def _figure(document: Mapping[str, Any]) -> Markup:
    """The metric against severity, of the weakest conditions; severity 0 is clean."""
    weakest = sorted(
        document["conditions"], key=lambda row: (row["mean"]["point"] is None, row["mean"]["point"] or 0.0)
    )
    names = [row["name"] for row in weakest[:CURVES]]
    clean = _interval(document["clean"]["value"]).point
    values = {(row["condition"], row["severity"]): _interval(row["value"]).point for row in document["cells"]}
    severities = [0, *document["protocol"]["severities"]]
    series = [Series(name, [(s, 100 * (clean if s == 0 else values[name, s])) for s in severities]) for name in names]
    known = [y for line in series for _, y in line.points if y == y]
    n = len(document["conditions"])
    shown = f"the {CURVES} weakest of {n} conditions" if n > CURVES else "conditions"
    chart = line_chart(
        series,
        label=f"{document['metric']} x 100 against severity: {shown}",
        x_label="severity (0: clean)",
        x_ticks=[(severity, str(severity)) for severity in severities],
        y_max=1.06 * max([*known, 10.0]),
    )
    note = Markup("<p>{} x 100, {}</p>").format(document["metric"], shown)
    return Markup("<figure>{}{}{}</figure>").format(chart, legend([texts.plain_name(name) for name in names]), note)


def _style() -> Markup:
    """The look of the figure; in a notebook the report's style sheet would change the page around it."""
    rules = [
        ".drivetl .plot { max-width: 480px; font-size: 11px; }",
        ".drivetl .plot text { fill: currentColor; }",
        ".drivetl .plot .grid, .drivetl .plot .tick { stroke: currentColor; opacity: .25; }",
        ".drivetl .plot .line { fill: none; stroke-width: 2; }",
        ".drivetl .key { display: inline-block; width: .7em; height: .7em; margin: 0 .3em 0 .8em; }",
    ]
    for number, rgb in enumerate(COLOURS):
        colour = f"rgb{rgb}"
        rules.append(f".drivetl .plot .line.s{number} {{ stroke: {colour}; }}")
        rules.append(f".drivetl .plot .dot.s{number} {{ fill: {colour}; }}")
        rules.append(f".drivetl .key.s{number} {{ background: {colour}; }}")
    return Markup("<style>{}</style>").format(Markup("\n".join(rules)))  # noqa: S704 - constants
