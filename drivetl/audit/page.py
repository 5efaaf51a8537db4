"""The audit as a self-contained HTML page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from drivetl import console
from drivetl.audit.findings import Example, Finding
from drivetl.audit.run import Audit
from drivetl.audit.thumbnails import Drawer, example_images
from drivetl.draw.objects import jpeg
from drivetl.draw.pages import render, style_sheet
from drivetl.draw.palette import Colour, colours_of, css
from drivetl.draw.svg_charts import Layer, heat_map, histogram
from drivetl.files.images import Rgb

Colours = Mapping[str, Colour]
"""Of each class."""

_EXAMPLE_PX, _GALLERY_PX = 420, 760
_EXAMPLE_IMAGES = 4
_GALLERY = 12
_COLOURED = 9
"""Classes with a colour of their own in the charts; the others share one."""


def html_page(result: Audit, seed: int = 0) -> str:
    """The HTML page of an audit. Images that cannot be read are left out; `seed` selects the gallery images."""
    numbers = result.statistics
    drawer, colours = Drawer(result.tables), colours_of(result.tables.class_names())
    return render(
        "audit/audit",
        style=style_sheet(),
        name=result.tables.path.name,
        source=str(result.tables.info.get("source", "")),
        resize=f"short side {result.min_size:g} px, long side at most {result.max_size:g} px",
        files_checked=result.files_checked,
        facts=_facts(numbers["overview"]),
        counts=result.counts(),
        findings=_findings(result, drawer),
        legend=[(name, colour) for name, colour, _ in _layers(numbers["size_px_after_resize"]["counts"], colours)],
        charts=_charts(numbers, colours),
        classes=_classes(numbers["classes"], colours),
        tables=_slices(numbers),
        gallery=_gallery(drawer, seed),
    )


def _facts(overview: dict[str, int]) -> list[tuple[str, str]]:
    return [(f"{count:,}", label.replace("_", " ")) for label, count in overview.items() if label != "annotations"]


def _findings(result: Audit, drawer: Drawer) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    seen: set[str] = set()
    for finding in console.track(result.findings, "drawing findings"):
        shown.append(
            finding.as_dict()
            | {
                "first": finding.severity not in seen,
                "amount": amount(finding),
                "count_text": f"{finding.count:,}",
                "examples": [_line(example) for example in finding.examples],
                "images": [
                    _figure(image, _line(example))
                    for example, image in example_images(drawer, finding.examples, _EXAMPLE_IMAGES, _EXAMPLE_PX)
                ],
            }
        )
        seen.add(finding.severity)
    return shown


def _whole(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _ratio(value: float) -> str:
    return f"{value:.3g}" if value >= 1 else f"1/{1 / value:.3g}"


def amount(finding: Finding) -> str:
    """'12 of 345 boxes (3.5 %)'."""
    share = finding.count / finding.total if finding.total else 0.0
    rounded = "<0.1" if share < 0.0005 else f"{100 * share:.1f}"
    percent = f" ({rounded} %)" if 0 < share < 1 and finding.total >= 20 else ""
    if finding.unit in ("gaps", "datasets", "folders"):
        return f"{finding.count:,} {finding.unit if finding.count != 1 else finding.unit.removesuffix('s')}"
    return f"{finding.count:,} of {finding.total:,} {finding.unit}{percent}"


def _line(example: Example) -> str:
    number = "" if example.annotation_id is None else f"annotation {example.annotation_id}"
    return ", ".join(part for part in (example.image, number, example.detail) if part)


def _figure(image: Rgb, caption: str) -> dict[str, str]:
    return {"source": "data:image/jpeg;base64," + base64.b64encode(jpeg(image)).decode(), "caption": caption}


def _gallery(drawer: Drawer, seed: int) -> list[dict[str, str]]:
    figures = []
    for row in console.track(drawer.gallery_rows(_GALLERY, seed), "drawing gallery"):
        image = drawer.whole(row, _GALLERY_PX)
        if image is not None:
            figures.append(_figure(image, drawer.tables.file_names[row]))
    return figures


def _charts(numbers: dict[str, Any], colours: Colours) -> list[tuple[str, str, Markup]]:
    """(title, explanation, SVG)."""
    per_image = numbers["objects_per_image"]
    return [
        (
            "Object size after the model's resize",
            "Square root of the box area in px. Objects below 8 px are hard to learn.",
            _stacked(numbers["size_px_after_resize"], colours, "px", _whole, [2, 8, 32, 96 * 1.33, 512]),
        ),
        (
            "Aspect ratio",
            "Width / height of the boxes. Below 1: taller than wide.",
            _stacked(numbers["aspect_width_over_height"], colours, "width / height", _ratio, [0.125, 0.5, 1, 2, 8]),
        ),
        (
            "Position",
            "Density of box centres over the image. Brighter: more boxes.",
            heat_map(numbers["positions"], label="where box centres lie in the image"),
        ),
        (
            "Objects per image",
            f"Mean {per_image['mean']:.1f}, maximum {per_image['max']}.",
            _objects_per_image(per_image["edges"], per_image["counts"]),
        ),
    ]


def _layers(counts: dict[str, list[int]], colours: Colours) -> list[tuple[str, str, list[int]]]:
    """(class, colour, its counts); the rarer classes share the last one."""
    names = list(counts)
    layers = [(name, css(colours[name]), counts[name]) for name in names[:_COLOURED]]
    if len(names) > _COLOURED:
        rest = np.sum([counts[name] for name in names[_COLOURED:]], axis=0).tolist()
        layers.append((f"{len(names) - _COLOURED} others", "var(--quiet)", rest))
    return layers


def _stacked(
    numbers: dict[str, Any], colours: Colours, unit: str, label: Callable[[float], str], marks: Sequence[float]
) -> Markup:
    """A histogram with one layer per class; `marks` are the edges that get a label on the axis."""
    edges = numbers["edges"]
    spans = [f"{label(low)} to {label(high)} {unit}" for low, high in pairwise(edges)]
    layers = [
        Layer(colour, counts, [f"{name}, {span}: {count}" for span, count in zip(spans, counts, strict=True)])
        for name, colour, counts in _layers(numbers["counts"], colours)
    ]
    ticks = [(int(np.argmin(np.abs(np.array(edges) - mark))), label(mark)) for mark in marks]
    return histogram(layers, label=f"objects by {unit}", x_label=unit, x_ticks=ticks)


def _objects_per_image(edges: Sequence[float], counts: Sequence[int]) -> Markup:
    spans = [f"{low:.0f}" if low == high - 1 else f"{low:.0f} to {high - 1:.0f}" for low, high in pairwise(edges)]
    notes = [f"{span} objects: {count}" for span, count in zip(spans, counts, strict=True)]
    ticks = [(bar + 0.5, f"{edges[bar]:.0f}") for bar in range(0, len(counts), max(1, len(counts) // 6))]
    bars = [Layer("var(--accent)", counts, notes)]
    return histogram(bars, label="images by their number of objects", x_label="objects", x_ticks=ticks)


def _classes(rows: list[dict[str, Any]], colours: Colours) -> list[dict[str, Any]]:
    most = max((row["objects"] for row in rows), default=0) or 1
    return [
        {
            "name": row["name"],
            "colour": css(colours[row["name"]]),
            "objects": f"{row['objects']:,}",
            "share": round(100 * row["objects"] / most, 1),
            "images": f"{row['images']:,}",
            "width": f"{row['median_width_px']:g} px",
            "height": f"{row['median_height_px']:g} px",
        }
        for row in rows
    ]


def _slices(numbers: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, rows) for each attribute, the image sizes and the drives."""
    tables = [
        (
            f"Images by {name}",
            [name, "images", "objects"],
            [[value, f"{pair['images']:,}", f"{pair['objects']:,}"] for value, pair in values.items()],
        )
        for name, values in numbers["image_attributes"].items()
    ]
    tables += [
        (f"Objects by {name}", [name, "objects"], [[value, f"{count:,}"] for value, count in values.items()])
        for name, values in numbers["object_attributes"].items()
    ]
    for title, key in (("Image sizes", "image_sizes"), ("Longest drives", "drives")):
        values = numbers[key]
        rows = [[value, f"{count:,}"] for value, count in values["most_frequent"].items()]
        if values["different"] > len(rows):
            rows.append([f"... {values['different']:,} in total", ""])
        if rows:
            tables.append((title, [title.split()[-1].removesuffix("s"), "images"], rows))
    return tables
