"""KITTI's official 2-D evaluation written out as plain loops, and made-up frames that exercise each of its rules.

The procedure is that of the object devkit's evaluation as its paper and readme describe it (Geiger et al. 2012, with 41
recall positions since October 2019): frame by frame, object by object, detection by detection. It is slow and shares
nothing with `drivetl.metrics.kitti_ap`, which it checks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

CLASSES = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
"""Evaluated class -> the overlap that a detection must exceed."""
NEIGHBOURS = {"car": "van", "pedestrian": "person_sitting", "cyclist": None}
LEVELS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.30), "hard": (25, 2, 0.50)}
"""Level -> (minimal height in px, largest occlusion, largest truncation)."""
POSITIONS = 41

Box = tuple[float, float, float, float]
Frame = tuple[list[str], list[str]]
"""Lines of a label file, lines of a result file."""


@dataclass
class Item:
    """A line of a label or result file."""

    name: str
    truncated: float
    occluded: float
    box_xyxy: Box
    score: float = 0.0

    @classmethod
    def of(cls, line: str) -> Item:
        words = line.split()
        numbers = [float(word) for word in words[1:]]
        return cls(words[0].lower(), numbers[0], numbers[1], tuple(numbers[3:7]), numbers[14] if numbers[14:] else 0.0)

    @property
    def height(self) -> float:
        return self.box_xyxy[3] - self.box_xyxy[1]


@dataclass
class Part:
    """What of a frame takes part in the evaluation of one class at one level."""

    counts: list[bool]
    """Of each object: True when it must be found, False when it is ignored."""
    scores: list[float]
    ignored: list[bool]
    """Of each detection: too small, so neither right nor wrong."""
    in_dontcare: list[bool]
    overlapping: list[list[tuple[int, float]]]
    """Of each object: (detection, IoU) of those above the minimal overlap, in the file's order."""


def evaluate(frames: list[Frame]) -> dict[str, dict[str, tuple[list[float], int]]]:
    """Class -> level -> (precision at 41 recall positions, number of objects that count)."""
    items = [([Item.of(line) for line in labels], [Item.of(line) for line in results]) for labels, results in frames]
    return {
        name: {level: _evaluate([_part(*frame, name, level) for frame in items], level) for level in LEVELS}
        for name in CLASSES
    }


def _part(labels: list[Item], results: list[Item], name: str, level: str) -> Part:
    min_height, max_occlusion, max_truncation = LEVELS[level]
    objects, counts = [], []
    for label in labels:
        too_hard = label.occluded > max_occlusion or label.truncated > max_truncation or label.height <= min_height
        if label.name in (name, NEIGHBOURS[name]):
            objects.append(label)
            counts.append(label.name == name and not too_hard)
    detections, ignored = [], []
    for result in results:
        small = abs(result.height) < min_height  # of whatever class
        if small or result.name == name:
            detections.append(result)
            ignored.append(small)
    dontcare = [label.box_xyxy for label in labels if label.name == "dontcare"]
    return Part(
        counts,
        [item.score for item in detections],
        ignored,
        [any(_share(item.box_xyxy, region) > CLASSES[name] for region in dontcare) for item in detections],
        [
            [
                (number, iou)
                for number, item in enumerate(detections)
                if (iou := _iou(item.box_xyxy, label.box_xyxy)) > CLASSES[name]
            ]
            for label in objects
        ],
    )


def _intersection(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _iou(a: Box, b: Box) -> float:
    both = _intersection(a, b)
    return both / (_area(a) + _area(b) - both) if both else 0.0


def _share(box: Box, region: Box) -> float:
    both = _intersection(box, region)
    return both / _area(box) if both else 0.0


def _evaluate(parts: list[Part], level: str) -> tuple[list[float], int]:
    n_objects = sum(sum(part.counts) for part in parts)
    hits = sorted((score for part in parts for score in _scores_of_hits(part)), reverse=True)
    precision = [0.0] * POSITIONS
    for position, threshold in enumerate(_thresholds(hits, n_objects)):
        found, wrong = 0, 0
        for part in parts:
            more_found, more_wrong = _count(part, threshold)
            found, wrong = found + more_found, wrong + more_wrong
        precision[position] = found / (found + wrong) if found + wrong else 0.0
    return [max(precision[position:]) for position in range(POSITIONS)], n_objects


def _scores_of_hits(part: Part) -> list[float]:
    """First pass: each object takes the free detection of the highest score, of equal ones the first."""
    taken: set[int] = set()
    scores = []
    for counts, overlapping in zip(part.counts, part.overlapping, strict=True):
        best = None
        for number, _ in overlapping:
            if number not in taken and (best is None or part.scores[number] > part.scores[best]):
                best = number
        if best is not None:
            taken.add(best)
            if counts and not part.ignored[best]:
                scores.append(part.scores[best])
    return scores


def _thresholds(scores: list[float], n_objects: int) -> list[float]:
    """The scores at which recall comes closest to 0, 1/40, 2/40, ...

    The steps are summed up, as the official evaluator does: where two scores are equally close, rounding decides.
    """
    kept: list[float] = []
    target = 0.0
    for number, score in enumerate(scores):
        here, following = (number + 1) / n_objects, (number + 2) / n_objects
        is_last = number == len(scores) - 1
        if is_last or following - target >= target - here:
            kept.append(score)
            target += 1 / (POSITIONS - 1)
    return kept[:POSITIONS]


def _count(part: Part, threshold: float) -> tuple[int, int]:
    """Second pass: (true, false) positives among the detections that reach a threshold.

    Each object takes the free detection that overlaps it most; a detection that is ignored only when no other does.
    """
    taken: set[int] = set()
    found = 0
    for counts, overlapping in zip(part.counts, part.overlapping, strict=True):
        usable = [(number, iou) for number, iou in overlapping if part.scores[number] >= threshold]
        usable = [(number, iou) for number, iou in usable if number not in taken]
        real = [(number, iou) for number, iou in usable if not part.ignored[number]]
        if real:
            choice = max(real, key=lambda pair: pair[1])[0]  # of equal ones the first
        elif usable:
            choice = usable[0][0]
        else:
            continue
        taken.add(choice)
        found += counts and not part.ignored[choice]
    wrong = sum(
        score >= threshold and number not in taken and not part.ignored[number] and not part.in_dontcare[number]
        for number, score in enumerate(part.scores)
    )
    return found, wrong


def line_of(name: str, truncated: float, occluded: int, box: Box, score: float | None = None) -> str:
    """A line of a label file; with a score, of a result file."""
    numbers = [truncated, occluded, -10, *box, -1, -1, -1, -1000, -1000, -1000, -10]
    return " ".join([name, *(f"{value:g}" for value in numbers), *([] if score is None else [f"{score:g}"])])


CONFUSED = {
    "Car": "Van",
    "Van": "Car",
    "Truck": "Car",
    "Pedestrian": "Person_sitting",
    "Person_sitting": "Pedestrian",
    "Cyclist": "Pedestrian",
    "Misc": "Cyclist",
}
"""Label -> what a detector takes it for."""
NAMES = ("Car", "Car", "Pedestrian", "Pedestrian", "Cyclist", "Cyclist", *CONFUSED)
HEIGHTS = (20, 24.5, 25, 25.5, 30, 39, 40, 41, 50, 60, 80, 100)
"""Around the minimal heights, which belong to one side for labels and to the other for detections."""
TRUNCATIONS = (0, 0, 0, 0, 0, 0, 0.15, 0.16, 0.3, 0.31, 0.5, 0.51)
OCCLUSIONS = (0, 0, 0, 0, 1, 2, 3)


def random_frames(seed: int, n_frames: int = 100) -> list[Frame]:
    """Frames in which every rule of the evaluation decides something, the same for the same seed."""
    rng = random.Random(seed)
    return [_random_frame(rng) for _ in range(n_frames)]


def _random_frame(rng: random.Random) -> Frame:
    labels, results = [], []
    for _ in range(rng.randrange(7)):
        name, height = rng.choice(NAMES), rng.choice(HEIGHTS)
        x, y = rng.randrange(0, 300, 20), rng.randrange(100, 200, 10)
        box = (x, y, x + height, y + height)
        labels.append(line_of(name, rng.choice(TRUNCATIONS), rng.choice(OCCLUSIONS), box))
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
            taken_for = rng.choice((name, name, name, name, name, CONFUSED[name]))
            results.append(_result(rng, taken_for, _near(rng, box)))
        if rng.random() < 0.2:  # a little too small, of a class that is not evaluated
            results.append(_result(rng, "Misc", (x, y, x + height, y + height * 0.97)))
    for _ in range(rng.choice((0, 0, 0, 1))):
        x, y, side = rng.randrange(0, 300, 20), rng.randrange(100, 200, 10), rng.choice((50, 100, 150))
        if rng.random() < 0.7:
            labels.insert(rng.randrange(len(labels) + 1), line_of("DontCare", -1, -1, (x, y, x + side, y + side)))
        results.append(_result(rng, rng.choice(NAMES), (x, y, x + 45, y + 45)))
    rng.shuffle(results)
    return labels, results


def _near(rng: random.Random, box: Box) -> Box:
    """The box itself, moved, or cut to exactly the overlap that is one too little."""
    x1, y1, x2, y2 = box
    height = y2 - y1
    kind = rng.choice(("same", "same", "moved", "moved", "moved", "moved", "cut"))
    if kind == "cut":
        return x1, y1, x2, y1 + height * rng.choice((0.5, 0.7, 0.75))
    shift = 0 if kind == "same" else height * rng.choice((-0.2, -0.1, -0.05, 0.05, 0.1, 0.15))
    return x1 + shift, y1, x2 + shift, y2


def _result(rng: random.Random, name: str, box: Box) -> str:
    return line_of(name, -1, -1, box, rng.choice([number / 20 for number in range(1, 20)]))
