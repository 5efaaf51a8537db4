"""The YAML reader of the project: plain values with the line and the text of each.

Plain scalars follow YAML 1.2, in JSON's spelling: `true` and `false`, `null`, `~` and nothing, decimal integers,
decimal fractions with or without an exponent (`1e-3`), `.inf` and `.nan`. All else is text, as written: `yes`, `on`,
`0x10`, `1_000`, `012`, `2001-01-01`. Errors: a duplicated key, a tag (`!!int`), a merge key (`<<`), too many aliases,
too deep nesting and a document that is too large.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drivetl.errors import DataError, DrivetlError
from drivetl.files.read import read_text

KeyPath = tuple[str | int, ...]
"""The keys and list positions that lead to a value: ("steps", 0, "p")."""

MOST_CHARACTERS = 5_000_000
MOST_VALUES = 200_000
"""Values of a document with its aliases expanded: a few lines of nested aliases can expand to billions."""
MOST_ALIASES = 100
MOST_LEVELS = 50

_CONSTANTS = {"true": True, "false": False, "null": None, "Null": None, "NULL": None, "~": None, "": None}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})")
_FRACTION = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")
_PLAIN = "!plain"
"""Tag of a scalar without quotes and without a tag of its own."""
_FIX_SYNTAX = "fix the syntax"


@dataclass(frozen=True)
class Document:
    """A parsed document: plain values, and the line and text of each."""

    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Line of each key and list item, from 1; () is the line where the document begins."""
    texts: dict[KeyPath, str] = field(default_factory=dict)
    """Each scalar as it was written, without its quotes."""

    def line(self, path: KeyPath) -> int | None:
        """The line of a value, or of the nearest value around it that has one."""
        return next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), None)


def load_yaml(path: Path) -> Any:
    """The plain values of a YAML file. Raises DataError with file and line."""
    return read_yaml(path).value


def read_yaml(path: Path, kind: type[DrivetlError] = DataError) -> Document:
    """A YAML file with the line and the text of each value. Raises `kind` with file and line."""
    try:
        return parse_yaml(read_text(path))
    except DataError as error:
        raise kind(error.reason, remedy=error.remedy, file=path, line=error.line) from None


def parse_yaml(text: str) -> Document:
    """A YAML document from text. Raises DataError with the line, without a file."""
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"the YAML has over {MOST_CHARACTERS:,} characters", remedy="check that it is the right file")
    try:
        root = _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem if not (error.problem or "but").startswith("but") else f"{error.context} {error.problem}"
        raise DataError(f"not valid YAML: {reason}", remedy=_FIX_SYNTAX, line=mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise DataError("not valid YAML: a control character", remedy="remove it", line=line) from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        raise DataError("not valid YAML", remedy=_FIX_SYNTAX) from None
    if root is None:
        return Document(None)
    builder = _Builder()
    value = builder.build(root, (), root.start_mark.line + 1, ())
    return Document(value, builder.lines, builder.texts)


def read_scalar(text: str) -> bool | int | float | str | None:
    """The value of a plain scalar; anything but a constant or a number is text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text)
    special = _NOT_FINITE.fullmatch(text)
    return float(special[1] + special[2]) if special else text


class _Composer(yaml.SafeLoader):
    """Composes the nodes of a document; refuses tags, too many aliases and deep nesting before values are built."""

    aliases = 0
    levels = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                raise DataError(f"more than {MOST_ALIASES} aliases (*name)", remedy="write the values out", line=line)
        elif event.tag not in _TEXT_TAGS:
            shown = str(event.tag).replace("tag:yaml.org,2002:", "!!")[:60]
            raise DataError(f"the tag {shown} is not supported", remedy="write a plain value", line=line)
        if self.levels >= MOST_LEVELS:
            raise DataError(f"nested deeper than {MOST_LEVELS} levels", remedy="reduce the nesting", line=line)
        self.levels += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.levels -= 1
        return node

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """The tag of an untagged node: `read_scalar` decides which plain scalars are numbers, not YAML 1.1."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


class _Builder:
    """Builds plain values from nodes, with their lines and texts."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.texts: dict[KeyPath, str] = {}

    def build(self, node: yaml.Node, path: KeyPath, line: int, parents: tuple[yaml.Node, ...]) -> Any:
        """The value of a node; `line` is the line of its key, or of the node itself."""
        if node in parents:
            raise DataError("an alias refers to the value that contains it", remedy="write the value out", line=line)
        if len(self.lines) >= MOST_VALUES:
            raise DataError(f"more than {MOST_VALUES:,} values", remedy="check the aliases (*name)", line=line)
        self.lines[path] = line
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*parents, node))
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, (*path, index), item.start_mark.line + 1, (*parents, node))
                for index, item in enumerate(node.value)
            ]
        if not node.value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise DataError("a text contains a lone surrogate (half of a UTF-16 pair)", remedy="remove it", line=line)
        self.texts[path] = node.value
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, parents: tuple[yaml.Node, ...]) -> dict[str | int, Any]:
        values: dict[str | int, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _key(key_node, line)
            if key in values:
                first = self.lines[(*path, key)]
                raise DataError(
                    f"key {str(key)!r} is duplicated, it is on line {first} and on line {line}",
                    remedy="remove one of them",
                    line=line,
                )
            values[key] = self.build(value_node, (*path, key), line, parents)
        return values


def _key(node: yaml.Node, line: int) -> str | int:
    """A key: a whole number, or else its text."""
    if not isinstance(node, yaml.ScalarNode):
        raise DataError("a key is a list or a mapping", remedy="use a text as key", line=line)
    if node.value == "<<" and node.tag == _PLAIN:
        raise DataError("merge keys (<<) are not supported", remedy="write the keys out", line=line)
    value = _scalar(node)
    return value if isinstance(value, int) and not isinstance(value, bool) else str(node.value)


def _scalar(node: yaml.Node) -> bool | int | float | str | None:
    return read_scalar(node.value) if node.tag == _PLAIN else str(node.value)
