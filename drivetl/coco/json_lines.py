"""The line of a record in a JSON text, for errors: the fast parser does not report lines."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

from drivetl.coco.records import JsonPlace

_SPACE = re.compile(r"[\s,:]*")
_DECODER = json.JSONDecoder()


class JsonText:
    """A JSON text in which the lines of records are searched; each list is scanned once."""

    def __init__(self, data: bytes):
        self.text = data.decode("utf-8-sig", "replace")
        self._items: dict[int, list[int]] = {}
        """Offset of a list's `[` -> offsets of its records."""

    def line(self, place: JsonPlace) -> int | None:
        """The line, from 1, on which the record at `place` begins; None when it does not exist."""
        try:
            at = _skip(self.text, 0)
            for step in place:
                at = self._key(at, step) if isinstance(step, str) else self._item(at, step)
            return self.text.count("\n", 0, at) + 1
        except (ValueError, IndexError, RecursionError):
            return None

    def _key(self, at: int, key: str) -> int:
        """The offset of a key's value in the object at `at`. Raises ValueError when it is missing."""
        self._open("{", at)
        at += 1
        while True:
            name, at = _DECODER.raw_decode(self.text, _skip(self.text, at))
            at = _skip(self.text, at)
            if name == key:
                return at
            _, at = _DECODER.raw_decode(self.text, at)

    def _item(self, at: int, position: int) -> int:
        """The offset of a record of the list at `at`. Raises ValueError or IndexError when it is missing."""
        if at not in self._items:
            self._open("[", at)
            starts, end = [], _skip(self.text, at + 1)
            while self.text[end : end + 1] != "]":
                starts.append(end)
                _, end = _DECODER.raw_decode(self.text, end)
                end = _skip(self.text, end)
            self._items[at] = starts
        return self._items[at][position]

    def _open(self, bracket: str, at: int) -> None:
        if not self.text.startswith(bracket, at):
            raise ValueError(f"no {bracket}")


def line_in_file(path: Path | str, place: JsonPlace) -> int | None:
    """The line of a JSON file on which the record at `place` begins; None when it no longer exists."""
    try:
        status = Path(path).stat()
        return _opened(str(path), status.st_mtime_ns, status.st_size).line(place)
    except OSError:
        return None


@lru_cache(maxsize=1)  # errors are reported file by file
def _opened(path: str, mtime_ns: int, size: int) -> JsonText:
    return JsonText(Path(path).read_bytes())


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
