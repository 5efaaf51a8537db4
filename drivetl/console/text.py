"""Text made safe to print."""

from __future__ import annotations


def escape(text: str) -> str:
    """Text that rich prints as it is: a bracket in a file name is not markup."""
    return text.replace("[", "\\[")
