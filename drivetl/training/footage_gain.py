"""Did the footage without labels help? The same training without it, and the paired comparison of both on data.val."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drivetl import console
from drivetl.coco.drives import Drives
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig, is_auto
from drivetl.console.text import markdown, markdown_code, printable
from drivetl.data.sampling import exact_share
from drivetl.files.runs import BEST_DETECTIONS
from drivetl.files.write import write_atomically
from drivetl.training.paired import difference, interval_in_words, is_better, is_worse, too_few
from drivetl.training.rundir import read_provenance, write_json

GAIN = "unlabelled_gain.json"
"""The comparison, in the run with the footage."""
COMPARES = {"compare_without": True}
"""What provenance.json says of a run that is to be compared."""
CAVEAT = (
    "a gain on the footage shows in data.val only if that has labelled frames of the same kind; with none, this says"
    " only whether the old domain suffered"
)


def run_without(run: Path) -> Path:
    """The run without the footage."""
    return run.with_name(f"{run.name}_without")


def values_without(config: FinetuneConfig) -> dict[str, Any]:
    """Key -> value of the training without the footage, where they differ: its forward passes and its steps have the
    labelled images that those with it have, rounded to a whole number."""
    data, optim = config.data, config.optim
    rest = 1 - exact_share(data.unlabelled_share)
    values: dict[str, Any] = {"data.unlabelled": "", "data.pseudo": ""}
    if not is_auto(optim.batch_size):
        batch_size = max(1, round(optim.batch_size * rest))
        accumulate = max(1, round(optim.batch_size * optim.accumulate * rest / batch_size))
        values["optim.batch_size"] = batch_size
        values |= {"optim.accumulate": accumulate} if accumulate != optim.accumulate else {}
    if data.source and not is_auto(data.source_share):
        values["data.source_share"] = round(float(exact_share(data.source_share) / rest), 6)
    return values


def commands_without(config: FinetuneConfig, run: Path) -> tuple[str, str]:
    """The commands for the run without the footage, and for its paired comparison with this one."""
    flags = [word for key, value in values_without(config).items() for word in (f"--{key}", value)]
    train = console.command("finetune", "--config", run / "config.yaml", *flags, "--out", run_without(run))
    metric = () if config.eval.metric == "AP" else ("--metric", config.eval.metric)
    return train, console.command("compare", run, run_without(run), *metric)


def is_compared(run: Path) -> bool:
    """Whether a run began with the comparison to follow; False for a folder that is not a run."""
    return (run / "provenance.json").is_file() and COMPARES.items() <= read_provenance(run).items()


def write_gain(run: Path, val: Dataset, config: FinetuneConfig) -> dict[str, Any]:
    """Compare the best weights of a run with those of the run without the footage on `val`; write unlabelled_gain.json,
    renew the model card, print which is better and which to use. Returns the document (`gain`)."""
    document = gain(run, val, config.eval.metric)
    write_json(run / GAIN, document)
    card = run / "README.md"
    before, after = ("\n".join(card_section(config, run, known)) for known in (None, document))
    write_atomically(card, card.read_text("utf-8").replace(before, after))
    console.say(document["verdict"], CAVEAT, f"use {document['use']}: {document['reason']}")
    console.wrote(run / GAIN)
    return document


def gain(run: Path, val: Dataset, metric: str) -> dict[str, Any]:
    """unlabelled_gain.json: the metric `with` and `without` the footage, `delta` (with minus without) with its 95 %
    interval, p and the smallest detectable difference, a verdict, and the checkpoint to `use`.

    That is the one with the footage only where it is better by interval and test.
    """
    other, drives = run_without(run), Drives.of(val.images)
    compared = difference(run / BEST_DETECTIONS, other / BEST_DETECTIONS, val, metric)
    document: dict[str, Any] = {"metric": metric, "run_with": str(run), "run_without": str(other)}
    document |= {"images": len(val.images), "drives": drives.n_drives}
    document |= {"with": compared["a"], "without": compared["b"]}
    document |= {key: compared[key] for key in ("delta", "draws", "warning")}
    helped = is_better(compared["delta"], drives)
    chosen = run if helped else other
    reason = "trained with the footage" if helped else "trained without the footage"
    if _best_epoch(chosen) == 0:
        reason += "; no epoch of it beats the start, whose weights these are"
    use = str(chosen / "checkpoints" / "best")
    return document | {"verdict": _verdict(document, drives), "use": use, "reason": reason}


def _verdict(document: dict[str, Any], drives: Drives) -> str:
    """One line: whether the footage helped, by how much, and how certain that is."""
    metric, delta = document["metric"], document["delta"]
    if document["with"] is None or document["without"] is None:
        return "whether the footage helped cannot be evaluated: the validation images contain no objects"
    change = f"{metric} {document['without']:.3f} without it, {document['with']:.3f} with it"
    if why := too_few(delta, drives):
        return f"the footage is not shown to help: {change} ({delta['point']:+.3f}), and {why}"
    interval = interval_in_words(delta, drives)
    if is_better(delta, drives):
        return f"the footage helped: {change} ({interval})"
    if is_worse(delta, drives):
        return f"the footage did not help, it did harm: {change} ({interval})"
    return f"the footage did not help: {change}, no statistically significant difference ({interval})"


def _best_epoch(run: Path) -> int | None:
    """The epoch of a finished run's best weights; 0 for its start."""
    epoch: int | None = json.loads((run / "outcome.json").read_text("utf-8"))["best"]["epoch"]
    return epoch


def card_section(config: FinetuneConfig, run: Path, known: dict[str, Any] | None) -> list[str]:
    """The lines of the model card on what the footage added; known: the document of `gain`."""
    if known is None:
        return [
            "The same training without the unlabelled frames was not run: a gain need not come from them. To run it and"
            " compare:",
            "",
            *(f"    {printable(command)}" for command in commands_without(config, run)),
        ]
    verdict = markdown(known["verdict"][:1].upper() + known["verdict"][1:])
    without = f"Compared with the same training without the footage, {markdown_code(known['run_without'])}:"
    return [
        f"{without} {verdict}.",
        f"{markdown(CAVEAT[:1].upper() + CAVEAT[1:])}.",
        f"Use {markdown_code(known['use'])}, {known['reason']}.",
    ]
