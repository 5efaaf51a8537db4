"""Foreign text made safe to print or to put in Markdown: names from files, values from configs, foreign messages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MOST_CHARACTERS = 500
"""Of an error or a warning."""
_HEAD = 330
"""The place and the reason come first, the remedy last: both ends are kept and the middle is cut."""
_CUT = " [...] "
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reorder the text around them."""
_BACKSLASHED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}

_MARKDOWN = re.compile(
    r"""[\\`*\[\]|~]            # code, emphasis, links, cells of a table
    |<(?=[A-Za-z/!?])          # HTML and automatic links
    |&(?=[#\w]+;)              # entities
    |(?<![^\W_])_|_(?![^\W_])  # emphasis: an underscore that is not inside a word
    |^(?:>|[-+#](?=[\s#-]))    # at the start of a line: quotes, lists, headings, rules""",
    re.VERBOSE,
)
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)]\s)")
"""The start of a numbered list."""


def printable(text: str) -> str:
    r"""Text without characters that a terminal obeys: they are shown as `\x1b`, `\n`, `\u202e`.

    These are the control characters, line breaks included, lone surrogates (they cannot be encoded) and the marks
    that change the reading direction. All else stays as it is, brackets and backslashes too.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") and letter not in _DIRECTIONS:
        return letter
    code = ord(letter)
    return _BACKSLASHED.get(letter) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def one_line(text: str) -> str:
    """The text made printable on one line of at most 500 characters; a longer one loses its middle."""
    # the slices keep a huge text from being converted only to be cut
    whole = printable(text if len(text) <= 2 * MOST_CHARACTERS else text[:MOST_CHARACTERS] + text[-MOST_CHARACTERS:])
    if len(whole) <= MOST_CHARACTERS:
        return whole
    return whole[:_HEAD] + _CUT + whole[_HEAD + len(_CUT) - MOST_CHARACTERS :]


def markdown(text: str) -> str:
    """The text made printable, and read literally by Markdown (CommonMark and GitHub's tables): no HTML, no format."""
    return _NUMBERED.sub(r"\1\\", _MARKDOWN.sub(r"\\\g<0>", printable(text)))


def markdown_code(text: str) -> str:
    """The text made printable, as a code span: between more backticks than it has in a row."""
    shown = printable(text)
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def listing(names: Sequence[str], word: str = "and") -> str:
    """`car, van and bus`."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def counted(count: int, noun: str) -> str:
    """`1 image`, `3 images`, `2 classes`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{ending}"


def first_of(names: Sequence[str], most: int) -> str:
    """At most so many: `car, van and 3 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def first_of_all(names: Sequence[str], most: int) -> str:
    """At most so many, and how many there are: `car, van, ... (5)`."""
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def byte_size(count: float) -> str:
    """`512 B`, `3.2 KB`, `170 MB`, `1.5 GB`."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
