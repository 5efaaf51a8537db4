"""Head surgery by relation: the rows of a new head, built from the rows of a pretrained one.

    plan = surgery.plan(source.categories, taxonomy.categories, taxonomy.relation(), source.relation)
    report = surgery.load(model, source.state, plan)
    report.show(); report.save(run / "surgery.json")

Classes are related by name; their order and number do not matter. A class that grows out of exactly one source class
gets that class's rows unchanged (kept), out of several their weighted mean (mapped). A class without a related source
class (reset) gets the mean of all source classes. Its logit is then the mean of theirs, and because exp is convex
(Jensen), its probability starts below that of the average source class. No random numbers are used. Its box and mask
rows are also the mean over all source classes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drivetl import console
from drivetl.coco.class_map import fold
from drivetl.errors import CheckpointError, ConfigError, nearest
from drivetl.files.write import write_atomically
from drivetl.models.state_keys import State, modern_keys, without_counters

Relation = Mapping[str, Mapping[str, float]]
"""Class -> {class it grows out of: weight}."""
Status = Literal["kept", "mapped", "reset"]
Fate = Literal["kept", "mapped", "reset", "mismatched", "unused"]

BACKGROUND = "__background__"
NO_CLASS = "N/A"
"""torchvision's name for the ten unused slots of COCO's 91: their rows were trained on background only."""

_HEAD = re.compile(r"(^|\.)(box_predictor\.(.*\.)?(cls_score|bbox_pred)|mask_predictor\.(.*\.)?mask_fcn_logits)\.")
MASK_BRANCH = re.compile(r"(^|\.)roi_heads\.mask_")
"""Tensors of the mask branch. A source without one may start a Mask R-CNN, and one with it a Faster R-CNN."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Where one class of the new head comes from."""

    name: str
    status: Status
    rows: tuple[int, ...]
    """Rows of the source head, 0 is background; empty when reset."""
    weights: tuple[float, ...]
    """One per row; they sum to 1."""
    sources: tuple[str, ...]
    """Names of the rows' classes."""

    def describe(self) -> str:
        """`person`, or `0.5 person + 0.5 bicycle`, or that no class is related."""
        if self.status == "reset":
            return "no related class: mean of all source classes"
        if self.status == "kept":
            return self.sources[0]
        return " + ".join(f"{weight:.3g} {name}" for weight, name in zip(self.weights, self.sources, strict=True))


@dataclass(frozen=True, slots=True)
class Plan:
    """The new head, class by class."""

    source_classes: tuple[str, ...]
    """In label order, without the background."""
    classes: tuple[ClassRow, ...]
    """In the target's label order; classes[0] is the background, kept."""

    @property
    def grounded(self) -> tuple[str, ...]:
        """The target's classes that have a source: those it can be evaluated on before the first step."""
        return tuple(item.name for item in self.classes[1:] if item.status != "reset")

    def show(self) -> None:
        """Print the plan as a table."""
        rows = [(item.name, item.status, item.describe()) for item in self.classes[1:]]
        console.table("Head surgery", ("class", "rows", "from"), rows)


@dataclass(frozen=True, slots=True)
class TensorLine:
    """What became of one tensor."""

    key: str
    status: Fate
    """kept: copied unchanged; mapped: built by the plan; reset, mismatched: the model's own initial values; unused:
    only the source has it."""
    source_shape: tuple[int, ...] | None
    target_shape: tuple[int, ...] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Every tensor of the model and of the source, and what became of it."""

    plan: Plan
    tensors: tuple[TensorLine, ...]

    def counts(self) -> dict[str, int]:
        """Status -> number of tensors."""
        return dict(sorted(Counter(line.status for line in self.tensors).items()))

    def show(self) -> None:
        """Print the classes, the number of copied tensors, and every tensor that was not simply copied."""
        self.plan.show()
        changed = [line for line in self.tensors if line.status != "kept"]
        rows = [
            (line.key, line.status, _shape(line.source_shape), _shape(line.target_shape), line.reason)
            for line in changed
        ]
        title = f"Tensors: {self.counts().get('kept', 0)} copied unchanged; the others:"
        console.table(title, ("tensor", "status", "source", "target", "reason"), rows)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: the plan, and what became of every tensor."""
        return {
            "classes": [asdict(item) for item in self.plan.classes],
            "source_classes": self.plan.source_classes,
            "counts": self.counts(),
            "tensors": [asdict(line) for line in self.tensors],
        }

    def save(self, path: Path) -> None:
        """Write surgery.json."""
        write_atomically(path, json.dumps(self.as_dict(), indent=1) + "\n")


def plan(
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    relation: Relation,
    source_relation: Relation | None = None,
) -> Plan:
    """For each target class the source rows it is built from.

    `source_classes`: in label order without the background (a leading `__background__` is left out, `N/A` slots are
    not classes). `relation`: what each target class grows out of; `source_relation`: the same for the source's classes.
    The first rule that applies: a relation that names the class itself, a source class of the same name, the relation's
    names in the source, the source class that grew out of the same classes (`person <- pedestrian` when the source's
    pedestrian grew out of person). Weights of names that the source lacks are distributed over the others.
    Raises ConfigError without target classes or for a related class that neither the source nor COCO has,
    CheckpointError for a source without classes.
    """
    names = tuple(source_classes[1:] if list(source_classes[:1]) == [BACKGROUND] else source_classes)
    if not target_classes:
        raise ConfigError("the target has no classes", remedy="convert a dataset with at least one")
    if not any(name != NO_CLASS for name in names):
        raise CheckpointError("the source has no classes", remedy="start from a detector, or use model.start imagenet")
    ancestry = {name: dict((source_relation or {}).get(name) or {name: 1.0}) for name in names if name != NO_CLASS}
    vocabulary = set(ancestry) | {item for parents in ancestry.values() for item in parents} | _coco_names()
    rows = [ClassRow(BACKGROUND, "kept", (0,), (1.0,), (BACKGROUND,))]
    for name in target_classes:
        parents = dict(relation.get(name) or {name: 1.0})
        _check_known(name, parents, vocabulary)
        rows.append(_class_row(name, _sources(name, parents, ancestry), names))
    return Plan(names, tuple(rows))


def _sources(name: str, parents: dict[str, float], ancestry: dict[str, dict[str, float]]) -> dict[str, float]:
    """Source class -> weight, not normalised; empty without a related class.

    parents: what the target class grows out of; ancestry: source class -> what it grew out of.
    """
    known = {fold(source): source for source in reversed(ancestry)}
    own = known.get(fold(name))
    direct = {known[fold(parent)]: weight for parent, weight in parents.items() if fold(parent) in known}
    if own is not None and own not in direct:
        return {own: 1.0}
    if own is not None or sum(direct.values()) >= 1 - 1e-6:
        return direct
    overlap = {source: _shared(parents, source_parents) for source, source_parents in ancestry.items()}
    best = max(overlap.values())
    if best > sum(direct.values()) and best >= 0.5:
        return {source: 1.0 for source, share in overlap.items() if share > best - 1e-6}
    return direct


def _shared(first: dict[str, float], second: dict[str, float]) -> float:
    """The weight that two ancestries have in common, 0..1."""
    folded = {fold(name): weight for name, weight in second.items()}
    return sum(min(weight, folded.get(fold(name), 0.0)) for name, weight in first.items())


def _class_row(name: str, sources: dict[str, float], names: tuple[str, ...]) -> ClassRow:
    if not sources:
        return ClassRow(name, "reset", (), (), ())
    total = sum(sources.values())
    rows = tuple(names.index(source) + 1 for source in sources)
    weights = tuple(weight / total for weight in sources.values())
    return ClassRow(name, "kept" if len(rows) == 1 else "mapped", rows, weights, tuple(sources))


def _check_known(name: str, parents: dict[str, float], vocabulary: set[str]) -> None:
    folded = {fold(item) for item in vocabulary}
    for parent in parents:
        if fold(parent) not in folded and fold(parent) != fold(name):
            raise ConfigError(
                f"class {name!r} grows out of {parent!r}, which neither the source nor COCO has",
                remedy=nearest(parent, sorted(vocabulary), "name a class of the source"),
            )


def _coco_names() -> set[str]:
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    return set(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]) - {BACKGROUND, NO_CLASS}


def apply(state: State, plan: Plan) -> State:
    """The state with the class, box and mask rows of its heads built by the plan; other tensors are unchanged.

    Keys are torchvision's, with any prefix before `box_predictor` and `mask_predictor`. Raises CheckpointError unless a
    head has one row (a box head four) per source class and background.
    """
    return {key: _rebuild(key, value, plan) if _HEAD.search(key) else value for key, value in state.items()}


def row_classes(key: str, n_rows: int) -> list[int] | None:
    """For every row of a head's tensor its class, 0 the background; None for a tensor of no head."""
    per_class = _per_class(key)
    return [row // per_class for row in range(n_rows)] if _HEAD.search(key) else None


def _per_class(key: str) -> int:
    return 4 if ".bbox_pred." in key else 1


def _rebuild(key: str, value: Tensor, plan: Plan) -> Tensor:
    per_class = _per_class(key)
    expected = per_class * (len(plan.source_classes) + 1)
    if value.ndim == 0 or len(value) != expected:
        actual = _shape(tuple(value.shape))
        remedy = "use weights whose heads agree, and name their classes, one per line, in <weights file>.classes.txt"
        if per_class == 4 and value.ndim and len(value) == 4:
            actual += ", one box for all classes"
            remedy = f"repeat the 4 rows {expected // 4} times, which detects the same, and save the weights again"
        raise CheckpointError(
            f"tensor {key}: expected {expected} rows for {len(plan.source_classes)} classes and background, found"
            f" {actual}",
            remedy=remedy,
        )
    grouped = value.reshape(-1, per_class, *value.shape[1:])
    real_classes = [number for number, name in enumerate(plan.source_classes, 1) if name != NO_CLASS]
    rows = []
    for item in plan.classes:
        if item.status == "kept":
            rows.append(grouped[item.rows[0]])
        elif item.status == "mapped":
            weights = grouped.new_tensor(item.weights).view(-1, *[1] * (grouped.ndim - 1))
            rows.append((grouped[list(item.rows)] * weights).sum(0))
        else:
            rows.append(grouped[real_classes].mean(0))
    return torch.stack(rows).flatten(0, 1)


def load(model: nn.Module, state: State, plan: Plan, may_differ: Sequence[str] = ()) -> Report:
    """Load a source's weights into a model of the target's classes, and account for every tensor on both sides.

    `may_differ`: prefixes of keys that may be missing or of another shape and then keep the model's own values. The
    mask branch may be missing as a whole too. Raises CheckpointError, before anything is changed, that names the
    tensors that are missing or of another shape, for the first one with the expected and the actual shape.
    """
    own = without_counters(model.state_dict())
    source = without_counters(modern_keys(state))
    built = apply({key: value for key, value in source.items() if key in own}, plan)
    without_masks = not any(MASK_BRANCH.search(key) for key in source)
    lines, fitting, misfits = [], {}, []
    for key in sorted(own.keys() | source.keys()):
        shapes = (tuple(source[key].shape) if key in source else None, tuple(own[key].shape) if key in own else None)
        fate = _fate(key, own.get(key), built.get(key), tuple(may_differ), without_masks)
        if fate is None:
            misfits.append(key)
            continue
        status, reason = fate
        lines.append(TensorLine(key, status, *shapes, reason))
        if status in ("kept", "mapped"):
            fitting[key] = built[key]
    if misfits:
        first = misfits[0]
        actual = _shape(tuple(built[first].shape)) if first in built else "nothing"
        raise CheckpointError(
            f"tensor {first}: expected {_shape(tuple(own[first].shape))}, found {actual}{and_more(misfits)}",
            remedy="use weights of this architecture",
        )
    model.load_state_dict(fitting, strict=False)
    return Report(plan, tuple(lines))


def _fate(
    key: str, own: Tensor | None, built: Tensor | None, may_differ: tuple[str, ...], without_masks: bool
) -> tuple[Fate, str] | None:
    """What becomes of a tensor, and why; None: it does not fit and may not differ."""
    masks = MASK_BRANCH.search(key) is not None
    if own is None:
        return "unused", f"dropped: the model has no {'mask branch' if masks else 'such tensor'}"
    if built is not None and built.shape == own.shape:
        return ("mapped", "rows by class") if _HEAD.search(key) else ("kept", "same shape")
    if built is None and masks and without_masks:
        return "reset", "new: the source has no mask branch"
    if built is None and key.startswith(may_differ):
        return "reset", "new: the source has no such tensor"
    if built is not None and key.startswith(may_differ):
        return "mismatched", "new: the source's shape differs"
    return None


def and_more(keys: Sequence[str]) -> str:
    """The end of an error about the first of several tensors: the number of the others, and the next few names."""
    others = keys[1:4]
    if not others:
        return ""
    dots = ", ..." if len(keys) > 4 else ""
    return f" (and {len(keys) - 1} more that do not fit: {', '.join(others)}{dots})"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "scalar"
