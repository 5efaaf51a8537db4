"""XML from strangers: read in a stream through defusedxml, with line numbers, bounded in depth."""

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
"""Deeper nesting is no annotation."""

CHUNK_BYTES = 1 << 16


@dataclass(slots=True)
class Node:
    """One element: tag, attributes, text, children and the line it begins on."""

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
        """The stripped text below a path like `size/width`; the default where there is none."""
        node: Node | None = self
        for tag in path.split("/"):
            node = node.child(tag) if node is not None else None
        return node.text.strip() if node is not None else default

    def need(self, name: str) -> str:
        """An attribute that has to be there. Raises DataError with the line."""
        if name not in self.attributes:
            raise DataError(
                f"<{self.tag}> has no attribute {name!r}", remedy="mend or remove the element", line=self.line
            )
        return self.attributes[name]


class _Builder:
    """Builds nodes straight from expat's callbacks; finished children of the root wait in `done`.

    defusedxml's parser guards entities and external references; going past its Python layer for the elements
    themselves halves the time of a large file, and gives the line numbers.
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
            raise DataError(f"nested deeper than {MAX_DEPTH} elements", remedy="this is no annotation", line=line)
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
    """The children of a file's root element, each when it is complete, so that memory holds one at a time.

    Raises DataError with file and line for anything that is no XML with this root: a file cut off, entities, wrong
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
    """Feed bytes (None: the end); every complaint of the parser becomes a DataError with its line."""
    try:
        if chunk is None:
            parser.close()
        else:
            parser.feed(chunk)
    except DefusedXmlException as error:
        raise DataError(
            f"declares {type(error).__name__.removesuffix('Forbidden').lower()}, which annotations never need",
            remedy="remove the declaration",
            line=int(parser.parser.CurrentLineNumber),
        ) from None
    except ParseError as error:
        remedy = "the file may be cut off" if chunk is None else "mend the syntax or the encoding"
        raise DataError(f"not valid XML: {error.msg}", remedy=remedy, line=error.position[0]) from None
    except (ValueError, LookupError) as error:
        raise DataError(f"not readable XML: {error}", remedy="save it as UTF-8") from None
