"""Charts of the audit's page as inline SVG: drawn at phone width, so letters stay legible there, and scaled up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from drivetl.draw.objects import colour_of

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 6, 8, 30
_STACKED = 9
"""Classes with a colour of their own; the others share one."""


def stacked(histogram: dict[str, Any], unit: str, label: Callable[[float], str], marks: Sequence[float]) -> str:
    """A histogram with one layer per class; `marks` are the edges that get a label on the axis."""
    layers = _layers(histogram["counts"])
    edges = histogram["edges"]
    totals = np.sum([counts for _, _, counts in layers], axis=0) if layers else np.zeros(max(1, len(edges) - 1))
    x, y = _x_scale(len(totals)), _y_scale(float(np.max(totals, initial=0)))
    parts = _y_axis(totals)
    base = np.zeros(len(totals))
    for name, paint, counts in layers:
        for place, count in enumerate(counts):
            if count:
                height = y(base[place]) - y(base[place] + count)
                title = f"{name}, {label(edges[place])} to {label(edges[place + 1])} {unit}: {count}"
                parts.append(_bar(x(place), y(base[place] + count), x(1) - x(0) - 1, height, paint, title))
        base = base + counts
    for mark in marks:
        place = int(np.argmin(np.abs(np.array(edges) - mark)))
        parts.append(_text(x(place), _HEIGHT - 15, label(mark), "middle"))
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 2, unit, "middle"))
    return _svg(parts, _HEIGHT)


def bars(edges: Sequence[float], counts: Sequence[int], unit: str) -> str:
    """A plain histogram of whole numbers."""
    x, y = _x_scale(max(1, len(counts))), _y_scale(float(max(counts, default=0)))
    parts = _y_axis(np.array(counts))
    for place, count in enumerate(counts):
        first, last = edges[place], edges[place + 1] - 1
        values = f"{first:.0f}" if first == last else f"{first:.0f} to {last:.0f}"
        parts.append(
            _bar(x(place), y(count), x(1) - x(0) - 1, y(0) - y(count), "var(--accent)", f"{values} {unit}: {count}")
        )
    for place in range(0, len(counts), max(1, len(counts) // 6)):
        parts.append(_text((x(place) + x(place + 1)) / 2, _HEIGHT - 15, f"{edges[place]:.0f}", "middle"))
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 2, unit, "middle"))
    return _svg(parts, _HEIGHT)


def heat_map(grid: Sequence[Sequence[int]]) -> str:
    """Where box centres lie in the image; darker to brighter by the square root of the count."""
    counts = np.array(grid, float)
    shares = np.sqrt(counts / max(1.0, counts.max(initial=0)))
    side = _WIDTH / counts.shape[1]
    parts = [
        f'<rect x="{column * side:.1f}" y="{row * side:.1f}" width="{side + 0.2:.1f}" height="{side + 0.2:.1f}"'
        f' fill="{_heat(shares[row, column])}"'
        f' shape-rendering="crispEdges"><title>{int(counts[row, column])}</title></rect>'
        for row in range(counts.shape[0])
        for column in range(counts.shape[1])
    ]
    return _svg(parts, round(counts.shape[0] * side))


def legend(histogram: dict[str, Any]) -> list[tuple[str, str]]:
    """(class, colour) of the layers of `stacked`."""
    return [(name, paint) for name, paint, _ in _layers(histogram["counts"])]


def css_colour(name: str) -> str:
    """The colour of a class, as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(name))


def _layers(counts: dict[str, list[int]]) -> list[tuple[str, str, Any]]:
    names = list(counts)
    layers = [(name, css_colour(name), np.array(counts[name])) for name in names[:_STACKED]]
    if len(names) > _STACKED:
        rest = np.sum([counts[name] for name in names[_STACKED:]], axis=0)
        layers.append((f"{len(names) - _STACKED} others", "var(--quiet)", rest))
    return layers


def _x_scale(bins: int) -> Callable[[float], float]:
    return lambda place: _LEFT + place * (_WIDTH - _LEFT - _RIGHT) / bins


def _y_scale(most: float) -> Callable[[float], float]:
    span = _HEIGHT - _TOP - _BOTTOM
    return lambda value: _TOP + span * (1 - value / most) if most > 0 else _TOP + span


def _y_axis(totals: Any) -> list[str]:
    most = float(np.max(totals, initial=0))
    y = _y_scale(most)
    values = sorted({0, round(most / 2), round(most)})
    return [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="rule"/>'
        + _text(_LEFT - 4, y(value) + 4, f"{value:,}", "end")
        for value in values
    ]


def _bar(x: float, y: float, width: float, height: float, paint: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.2f}" width="{max(width, 0.5):.1f}" height="{height:.2f}" fill="{paint}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: list[str], height: int) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">' + "".join(parts) + "</svg>"


def _heat(share: float) -> str:
    """From night blue through violet and orange to pale yellow."""
    stops = np.array([(13, 17, 38), (87, 35, 122), (212, 72, 66), (250, 160, 40), (252, 250, 190)], float)
    place = share * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    red, green, blue = stops[low] + (stops[low + 1] - stops[low]) * (place - low)
    return f"#{round(red):02x}{round(green):02x}{round(blue):02x}"
