"""Charts as inline SVG: lines, histograms and heat maps. Colours are CSS classes and variables, so that one chart
works in light mode, dark mode and print.

Charts are sized for a column of about 340 px, so that text stays readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line: points (x, y), optionally a band (x, low, high), and the tooltip of each point."""

    name: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    notes: Sequence[str] = ()
    whiskers: Sequence[tuple[float, float, float]] = ()
    """(x, low, high): the interval of a point as a vertical line."""
    fitted: Sequence[Point] | None = None
    """The line to draw instead of the one through the points; empty: no line."""
    beyond: Sequence[Point] = ()
    """Extrapolated part of the line, dashed."""


@dataclass(frozen=True)
class Frame:
    """The plot area in px and its scales."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: int = 34
    right: int = 12
    top: int = 12
    bottom: int = 36

    def x(self, value: float) -> float:
        """px from the left."""
        low, high = self.x_range
        share = (value - low) / (high - low) if high > low else 0.5
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """px from the top."""
        low, high = self.y_range
        share = (value - low) / (high - low) if high > low else 0.5
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    x_ticks: Sequence[tuple[float, str]],
    y_max: float,
    reference: tuple[float, str] | None = None,
    width: int = 340,
    height: int = 210,
) -> Markup:
    """Lines over a common frame; y from 0 to y_max. `label` describes the chart for screen readers.

    reference: a dashed horizontal (value, name). NaN values are skipped and do not interrupt the line.
    """
    xs = [x for line in series for x, _ in (*line.points, *(line.fitted or ()), *line.beyond)]
    xs = xs or [x for x, _ in x_ticks] or [0.0]
    frame = Frame(width, height, (min(xs), max(xs)), (0.0, y_max))
    parts = [_grid(frame, x_ticks, x_label, ticks(y_max))]
    if reference is not None and math.isfinite(reference[0]):
        y = frame.y(reference[0])
        parts.append(
            Markup('<line class="ref" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                frame.left, width - frame.right, y, y
            )
        )
        parts.append(
            Markup('<text class="note" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                width - frame.right, y - 4, reference[1]
            )
        )
    for number, line in enumerate(series):
        parts.append(_line(frame, line, number))
    return _svg(parts, label, width, height)


def line_charts(series: Sequence[Series], *, heights: tuple[int, int], **options: Any) -> Markup:
    """`line_chart` for a wide page and for a phone, with their heights in px; the style sheet shows one of the two."""
    return Markup("").join(
        Markup('<div class="only-{}">{}</div>').format(kind, line_chart(series, width=width, height=height, **options))
        for kind, width, height in (("wide", 720, heights[0]), ("narrow", 340, heights[1]))
    )


@dataclass(frozen=True)
class Layer:
    """One colour of a histogram: the count and the tooltip of each bar."""

    colour: str
    """A CSS colour."""
    counts: Sequence[int]
    notes: Sequence[str]


def histogram(
    layers: Sequence[Layer], *, label: str, x_label: str, x_ticks: Sequence[tuple[float, str]], height: int = 190
) -> Markup:
    """Bars of equal width, the layers stacked; `x_ticks` are in bars from the left edge of the first bar."""
    n_bars = max([len(layer.counts) for layer in layers] or [0])
    totals = [sum(layer.counts[bar] for layer in layers) for bar in range(n_bars)]
    frame = Frame(360, height, (0.0, max(1.0, n_bars)), (0.0, float(max(totals, default=0))), left=44, right=6, top=8)
    whole = [value for value in ticks(frame.y_range[1]) if value == int(value)]
    parts = [_grid(frame, x_ticks, x_label, whole)]
    base = [0] * n_bars
    for layer in layers:
        for bar, count in enumerate(layer.counts):
            if count:
                top = frame.y(base[bar] + count)
                parts.append(
                    Markup(
                        '<rect x="{:.1f}" y="{:.2f}" width="{:.1f}" height="{:.2f}" fill="{}"><title>{}</title></rect>'
                    ).format(
                        frame.x(bar),
                        top,
                        max(frame.x(1) - frame.x(0) - 1, 0.5),
                        frame.y(base[bar]) - top,
                        layer.colour,
                        layer.notes[bar],
                    )
                )
            base[bar] += count
    return _svg(parts, label, frame.width, frame.height)


def heat_map(grid: Sequence[Sequence[int]], *, label: str) -> Markup:
    """Counts on a grid, rows from the top; brightness is the square root of the count."""
    most = max([1, *(count for row in grid for count in row)])
    side = 360 / len(grid[0])
    parts = [
        Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" shape-rendering="crispEdges">'
            "<title>{}</title></rect>"
        ).format(column * side, row * side, side + 0.2, side + 0.2, _heat(math.sqrt(count / most)), count)
        for row, counts in enumerate(grid)
        for column, count in enumerate(counts)
    ]
    return _svg(parts, label, 360, round(len(grid) * side))


def _heat(share: float) -> str:
    """The colour of a share 0..1: dark blue, violet, red, orange, pale yellow."""
    stops = ((13, 17, 38), (87, 35, 122), (212, 72, 66), (250, 160, 40), (252, 250, 190))
    position = share * (len(stops) - 1)
    below = min(int(position), len(stops) - 2)
    red, green, blue = (
        round(low + (high - low) * (position - below)) for low, high in zip(stops[below], stops[below + 1], strict=True)
    )
    return f"#{red:02x}{green:02x}{blue:02x}"


def _svg(parts: Sequence[Markup], label: str, width: int, height: int) -> Markup:
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )


def _grid(frame: Frame, x_ticks: Sequence[tuple[float, str]], x_label: str, y_ticks: Sequence[float]) -> Markup:
    parts = []
    for value in y_ticks:
        y = frame.y(value)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                frame.left, frame.width - frame.right, y, y
            )
        )
        parts.append(
            Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:,.6g}</text>').format(frame.left - 6, y + 4, value)
        )
    base, last = frame.height - frame.bottom, -math.inf
    for value, text in sorted(x_ticks, key=lambda tick: frame.x(tick[0])):
        x = frame.x(value)
        half = 3.3 * len(text) + 4
        if x - half < last:
            continue
        last = x + half
        shown = min(x, frame.width - half + 2)
        parts.append(
            Markup('<line class="tick" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(x, x, base, base + 4)
        )
        parts.append(Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(shown, base + 16, text))
    parts.append(
        Markup('<text class="note" x="{}" y="{}" text-anchor="end">{}</text>').format(
            frame.width - frame.right, frame.height - 4, x_label
        )
    )
    return Markup("").join(parts)


def _line(frame: Frame, series: Series, number: int) -> Markup:
    known = [(x, y) for x, y in series.points if math.isfinite(y)]
    notes = dict(zip((x for x, _ in series.points), series.notes, strict=False))
    parts = []
    band = [(x, low, high) for x, low, high in series.band if math.isfinite(low) and math.isfinite(high)]
    if len(band) > 1:
        upper = [f"{frame.x(x):.1f},{frame.y(high):.1f}" for x, _, high in band]
        lower = [f"{frame.x(x):.1f},{frame.y(low):.1f}" for x, low, _ in reversed(band)]
        parts.append(Markup('<polygon class="band s{}" points="{}"/>').format(number, " ".join(upper + lower)))
    for kind, line in (("line", known if series.fitted is None else series.fitted), ("line beyond", series.beyond)):
        if len(line) > 1:
            path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line)
            parts.append(Markup('<polyline class="{} s{}" points="{}"/>').format(kind, number, path))
    for x, low, high in series.whiskers:
        if math.isfinite(low) and math.isfinite(high):
            parts.append(
                Markup('<line class="line s{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    number, frame.x(x), frame.x(x), frame.y(low), frame.y(high)
                )
            )
    for x, y in known if len(known) <= 24 else known[-1:]:
        note = Markup("<title>{}</title>").format(notes[x]) if x in notes else Markup("")
        parts.append(
            Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3">{}</circle>').format(
                number, frame.x(x), frame.y(y), note
            )
        )
    return Markup("").join(parts)


def ticks(highest: float, about: int = 4) -> list[float]:
    """Round values from 0 up to `highest`, in about `about` steps."""
    if not highest > 0:
        return [0.0]
    raw = highest / about
    power = 10 ** math.floor(math.log10(raw))
    step = min((power * factor for factor in (1, 2, 2.5, 5, 10)), key=lambda candidate: abs(candidate - raw))
    return [round(step * number, 10) for number in range(int(highest / step + 1e-9) + 1)]


def legend(names: Sequence[str]) -> Markup:
    """The legend of a chart: the names of its series next to their colours."""
    return Markup('<p class="legend">{}</p>').format(
        Markup(" ").join(
            Markup('<span><i class="key s{}"></i>{}</span>').format(number, escape(name))
            for number, name in enumerate(names)
        )
    )
