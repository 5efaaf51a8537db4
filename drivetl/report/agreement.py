"""Real conditions next to synthetic ones: dumbbells of their drops on one scale, and the same in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drivetl.report import texts

Document = Mapping[str, Any]


def real_rows(results: Document) -> dict[str, Any]:
    """The pairs, with the positions of their dots and ranges in percent of the track, and notes on the slices."""
    real = results["real"] or {"pairs": [], "unpaired": [], "note": None, "left_out": 0}
    pairs = [pair for pair in real["pairs"] if pair["real_drop"]["point"] is not None]
    ends = [
        value
        for pair in pairs
        for drop in (pair["real_drop"], pair["synthetic_drop"], *(row["drop"] for row in pair["severities"]))
        for value in (drop["point"], drop["low"], drop["high"])
        if value is not None
    ]
    low, high = min([0.0, *ends]), max([0.02, *ends])
    edge = 0.04 * (high - low)

    def position(value: float) -> float:
        return float(100 * (value - low + edge) / (high - low + 2 * edge))

    return {
        "pairs": [_pair(pair, position) for pair in pairs],
        "zero": f"{position(0.0):.2f}%",
        "scale": [{"left": f"{position(value):.2f}%", "text": texts.percent(value)} for value in (0.0, high)],
        "unpaired": [f"{row['attribute']}={row['value']}" for row in real["unpaired"]],
        "note": real["note"],
        "left_out": real["left_out"],
        "lines": texts.agreement_lines(results),
    }


def _pair(pair: Document, position: Callable[[float], float]) -> dict[str, Any]:
    def dumbbell(drop: Document) -> dict[str, str]:
        low, high = (drop["point"] if drop[end] is None else drop[end] for end in ("low", "high"))
        return {
            "dot": f"{position(drop['point']):.2f}%",
            "left": f"{position(low):.2f}%",
            "width": f"{position(high) - position(low):.2f}%",
            "text": texts.cost(drop),
        }

    return {
        "pair": pair,
        "name": texts.plain_name(pair["value"]),
        "condition": texts.plain_name(pair["condition"]),
        "real": dumbbell(pair["real_drop"]),
        "synthetic": dumbbell(pair["synthetic_drop"]),
        "severities": [
            {"left": f"{position(row['drop']['point']):.2f}%", "text": row["severity"]}
            for row in pair["severities"]
            if row["drop"]["point"] is not None
        ],
        "difference": texts.signed(pair["difference"]["point"]),
        "span": texts.signed_span(pair["difference"]),
    }
