"""Where in a JSON text a record stands, for errors only: a parser that is fast does not say."""

from __future__ import annotations

import json
import re

_SPACE = re.compile(r"[\s,:]*")
_DECODER = json.JSONDecoder()


def record_line(data: bytes, key: str, position: int) -> int | None:
    """The line, from 1, on which record `position` of the top-level list `key` begins; None when there is none."""
    text = data.decode("utf-8-sig", "replace")
    try:
        at = _list_start(text, key)
        for _ in range(position):
            _, at = _DECODER.raw_decode(text, _skip(text, at))
        return text.count("\n", 0, _skip(text, at)) + 1
    except (ValueError, RecursionError):
        return None


def _list_start(text: str, key: str) -> int:
    """The index after the `[` of a top-level key. Raises ValueError when it is not there."""
    at = text.index("{") + 1
    while True:
        name, at = _DECODER.raw_decode(text, _skip(text, at))
        at = _skip(text, at)
        if name == key and text[at : at + 1] == "[":
            return at + 1
        _, at = _DECODER.raw_decode(text, at)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
