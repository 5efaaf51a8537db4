"""Typed access to the values of a parsed file. Each getter names the field and the value when the type is wrong.

The reader of a format knows the meaning of a field; these functions check its type.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

from drivetl.errors import DataError

_REMEDY = "fix or remove the record"
_MAX_EXACT_FLOAT = 2**53
_MAX_INT = 2**63


def number(value: object, what: str, *, texts: bool = True) -> float:
    """A finite float. texts: "1.5" counts too, as in XML, CSV and many JSON files.

    Raises DataError with the expected type.
    """
    if type(value) is float or type(value) is int or _is_real(value) or (texts and isinstance(value, str)):
        try:
            result = float(value)  # type: ignore[arg-type]
        except ValueError:
            raise DataError(f"{what} is {shown(value)}, not a number", remedy=_REMEDY) from None
        except OverflowError:
            result = math.inf
        if math.isfinite(result):
            return result
        raise DataError(f"{what} is {shown(value)}, not a finite number", remedy=_REMEDY)
    raise DataError(f"{what} is {shown(value)}, not a number", remedy=_REMEDY)


def whole(value: object, what: str, *, texts: bool = True) -> int:
    """An integer of 64 bits; 3.0 is one, 3.5 and True are not. Raises DataError like `number`."""
    if type(value) is int and -_MAX_INT < value < _MAX_INT:
        return value
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):  # int, and numpy's
        if abs(int(value)) < _MAX_INT:
            return int(value)
    else:
        real = number(value, what, texts=texts)
        if real == int(real) and abs(real) <= _MAX_EXACT_FLOAT:
            return int(real)
    raise DataError(f"{what} is {shown(value)}, not a whole number of 64 bits", remedy=_REMEDY)


def text(value: object, what: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise DataError(f"{what} is {shown(value)}, not a text", remedy=_REMEDY)
    return value


def as_name(value: object, what: str) -> str:
    """A name: a text, or a whole number as a text, so that drive 0 is "0"; null is "", which means unknown."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if _is_real(value) and value == value // 1:  # type: ignore[operator]
        return str(int(value))
    raise DataError(f"{what} is {shown(value)}, neither a text nor a whole number", remedy=_REMEDY)


def mapping(value: object, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise DataError(f"{what} is {shown(value)}, not an object", remedy=_REMEDY)
    return value


def array(value: object, what: str) -> list[Any]:
    """A JSON array; null counts as empty, as many tools write it."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{what} is {shown(value)}, not a list", remedy=_REMEDY)
    return value


def scalar(value: object) -> bool | float | str | None:
    """An attribute as a JSON value: texts `true` and `false` become booleans, other values stay."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value if isinstance(value, bool | int | float) or value is None else str(value)


def shown(value: object) -> str:
    """A value for an error message, shortened to 60 characters."""
    try:
        printed = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or an integer of too many digits
        printed = f"{type(value).__name__} too large to show"
    return printed if len(printed) <= 60 else printed[:57] + "..."


def _is_real(value: object) -> bool:
    """Whether it is a number, numpy's included; a boolean is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
