"""Read untrusted XML as a stream through defusedxml, with line numbers and a limit of depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from drivetl.errors import DataError
from drivetl.files.fields import shown

MAX_DEPTH = 60
"""Annotations are never nested deeper."""

CHUNK_BYTES = 1 << 16


@dataclass(slots=True)
class Node:
    """One element: tag, attributes, text, children and its first line."""

    tag: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def child(self, tag: str) -> Node | None:
        """The first child with this tag."""
        return next((node for node in self.children if node.tag == tag), None)

    def all(self, tag: str) -> list[Node]:
        """The children with this tag."""
        return [node for node in self.children if node.tag == tag]

    def value(self, path: str, default: str = "") -> str:
        """The stripped text at a path like `size/width`; the default when there is no such element."""
        node: Node | None = self
        for tag in path.split("/"):
            node = node.child(tag) if node is not None else None
        return node.text.strip() if node is not None else default

    def need(self, name: str) -> str:
        """A required attribute. Raises DataError with the line."""
        if name not in self.attributes:
            raise DataError(
                f"<{self.tag}> has no attribute {name!r}", remedy="fix or remove the element", line=self.line
            )
        return self.attributes[name]


class _Builder:
    """Builds nodes directly from expat's callbacks; complete children of the root are in `done`.

    defusedxml's parser refuses entities and external references; bypassing its Python layer for the elements halves
    the time of a large file and gives the line numbers.
    """

    def __init__(self) -> None:
        self.parser = DefusedXMLParser(target=self)
        self.expat = self.parser.parser
        self.expat.ordered_attributes = False
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end
        self.expat.CharacterDataHandler = self._text
        self.stack: list[Node] = []
        self.root: Node | None = None
        self.done: list[Node] = []

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        line = int(self.expat.CurrentLineNumber)
        if len(self.stack) >= MAX_DEPTH:
            raise DataError(
                f"nested deeper than {MAX_DEPTH} elements", remedy="this is not an annotation file", line=line
            )
        self.stack.append(Node(tag, attributes, line))
        self.root = self.root or self.stack[0]

    def _text(self, text: str) -> None:
        self.stack[-1].text += text

    def _end(self, _tag: str) -> None:
        node = self.stack.pop()
        if len(self.stack) == 1:
            self.done.append(node)
        elif self.stack:
            self.stack[-1].children.append(node)

    def close(self) -> None:
        """Called by the parser at the end of the file."""


def stream(path: Path, root_tag: str) -> Iterator[Node]:
    """The children of a file's root element, one at a time, so that memory holds only one of them.

    Raises DataError with file and line when the file is not XML with this root: truncated, with entities, in a wrong
    encoding.
    """
    builder = _Builder()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                _feed(builder.parser, chunk)
                if builder.root is not None and builder.root.tag != root_tag:
                    raise DataError(
                        f"root element <{shown(builder.root.tag)[1:-1]}>, not <{root_tag}>",
                        remedy="check --format",
                        line=builder.root.line,
                    )
                yield from builder.done
                builder.done.clear()
        _feed(builder.parser, None)
        yield from builder.done
    except DataError as error:
        raise error.at(path) from None
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})", remedy="check the path and its permissions", file=path
        ) from None


def root_tag(path: Path) -> str:
    """The tag of a file's root element; empty when it is not XML."""
    builder = _Builder()
    try:
        with path.open("rb") as file:
            while builder.root is None and (chunk := file.read(CHUNK_BYTES)):
                _feed(builder.parser, chunk)
    except (DataError, OSError):
        return builder.root.tag if builder.root is not None else ""
    return builder.root.tag if builder.root is not None else ""


def _feed(parser: Any, chunk: bytes | None) -> None:
    """Feed bytes (None: the end of the file); errors of the parser become a DataError with the line."""
    try:
        if chunk is None:
            parser.close()
        else:
            parser.feed(chunk)
    except DefusedXmlException as error:
        raise DataError(
            f"declares {type(error).__name__.removesuffix('Forbidden').lower()}, which annotations do not need",
            remedy="remove the declaration",
            line=int(parser.parser.CurrentLineNumber),
        ) from None
    except ParseError as error:
        remedy = "the file may be truncated" if chunk is None else "fix the syntax or the encoding"
        raise DataError(f"not valid XML: {error.msg}", remedy=remedy, line=error.position[0]) from None
    except (ValueError, LookupError) as error:
        raise DataError(f"not readable XML: {error}", remedy="save the file as UTF-8") from None
