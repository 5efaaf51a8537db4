"""Real conditions beside synthetic ones: the dumbbells of their drops, on one scale, and what they say in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drivetl.report import texts

Document = Mapping[str, Any]


def real_rows(results: Document) -> dict[str, Any]:
    """The pairs with the places of their dots and ranges in percent of the track, and the slices' table."""
    real = results["real"] or {"pairs": [], "unpaired": [], "note": None, "left_out": 0}
    pairs = [pair for pair in real["pairs"] if pair["real_drop"]["point"] is not None]
    ends = [
        value
        for pair in pairs
        for one in (pair["real_drop"], pair["synthetic_drop"], *(row["drop"] for row in pair["severities"]))
        for value in (one["point"], one["low"], one["high"])
        if value is not None
    ]
    low, high = min([0.0, *ends]), max([0.02, *ends])
    edge = 0.04 * (high - low)

    def place(value: float) -> float:
        return float(100 * (value - low + edge) / (high - low + 2 * edge))

    return {
        "pairs": [_pair(pair, place) for pair in pairs],
        "zero": f"{place(0.0):.2f}%",
        "scale": [{"left": f"{place(value):.2f}%", "text": texts.percent(value)} for value in (0.0, high)],
        "unpaired": [f"{one['attribute']}={one['value']}" for one in real["unpaired"]],
        "note": real["note"],
        "left_out": real["left_out"],
        "lines": texts.agreement_lines(results),
    }


def _pair(pair: Document, place: Callable[[float], float]) -> dict[str, Any]:
    def dumbbell(one: Document) -> dict[str, str]:
        low, high = (one["point"] if one[end] is None else one[end] for end in ("low", "high"))
        return {
            "dot": f"{place(one['point']):.2f}%",
            "left": f"{place(low):.2f}%",
            "width": f"{place(high) - place(low):.2f}%",
            "text": texts.cost(one),
        }

    return {
        "pair": pair,
        "name": texts.plain_name(pair["value"]),
        "condition": texts.plain_name(pair["condition"]),
        "real": dumbbell(pair["real_drop"]),
        "synthetic": dumbbell(pair["synthetic_drop"]),
        "severities": [
            {"left": f"{place(row['drop']['point']):.2f}%", "text": row["severity"]}
            for row in pair["severities"]
            if row["drop"]["point"] is not None
        ],
        "difference": texts.signed(pair["difference"]["point"]),
        "span": texts.signed_span(pair["difference"]),
        "matches": texts.half_recall(pair["matches_at"]),
        "axis": texts.parameter(pair["matches_at"]),
    }
