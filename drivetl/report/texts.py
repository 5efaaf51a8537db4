"""A results document as text: the verdict, formatted numbers, summary.md and cells.csv."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.coco.drives import drives_in_words
from drivetl.console.text import first_of, listing, markdown
from drivetl.robustness.budget import budget_text

Document = Mapping[str, Any]
DASH = "–"
SHOWN_CLASSES = 12
"""Classes of a detector without a counterpart that are named; results.json has all."""


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent, without the sign: AP 0.314 is `31.4`; a dash for a value that was not measured."""
    return "-" if value is None else f"{round(100 * value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus zero


def span(interval: Document, digits: int = 1) -> str:
    """`28.9–33.7`; nothing where there is no interval."""
    if interval.get("low") is None or interval.get("high") is None:
        return ""
    return f"{percent(interval['low'], digits)}{DASH}{percent(interval['high'], digits)}"


def with_span(interval: Document, digits: int = 1) -> str:
    """`31.4 (28.9–33.7)`."""
    low_high = span(interval, digits)
    return percent(interval["point"], digits) + (f" ({low_high})" if low_high else "")


def cost(interval: Document) -> str:
    """The drop under a condition, which may be negative: `10.7 (−13.0 to 15.4)`."""
    low_high = "" if interval.get("low") is None else f" ({percent(interval['low'])} to {percent(interval['high'])})"
    return f"{percent(interval['point'])}{low_high}".replace("-", "−") if interval["point"] is not None else "-"


def signed(value: float | None, digits: int = 1) -> str:
    """`+1.2`, `−0.4`."""
    return "-" if value is None else f"{100 * value:+.{digits}f}".replace("-", "−")


def signed_span(interval: Document, digits: int = 1) -> str:
    """`−0.3 to +2.7`."""
    if interval.get("low") is None:
        return ""
    return f"{signed(interval['low'], digits)} to {signed(interval['high'], digits)}"


def _signed_with_span(interval: Document) -> str:
    low_high = signed_span(interval)
    return signed(interval["point"]) + (f" ({low_high})" if low_high else "")


def p_value(value: float | None) -> str:
    """`0.004`, `< 0.001`, a dash."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def amount(value: float | None) -> str:
    """An axis value with three significant digits."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def plain_name(name: str) -> str:
    """`low_sun` -> `low sun`."""
    return name.replace("_", " ")


def verdict(results: Document) -> tuple[str, str]:
    """Two sentences: the share of performance kept; the weakest condition and the comparison with the baseline."""
    head, metric, run = results["headline"], results["metric"], results["run"]["name"]
    clean = results["clean"]["value"]["point"]
    n = len(head["conditions"])
    if not results["data"].get("sufficient", True):
        return _insufficient(results)
    if not n:
        return (
            f"None of the {len(results['conditions'])} conditions measured was held out from the training of {run}.",
            f"The numbers below are for conditions that it {_may_have_been(results)}trained on or that move content; "
            "they say nothing about unseen weather.",
        )
    if not clean:
        return (
            (
                f"{run} {'finds nothing' if clean == 0 else 'could not be measured'} on the clean images ({metric}"
                f" {percent(clean)})."
            ),
            "The share kept under a condition is undefined: check that the detector was trained for this data.",
        )
    what = (
        f"Under {n} held-out condition{'s' if n > 1 else ''}"
        if results["protocol"]["verified"]
        else f"Under {n} condition{'s' if n > 1 else ''} (UNVERIFIED: {unverified_because(results)})"
    )
    first = (
        f"{what}, {run} keeps {percent(head['rpc']['point'], 0)} % of its clean {metric}: "
        f"{with_span(head['mpc'])} instead of {percent(clean)}."
    )
    return first, f"{_weakest(results)}{_comparison(results)}."


def _may_have_been(results: Document) -> str:
    return "was or may have been " if any(row["level"] == "UNVERIFIED" for row in results["conditions"]) else "was "


def unverified_because(results: Document) -> str:
    """Which model lacks an augmentation manifest."""
    return str(results["protocol"].get("unverified_because") or "the run has no augmentation manifest")


def missing_cells(results: Document) -> str:
    """Which cells have no results, in one sentence; "" where all have."""
    cells = results["protocol"].get("missing_cells") or []
    listed = ", ".join(cells[:10]) + (", ..." if len(cells) > 10 else "")
    verb = "cell has" if len(cells) == 1 else "cells have"
    return f"{len(cells)} {verb} no results ({listed}): these conditions have no mean." if cells else ""


def headline_word(results: Document) -> str:
    """What the cells of the headline are: `held-out`, or `unverified` where the training is unknown."""
    return "held-out" if results["protocol"]["verified"] else "unverified"


def class_sentences(results: Document) -> list[str]:
    """How the classes of the detectors met those of the data; none where they are the same."""
    met, data = results.get("class_match"), results["data"]["categories"]
    if met is None:
        return []
    sentences = [_unknown_classes(met["unknown"], len(data))] if met["unknown"] else []
    for key in ("run", "baseline"):
        if met[key] is not None:
            sentences += _mapped_classes(results[key]["name"], met[key])
    return sentences


def _unknown_classes(unknown: Sequence[Document], n_classes: int) -> str:
    listed = listing(
        [f"{row['class']} ({row['objects']:,} object{'' if row['objects'] == 1 else 's'})" for row in unknown]
    )
    whose = listing(list(dict.fromkeys(name for row in unknown for name in row["unknown_to"])))
    found_as = sorted({name for row in unknown for name in row["may_be_found_as"]})
    ignored = f" What is found on their objects as {listing(found_as, 'or')} is neither right nor wrong." * bool(
        found_as
    )
    verb, they = ("is", "It has") if len(unknown) == 1 else ("are", "They have")
    return (
        f"Over {n_classes - len(unknown)} of {n_classes} classes: {listed} {verb} not known to {whose}."
        f" {they} no AP and no part in any mean.{ignored}"
    )


def _mapped_classes(name: str, met: Document) -> list[str]:
    renamed = [f"{row['theirs']} is {row['ours']}" for row in met["maps"] if row["theirs"] != row["ours"]]
    sentences = [f"Classes of {name}: {listing(renamed)}."] if renamed else []
    left = met["unmapped"]
    if left:
        noun = f"class of {name} is not one" if len(left) == 1 else f"classes of {name} are not classes"
        sentences.append(
            f"{len(left)} {noun} of the data; such detections are left out: {first_of(left, SHOWN_CLASSES)}."
        )
    return sentences


def _insufficient(results: Document) -> tuple[str, str]:
    """The two sentences where images or drives are too few for a verdict."""
    data = results["data"]
    first = f"No verdict on {results['run']['name']}: only {_share_measured(data)} evaluated in every cell."
    needed_s = data.get("budget_needed_s")
    remedy = (
        f"Run it again with --budget {budget_text(needed_s)} and another --out: stored cells are reused"
        if needed_s is not None
        else "Run it again with a larger --budget"
        if data["images"] < data["images_requested"]
        else "Measure on more images or drives"
    )
    return first, f"{data['warning'][0].upper()}{data['warning'][1:]}. {remedy}."


def _share_measured(data: Document) -> str:
    count, requested = data["images"], data["images_requested"]
    if count == requested:
        return f"{count} image{' was' if count == 1 else 's were'}"
    return f"{count} of {requested} images {'was' if count == 1 else 'were'}"


def _weakest(results: Document) -> str:
    head, name = results["headline"], results["headline"]["worst_condition"]
    text = f"The weakest condition is {plain_name(name or '?')} ({results['metric']} {percent(head['worst'])})"
    for row in results["conditions"]:
        if row["name"] == name and name in head["conditions"]:
            half = row["half_recall"]
            if half["state"] == "reached":
                text += f", where recall halves at {parameter(half)} {amount(half['value'])} {half['unit']}"
            elif half["state"] == "before":
                text += ", where even the mildest severity evaluated costs more than half of the recall"
    return text


def agreement_lines(results: Document) -> list[str]:
    """A line per pair of a real slice and a synthetic condition: both drops, their difference, and its meaning."""
    real, metric = results.get("real"), results["metric"]
    lines = []
    for pair in real["pairs"] if real else []:
        if pair["difference"]["point"] is None:
            continue
        difference = pair["difference"]
        if difference["low"] is None:
            meaning = "no interval, the slices have too few images or drives"
        elif difference["low"] <= 0 <= difference["high"]:
            meaning = "not statistically significant"
        else:
            meaning = "the real one costs more" if difference["point"] > 0 else "the real one costs less"
        severities = "/".join(str(row["severity"]) for row in pair["severities"])
        lines.append(
            f"Real {plain_name(pair['value'])} ({pair['images']} images) costs {cost(pair['real_drop'])} {metric}; "
            f"synthetic {plain_name(pair['condition'])} (mean of severities {severities}) costs "
            f"{cost(pair['synthetic_drop'])}. The difference real - synthetic is {_signed_with_span(difference)}: "
            f"{meaning}. {_matching_severity(pair['matches_at'])}."
        )
    return lines


def _matching_severity(at: Document) -> str:
    """At which synthetic severity the drop is that of the real slice."""
    if at["state"] == "before":
        return "The real drop is smaller than that of the mildest severity"
    if at["state"] == "beyond":
        return "The real drop is larger than that of the strongest severity"
    if at["state"] != "reached":
        return "No severity with the same drop could be determined"
    return f"The synthetic condition costs as much at {parameter(at)} {half_recall(at)}"


def _comparison(results: Document) -> str:
    delta = results["headline"].get("delta")
    if delta is None:
        return ""
    name, details = results["baseline"]["name"], f"95 %: {signed_span(delta)}, p {p_value(delta['p'])}"
    if significant(delta):
        word = "better" if delta["point"] > 0 else "worse"
        return f". {results['run']['name']} is {word} than {name} by {percent(abs(delta['point']))} ({details})"
    detectable = f": the smallest detectable difference is {percent(delta['mde'])}" if delta["mde"] is not None else ""
    return (
        f". The difference to {name} is {signed(delta['point'])} ({details}), not statistically significant{detectable}"
    )


def significant(delta: Document) -> bool:
    """Whether the interval of a difference excludes 0 and p (Holm-adjusted, if available) is below 0.05."""
    p = delta.get("p_holm", delta.get("p"))
    low, high = delta["low"], delta["high"]
    return p is not None and low is not None and p < 0.05 and not low <= 0 <= high


def parameter(half: Document) -> str:
    """`visibility_m` -> `visibility`: the unit is written after the number."""
    return re.sub(r"_(m|mm_h|permille|px|deg|lx)$", "", str(half["parameter"])).replace("_", " ")


def axis_name(row: Document) -> str:
    """`visibility, m`; the unit alone if it is the same word."""
    name, unit = parameter(row), str(row["unit"])
    return unit if name.lower() == unit.lower() else f"{name}, {unit}"


def half_recall(half: Document) -> str:
    """Where recall halves, with its interval: `130 m (150 to 90)`."""
    unit = half["unit"]
    if half["state"] == "before":
        return "before the mildest severity"
    if half["state"] == "beyond":
        return "not reached"
    if half["state"] != "reached":
        return "-"
    mild = amount(half["mild"]) if half["mild"] is not None else "milder"
    strong = amount(half["strong"]) if half["strong"] is not None else "beyond"
    return f"{amount(half['value'])} {unit} ({mild} to {strong})"


def smallest_p(results: Document) -> str:
    """The smallest p that a permutation test over a few units can give; "" for many, or where there is no test.

    Units are what the test exchanges: drives, blocks of a lone drive, or images of unknown drive.
    """
    data = results["data"]
    drives, count = data["drives"], int(data["images"] if data["drives"] is None else data["drives"])
    n_units = int(data.get("units", count))
    smallest = 2.0 ** (1 - n_units)
    if smallest < 0.005 or not data.get("sufficient", True):
        return ""
    unit = "images" if drives is None else "drives" if drives == n_units else "drives and images of unknown drive"
    unit = "blocks of one drive" if drives == 1 < n_units else unit
    return f"With {n_units} {unit}, p cannot be below about {smallest:.2g}, even unadjusted."


def condition_table(results: Document) -> tuple[str, list[str], list[tuple[object, ...]]]:
    """(title, columns, rows) of a table: a row per condition with its cells, mean and difference to the baseline."""
    cells = {(row["condition"], row["severity"]): row for row in results["cells"]}
    severities = results["protocol"]["severities"]
    compared = results["baseline"] is not None
    rows: list[tuple[object, ...]] = []
    for row in results["conditions"]:
        values = [percent(cells[row["name"], severity]["value"]["point"]) for severity in severities]
        delta = [f"{signed(row['delta']['point'])} (p {p_value(row['delta']['p_holm'])})"] if compared else []
        rows.append((row["name"], row["level"], row["images"], *values, with_span(row["mean"]), *delta))
    against = [f"- {results['baseline']['name']}"] if compared else []
    columns = ["condition", "level", "images", *(f"s{severity}" for severity in severities), "mean (95 %)", *against]
    clean = with_span(results["clean"]["value"])
    return f"{results['metric']} x 100 of {results['run']['name']}, clean {clean}; {data_line(results)}", columns, rows


def data_line(results: Document) -> str:
    """The evaluated data in one line."""
    data = results["data"]
    part = "" if data["images"] == data["images_requested"] else f" of {data['images_requested']:,}"
    drives = drives_in_words(data["drives"])
    of = f" ({data['clean_slice']})" if data.get("clean_slice") else ""
    return f"{data['images']:,}{part} images{of}, {data['objects']:,} objects, {drives}"


def resampled(results: Document) -> str:
    """What the bootstrap resamples."""
    return "single images" if results["data"]["drives"] is None else "whole drives"


def timing_line(timing: Document) -> str:
    """How long the sweep took, and its bottleneck."""
    if timing["bound_by"] == "stored":
        return "all detections were stored: no inference"
    workers = max(1, timing["workers"])
    return (
        f"{timing['wall_s']:.0f} s for {timing['inferences']:,} inferences on {timing['pictures']:,} images, "
        f"bound by {timing['bound_by']} (inference {timing['inference_s']:.0f} s, waiting {timing['waiting_s']:.0f} s, "
        f"corruption {timing['corruption_s']:.0f} s summed over {workers} worker{'s' if workers > 1 else ''})"
    )


def summary_md(results: Document) -> str:
    """The report as a few lines of Markdown, for a pull request."""
    metric, head = results["metric"], results["headline"]
    first, second = map(markdown, verdict(results))
    run = markdown(results["run"]["name"])
    lines = [f"### Robustness of {run}", "", first, second, ""]
    lines += [missing_cells(results), ""] if missing_cells(results) else []
    lines += [" ".join(map(markdown, class_sentences(results))), ""] if class_sentences(results) else []
    baseline = results["baseline"]
    lines += [
        f"| | {run} |" + (f" {markdown(baseline['name'])} | difference |" if baseline else ""),
        "|---|---|" + ("---|---|" if baseline else ""),
        f"| clean {metric} | {with_span(results['clean']['value'])} |"
        + (
            f" {with_span(results['clean']['baseline'])} | {signed(results['clean']['delta']['point'])} |"
            if baseline
            else ""
        ),
    ]
    if head["conditions"] and results["data"].get("sufficient", True):
        label = f"{head['label']} ({' + '.join(head['levels'])}, {len(head['conditions'])} conditions)"
        lines += [
            f"| {label} | {with_span(head['mpc'])} |"
            + (
                f" {with_span(head['baseline']['mpc'])} | {signed(head['delta']['point'])}, p"
                f" {p_value(head['delta']['p'])} |"
                if baseline
                else ""
            ),
            f"| rPC, % | {with_span(head['rpc'])} |"
            + (f" {with_span(head['baseline']['rpc'])} | {signed(head['delta_rpc']['point'])} |" if baseline else ""),
        ]
    severities = results["protocol"]["severities"]
    header = " | ".join(f"s{severity}" for severity in severities)
    lines += ["", f"| condition | level | images | {header} | mean |", "|---|---|---|" + "---|" * (len(severities) + 1)]
    cells = {(row["condition"], row["severity"]): row for row in results["cells"]}
    for row in results["conditions"]:
        values = " | ".join(percent(cells[row["name"], severity]["value"]["point"]) for severity in severities)
        name, images = plain_name(row["name"]), row.get("images", results["data"]["images"])
        lines.append(f"| {name} | {row['level']} | {images} | {values} | {with_span(row['mean'])} |")
    lines += _real_lines(results)
    lines += _kitti_lines(results)
    intervals = f" 95 % intervals resample {resampled(results)}." if results["data"].get("sufficient", True) else ""
    lines += ["", f"{markdown(data_line(results))}.{intervals}"]
    if results["data"]["warning"]:
        lines.append(_strong(results["data"]["warning"]))
    return "\n".join(lines) + "\n"


def _strong(note: str) -> str:
    return f"**{markdown(note[0].upper() + note[1:])}.**"


def _real_lines(results: Document) -> list[str]:
    """The real slices as a table, and a line per pair; an empty list if there are no slices."""
    rows = [row for row in results["slices"] if row["against_clean"]]
    if not rows:
        return []
    lines = ["", f"| real slice (L4) | images | {results['metric']} | at equal mix | drop | kept, % |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        name = f"{row['attribute']}={row['value']}" + (" (clean)" if row["reference"] else "")
        name += " (too small)" if row["small"] else ""
        drop, kept = ("-", "-") if row["reference"] else (cost(row["drop"]), with_span(row["kept"], 0))
        mixed = with_span(row["performance_standardised"])
        lines.append(
            f"| {markdown(name)} | {row['images']} | {with_span(row['performance'])} | {mixed} | {drop} | {kept} |"
        )
    sentences = agreement_lines(results)
    lines += ["", *(f"- {markdown(line)}" for line in sentences)] if sentences else []
    note = results["real"]["note"]
    return [*lines, "", _strong(note)] if note else lines


def _kitti_lines(results: Document) -> list[str]:
    rows = results.get("kitti") or []
    if not rows:
        return []
    held_out = headline_word(results).replace("-", " ")
    lines = ["", f"| KITTI AP40 | difficulty | clean | {held_out} |", "|---|---|---|---|"]
    return lines + [
        f"| {row['class']} | {row['difficulty']} | {percent(row['clean'])} | {percent(row['held_out'])} |"
        for row in rows
    ]


def cells_csv(results: Document) -> str:
    """One row per cell, the clean one first; an empty field is a value that could not be measured."""
    columns = (
        *("condition", "severity", "level", "parameter", "axis", "unit", "metric", "value", "low", "high"),
        *("AP", "AP50", "AP75", "APs", "APm", "APl", "recall", "survival", "false_alarms_per_image", "images"),
        *("baseline", "delta", "delta_low", "delta_high"),
    )
    conditions = {row["name"]: row for row in results["conditions"]}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for cell in [results["clean"], *results["cells"]]:
        condition = conditions.get(cell["condition"], {})
        delta = cell.get("delta", {})
        row = {
            "condition": cell["condition"],
            "severity": cell["severity"],
            "level": cell.get("level"),
            "parameter": condition.get("parameter"),
            "axis": cell.get("axis"),
            "unit": condition.get("unit"),
            "metric": results["metric"],
            "value": cell["value"]["point"],
            "low": cell["value"]["low"],
            "high": cell["value"]["high"],
            **cell["numbers"],
            "recall": cell["recall"]["point"],
            "survival": cell.get("survival", {}).get("point"),
            "false_alarms_per_image": cell["false_alarms_per_image"],
            "images": cell.get("images", results["data"]["images"]),
            "baseline": cell.get("baseline", {}).get("point"),
            "delta": delta.get("point"),
            "delta_low": delta.get("low"),
            "delta_high": delta.get("high"),
        }
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return buffer.getvalue()
