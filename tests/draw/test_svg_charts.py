"""SVG charts: stacked layers, escaped texts, and whole numbers on count axes."""

import re

from drivetl.draw.svg_charts import Layer, heat_map, histogram


def heights(chart):
    return [float(value) for value in re.findall(r'<rect [^>]*height="([0-9.]+)"', chart)]


def test_layers_stack_and_their_heights_are_in_proportion():
    layers = [Layer("#111111", [4, 0], ["a", "b"]), Layer("#222222", [2, 6], ["c", "<d>"])]
    chart = histogram(layers, label="objects", x_label="px", x_ticks=[(0, "2"), (1, "8")])
    four, two, six = heights(chart)  # a count of 0 has no bar
    assert abs(four - 2 * two) < 0.02 and abs(six - four - two) < 0.02
    assert "&lt;d&gt;" in chart and "<d>" not in chart


def test_counts_have_whole_ticks():
    bars = [Layer("#111111", [15], ["x"])]
    chart = histogram(bars, label="objects", x_label="objects", x_ticks=[])
    assert re.findall(r'text-anchor="end">([0-9.,]+)<', chart) == ["0", "5", "10", "15"]


def test_nothing_counted_is_an_empty_chart():
    assert "<rect" not in histogram([], label="objects", x_label="px", x_ticks=[(0, "2")])
    assert heat_map([[0, 0], [0, 0]], label="where").count("<rect") == 4
