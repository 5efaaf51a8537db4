"""The report: one self-contained HTML file, composed of sections.

    page = build_report(results, image_folder=folder / "pictures", extra_sections=[learning_curves_section(curves)])

The page needs no script and loads nothing: styles, plots and images are inside.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from drivetl.draw.pages import render, style_sheet
from drivetl.draw.svg_charts import Series, legend, line_charts, ticks
from drivetl.errors import DataError
from drivetl.report import agreement, charts, diagnosis, texts
from drivetl.robustness.held_out import MEANING


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    title: str
    lead: str
    """One or two sentences on how to read it."""
    body: Markup


def build_report(
    results: Mapping[str, Any],
    *,
    image_folder: Path | None = None,
    extra_sections: Sequence[Section] = (),
    title: str = "",
) -> str:
    """The page of a results document (see schema.md). Extra sections come right after the verdict.

    image_folder: folder of the files that `results["gallery"]` names; None: a page without images.
    Raises DataError for a document of another schema or a missing image.
    """
    check_schema(results)
    sections = [*extra_sections, *_sections(results, image_folder)]
    return render(
        "report/page",
        title=title or f"{results['run']['name']}: robustness",
        results=results,
        verdict=texts.verdict(results),
        sections=sections,
        tiles=charts.tiles(results),
        style=style_sheet(),
        t=texts,
    )


def check_schema(results: Mapping[str, Any], file: Path | None = None) -> None:
    """Raises DataError when this is not a results document of the version this code reads."""
    schema = results.get("schema") if isinstance(results, Mapping) else None
    if schema != "drivetl.robustness/1":
        raise DataError(
            f"its schema is {schema!r}, not 'drivetl.robustness/1'",
            remedy="make it again with eval-robustness; stored detections are reused",
            file=file,
        )


def _sections(results: Mapping[str, Any], image_folder: Path | None) -> list[Section]:
    gallery = _load_gallery(results, image_folder)
    return [
        *_condition_sections(results),
        *_detail_sections(results),
        *_image_sections(results, gallery),
        *_evidence_sections(results),
    ]


def _condition_sections(results: Mapping[str, Any]) -> Iterator[Section]:
    """What each condition costs; against the baseline and next to real conditions where there are any."""
    section, metric = partial(_section, results), results["metric"]
    yield section(
        "heatmap",
        "Every condition at every severity",
        f"Each cell shows {metric}, its 95 % interval, and the physical value of the condition. Colour: the share "
        f"of the clean {metric} that is kept.",
        groups=charts.heat_groups(results),
        meaning={
            level: MEANING[level] for level in MEANING if level in {row["level"] for row in results["conditions"]}
        },
    )
    yield section(
        "curves",
        "In physical units",
        f"{metric} against a physical parameter of each condition. The dashed line is the clean value.",
        curves=charts.condition_curves(results),
    )
    if results["baseline"] is not None:
        yield section(
            "forest",
            f"Compared with {results['baseline']['name']}",
            "Difference of the means over severities, on the same images. p is from a paired permutation test over "
            f"{texts.resampled(results)}, adjusted for the number of conditions (Holm).",
            forest=charts.forest(results),
        )
    if results["slices"]:
        yield section(
            "slices",
            "Real conditions (L4)",
            "Real images, grouped by their attributes. Drops are computed at the class and size mix of the clean "
            "slice, so that a different mix of objects has no effect. Grey rows are too small for a conclusion.",
            rows=results["slices"],
            real=agreement.real_rows(results),
        )


def _detail_sections(results: Mapping[str, Any]) -> Iterator[Section]:
    """Where it goes wrong: classes, sizes, the road, kinds of errors, KITTI's rules."""
    section = partial(_section, results)
    yield section(
        "classes",
        "By class and by size",
        f"{results['metric']} on clean images, and its mean over the {texts.headline_word(results)} cells.",
        rows=charts.class_rows(results),
    )
    yield section(
        "road",
        "On the road",
        "Score thresholds are those with the best F1 on clean images; they stay fixed under all conditions. "
        "Survival: of the objects found on clean images, the share that is still found.",
        road=charts.road_rows(results),
    )
    yield section(
        "diagnosis",
        "Errors and calibration",
        f"The clean images next to the worst {texts.headline_word(results)} condition. The bar of an error is the AP50 "
        "that fixing this kind of error alone would gain (TIDE).",
        diagnosis=diagnosis.diagnosis_rows(results),
    )
    if results.get("kitti"):
        yield section(
            "kitti",
            "By KITTI's rules",
            "Official AP at 40 recall positions, in percent; car at IoU 0.7, the others at 0.5.",
            rows=diagnosis.kitti_rows(results),
        )


def _image_sections(results: Mapping[str, Any], gallery: Mapping[str, Any]) -> Iterator[Section]:
    """Images of the conditions that cost most, and the images that lose most."""
    if gallery["conditions"]:
        lead = "The conditions that cost most, each on the image that loses most objects."
        yield _section(results, "gallery", "Example images", lead, rows=gallery["conditions"])
    if gallery["worst"]:
        lead = "Other images that lose most of the objects found when clean."
        yield _section(results, "worst", "Worst images", lead, rows=gallery["worst"])


def _evidence_sections(results: Mapping[str, Any]) -> Iterator[Section]:
    """Why a condition counts as held out, and what it takes to reproduce the numbers."""
    yield _section(
        results,
        "heldout",
        "What was held out, and why",
        "Levels follow from the augmentation manifests of the training and of those it started from. The headline "
        "(mPC, rPC) is over L2 and L3.",
        meaning=MEANING,
    )
    facts = charts.provenance(results)
    yield _section(results, "provenance", "Provenance", "Everything needed to reproduce the numbers.", facts=facts)


def _section(results: Mapping[str, Any], name: str, title: str, lead: str, **values: Any) -> Section:
    body = Markup(render(f"report/section_{name}", results=results, t=texts, **values))  # noqa: S704 - escaped by the template
    return Section(name, title, lead, body)


def learning_curves_section(
    curves: Mapping[str, Sequence[tuple[float, float | None]]],
    *,
    title: str = "Transfer compared with scratch",
    lead: str = "AP50 on the validation drives during training on the same labels.",
    x_label: str = "images seen",
) -> Section:
    """A section that plots learning curves: name -> [(steps or images, AP50 in 0..1, None where not measured)]."""
    known = {name: [(x, y) for x, y in points if y is not None] for name, points in curves.items()}
    series = [
        Series(name, [(x, 100 * y) for x, y in points], notes=[f"{name}: {100 * y:.1f} at {x:g}" for x, y in points])
        for name, points in known.items()
    ]
    xs = [x for points in known.values() for x, _ in points]
    highest = max([y for line in series for _, y in line.points], default=1.0)
    last = {name: points[-1][1] for name, points in known.items() if points}
    label = ", ".join(f"{name} ends at {100 * value:.1f}" for name, value in last.items())
    plots = line_charts(
        series,
        label=label,
        x_label=x_label,
        y_max=max(10.0, 1.08 * highest),
        x_ticks=[(x, f"{x:g}") for x in ticks(max(xs, default=1.0), 5)],
        heights=(290, 220),
    )
    ends = Markup(" ").join(
        Markup("<span><b>{:.1f}</b> {}</span>").format(100 * value, name) for name, value in last.items()
    )
    body = Markup('{}{}<p class="ends">{}</p>').format(legend(list(curves)), plots, ends)
    return Section("learning", title, lead, body)


def _load_gallery(results: Mapping[str, Any], image_folder: Path | None) -> dict[str, list[dict[str, Any]]]:
    """The rows of the gallery with their images as data URIs; empty without a folder."""
    gallery: dict[str, list[dict[str, Any]]] = {"conditions": [], "worst": []}
    if image_folder is None:
        return gallery
    for kind, rows in results.get("gallery", {}).items():
        for row in rows:
            uris = {name: _data_uri(image_folder / file) for name, file in row["files"].items()}
            gallery[kind].append({**row, "uris": uris})
    return gallery


def _data_uri(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError:
        raise DataError("image of the report is missing", remedy="make the report again", file=path) from None
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
