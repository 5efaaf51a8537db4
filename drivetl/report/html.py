"""The report: one HTML file that opens anywhere, composed of sections.

    page = build_report(results, pictures=folder / "pictures", extra_sections=[learning_curves_section(curves)])

Everything is readable without script, and nothing is fetched: styles, plots and pictures are inside.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """One or two sentences that say how to read it."""
    body: Markup


def build_report(
    results: Mapping[str, Any], *, pictures: Path | None = None, extra_sections: Sequence[Section] = (), title: str = ""
) -> str:
    """The page of a results document (see schema.md). Extra sections stand right under the verdict.

    pictures: folder of the files that `results["gallery"]` names; None: without pictures.
    Raises DataError for a document of another schema or a picture that is missing.
    """
    check_schema(results)
    sections = [*extra_sections, *_sections(results, pictures)]
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
    found = results.get("schema") if isinstance(results, Mapping) else None
    if found != "drivetl.robustness/1":
        raise DataError(
            f"its schema is {found!r}, not 'drivetl.robustness/1'",
            remedy="make it again with eval-robustness: stored cells are used",
            file=file,
        )


def _sections(results: Mapping[str, Any], pictures: Path | None) -> list[Section]:
    gallery = _load_gallery(results, pictures)
    found = [
        _section(
            results,
            "heatmap",
            "Every condition at every severity",
            "Each cell: the value, its 95 % interval, and the condition's physical measure. Colour is the share of "
            "the clean value that is kept.",
            groups=charts.heat_groups(results),
        ),
        _section(
            results,
            "curves",
            "In physical units",
            "The same numbers against what one can measure on the road. The dashed line is the clean value.",
            curves=charts.condition_curves(results),
        ),
    ]
    if results["baseline"] is not None:
        found.append(
            _section(
                results,
                "forest",
                f"Against {results['baseline']['name']}",
                "The difference of the means over severities on the same images. p is a paired permutation test over "
                f"{texts.resampled(results)}, adjusted for the number of conditions (Holm).",
                forest=charts.forest(results),
            )
        )
    if results["slices"]:
        found.append(
            _section(
                results,
                "slices",
                "Real conditions (L4)",
                "Images as they were taken, by what the data says of them. Drops are measured at the class and "
                "size mix of the clean slice, so that other traffic counts for nothing. Grey: too small to "
                "decide on.",
                rows=results["slices"],
                real=agreement.real_rows(results),
            )
        )
    found.append(
        _section(
            results,
            "classes",
            "By class and by size",
            "Clean, and the mean over the held-out cells.",
            rows=charts.class_rows(results),
        )
    )
    found.append(
        _section(
            results,
            "road",
            "On the road",
            "Thresholds are frozen where F1 is best on clean images. Survival: of the objects found there, the "
            "share still found.",
            road=charts.road_rows(results),
        )
    )
    found.append(
        _section(
            results,
            "diagnosis",
            "Which mistakes, and how sure",
            "The clean images beside the worst held-out condition. An error's bar is what AP50 would gain if that "
            "kind alone were mended (TIDE).",
            diagnosis=diagnosis.diagnosis_rows(results),
        )
    )
    if results.get("kitti"):
        found.append(
            _section(
                results,
                "kitti",
                "By KITTI's rules",
                "Official AP at 40 recall positions in percent; car at IoU 0.7, the others at 0.5.",
                rows=diagnosis.kitti_rows(results),
            )
        )
    if gallery["conditions"]:
        found.append(
            _section(
                results,
                "gallery",
                "What it looks like",
                "The conditions that cost most, each in the frame that loses most.",
                rows=gallery["conditions"],
            )
        )
    if gallery["worst"]:
        found.append(
            _section(
                results,
                "worst",
                "Worst frames",
                "Frames that lose most of what was found on the clean image.",
                rows=gallery["worst"],
            )
        )
    found.append(
        _section(
            results,
            "heldout",
            "What was held out, and why",
            "Levels follow from the augmentation manifests of the run and its ancestors. The headline is over "
            "L2 and L3.",
            meaning=MEANING,
        )
    )
    found.append(
        _section(
            results,
            "provenance",
            "Provenance",
            "What it takes to get the same numbers.",
            facts=charts.provenance(results),
        )
    )
    return found


def _section(results: Mapping[str, Any], name: str, title: str, lead: str, **values: Any) -> Section:
    body = Markup(render(f"report/section_{name}", results=results, t=texts, **values))  # noqa: S704 - escaped by the template
    return Section(name, title, lead, body)


def learning_curves_section(
    curves: Mapping[str, Sequence[tuple[float, float | None]]],
    *,
    title: str = "Transfer against scratch",
    lead: str = "AP50 on the validation drives while learning, from the same labels.",
    x_label: str = "images seen",
) -> Section:
    """A section that plots learning curves: name -> [(steps or images, AP50 in 0..1, None where not measured)]."""
    known = {name: [(x, y) for x, y in points if y is not None] for name, points in curves.items()}
    series = [
        Series(name, [(x, 100 * y) for x, y in points], notes=[f"{name}: {100 * y:.1f} at {x:g}" for x, y in points])
        for name, points in known.items()
    ]
    xs = [x for points in known.values() for x, _ in points]
    highest = max([y for one in series for _, y in one.points], default=1.0)
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


def _load_gallery(results: Mapping[str, Any], pictures: Path | None) -> dict[str, list[dict[str, Any]]]:
    """The rows of the gallery with pictures as data URIs; empty without a folder."""
    found: dict[str, list[dict[str, Any]]] = {"conditions": [], "worst": []}
    if pictures is None:
        return found
    for kind, rows in results.get("gallery", {}).items():
        for row in rows:
            uris = {name: _data_uri(pictures / file) for name, file in row["files"].items()}
            found[kind].append({**row, "uris": uris})
    return found


def _data_uri(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError:
        raise DataError("picture of the report is missing", remedy="make the report again", file=path) from None
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
