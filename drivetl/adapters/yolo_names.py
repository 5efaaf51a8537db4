"""The class names of YOLO exports: data.yaml, *.names or classes.txt, each for the label files next to and below it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from drivetl.errors import DataError
from drivetl.files.fields import array, shown, whole
from drivetl.files.paths import files_below
from drivetl.files.read import read_text
from drivetl.files.yaml_reader import read_yaml

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "obj.names", "classes.txt", "labels.txt")
"""Files that hold class names by their name; any other *.names or YAML file may hold them too."""


@dataclass(frozen=True, slots=True)
class Names:
    """The class names of a label file."""

    names: tuple[str, ...] = ()
    """In the order of their numbers; () when there is no names file: the numbers are then the labels."""
    keypoints: tuple[int, int] | None = None
    """kpt_shape of pose labels: (number of keypoints, 2 or 3 values for each)."""
    path: Path | None = None


class NameFiles:
    """All names files of a root. Raises DataError that names both files when two of one folder disagree."""

    def __init__(self, root: Path):
        self.root = root
        self.sources = _find(root)
        for first, second in combinations(self.sources, 2):
            if _folder(first) == _folder(second):
                _refuse_disagreement(first, second)
        contents = {(source.names, source.keypoints) for source in self.sources}
        self._common = self.sources[0] if len(contents) == 1 else None if self.sources else Names()

    def declared(self) -> tuple[str, ...]:
        """The names of all files, each once."""
        return tuple(dict.fromkeys(name for source in self.sources for name in source.names))

    def of(self, label_file: Path) -> Names:
        """The names for a label file: those of its own folder or of a folder above it, when the files disagree.

        Raises DataError when two files above disagree, or when none of the files is above.
        """
        if self._common is not None:
            return self._common
        above = [source for source in self.sources if label_file.is_relative_to(_folder(source))]
        for first, second in combinations(above, 2):
            _refuse_disagreement(first, second)
        if not above:
            _refuse_disagreement(self.sources[0], _other(self.sources))
        return above[0]


def _find(root: Path) -> list[Names]:
    """The names files below a root, those nearest to the root first. Raises DataError for one that cannot be read."""
    texts = [name for name in files_below(root, ".txt") if Path(name).name.lower() in NAME_FILES]
    paths = [Path(name) for name in [*files_below(root, ".yaml", ".yml", ".names"), *texts]]
    sources, problem = [], None
    for path in sorted(paths, key=lambda path: (len(path.parts), path.name not in NAME_FILES, path)):
        try:
            source = read_names(path)
        except DataError as error:
            if path.name in NAME_FILES:
                raise
            problem = problem or error  # a YAML file of something else
            continue
        if source.names or source.keypoints:
            sources.append(source)
    if problem is not None and not sources:
        raise problem
    return sources


def _folder(source: Names) -> Path:
    assert source.path is not None
    return source.path.parent


def _other(sources: list[Names]) -> Names:
    return next(source for source in sources if source.names != sources[0].names or source.keypoints)


def _refuse_disagreement(first: Names, second: Names) -> None:
    if (first.names, first.keypoints) == (second.names, second.keypoints):
        return
    differing = f"{shown(list(first.names))} and {shown(list(second.names))}"
    if first.names == second.names:
        differing = f"kpt_shape {first.keypoints} and {second.keypoints}"
    raise DataError(
        f"names other classes than {second.path}: {differing}",
        remedy="keep the file that belongs to the labels, or convert each export alone and merge them",
        file=first.path,
    )


def read_names(path: Path) -> Names:
    """Names in order from a data.yaml (a list or {number: name}) or a file with one name per line."""
    if path.suffix not in (".yaml", ".yml"):
        lines = tuple(line.strip() for line in read_text(path).rstrip().splitlines())
        return Names(() if any(map(_is_label_row, lines)) else lines, path=path)
    document = read_yaml(path)
    if not isinstance(document.value, dict):
        return Names()
    names = document.value.get("names")
    if isinstance(names, dict):
        missing = next((number for number in range(len(names)) if number not in names), None)
        if missing is not None:
            raise DataError(f"names has no entry {missing}", remedy="number the classes 0, 1, 2, ...", file=path)
    positions = range(len(names)) if isinstance(names, list | dict) else ()
    written = [document.texts.get(("names", number)) for number in positions]  # `true` is a name, not a truth value
    if (names is not None and not isinstance(names, list | dict)) or None in written:
        raise DataError(f"names is {shown(names)}, not a list of names", remedy="write a list of names", file=path)
    count = document.value.get("nc")
    if names is not None and isinstance(count, int) and count != len(names):
        raise DataError(
            f"nc is {count}, names has {len(names)} entries",
            remedy="write one name per class, in the order of their numbers",
            file=path,
        )
    keypoints = document.value.get("kpt_shape")
    try:
        shape = tuple(whole(value, "kpt_shape", texts=False) for value in array(keypoints, "kpt_shape"))
    except DataError as error:
        raise error.at(path) from None
    if shape and not (len(shape) == 2 and shape[0] > 0 and shape[1] in (2, 3)):
        raise DataError(f"kpt_shape is {shown(keypoints)}", remedy="write [number of keypoints, 2 or 3]", file=path)
    return Names(tuple(map(str, written)), (shape[0], shape[1]) if len(shape) == 2 else None, path)


def _is_label_row(line: str) -> bool:
    """Whether a line is five or more numbers: the file is the label file of an image called `labels` or `classes`."""
    fields = line.split()
    return len(fields) >= 5 and all(field.lstrip("+-").replace(".", "", 1).isdecimal() for field in fields)
