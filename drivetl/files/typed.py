"""Typed models of YAML files, and the translation of pydantic's errors into ours.

A model is a pydantic dataclass. Its fields declare type, bounds and default; the description of a valid value
(`expected`) is derived from the same declaration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from drivetl.errors import DrivetlError, nearest
from drivetl.files.fields import shown
from drivetl.files.yaml_reader import Document, KeyPath

T = TypeVar("T")

AUTO = "auto"
"""The value of a field whose number is chosen."""

PAIR = "[low, high]"
"""How a range is written."""


class OrAuto:
    """Annotation of a field that also accepts `auto`: the value is chosen. others: more words that it accepts.

    by_recipe: `optim.recipe: auto` chooses it also where nothing is written. Type checkers see the plain number, which
    the field has after the value was chosen.
    """

    def __init__(self, *others: str, by_recipe: bool = True) -> None:
        self.words, self.by_recipe = (AUTO, *others), by_recipe

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        words = core_schema.literal_schema(list(self.words))
        return core_schema.union_schema([words, handler(source)], mode="left_to_right")


@dataclasses.dataclass(frozen=True)
class Problem:
    """The first error of a document."""

    path: KeyPath
    reason: str
    remedy: str


def typed(model: type[T], document: Document, kind: type[DrivetlError], renamed: Mapping[str, str] | None = None) -> T:
    """The document as an instance of the model. Raises `kind` with the line, without a file.

    `renamed` maps a field to its key in the file, when the two differ.
    """
    if not isinstance(document.value, dict):
        hint = f"known keys: {', '.join(field_names(model))}"
        raise kind("expected `key: value` lines", remedy=hint, line=document.line(()))
    try:
        return model(**{str(key): value for key, value in document.value.items()})
    except ValidationError as error:
        problem = first_problem(model, error)
    path = tuple((renamed or {}).get(str(part), part) for part in problem.path)
    raise kind(problem.reason, remedy=problem.remedy, line=document.line(path))


def first_problem(model: type, error: ValidationError, prefix: str = "") -> Problem:
    """The first validation error as path, reason and remedy; `prefix` is the section of the model, with its dot."""
    detail = error.errors(include_url=False)[0]
    path, kind = _path_and_type(model, detail["loc"])
    name = prefix + _name(path)
    value = detail["input"]
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = field_names(_type_at(model, path[:-1]))
        return Problem(path, f"unknown key {name!r}", nearest(name, [prefix + key for key in known]))
    if detail["type"] == "missing" and isinstance(path[-1], int):
        return Problem(path, f"{name} has too few values, it must be {expected(_type_at(model, path[:-1]))}", "add one")
    if detail["type"] in ("missing", "missing_argument"):
        return Problem(path, f"{name} is missing", f"write `{path[-1]}: VALUE`")
    if detail["type"] == "value_error":
        reason, *remedy = detail["ctx"]["error"].args
        return Problem(path, str(reason), str(remedy[0]) if remedy else "fix the value")
    if not path:
        return Problem(path, "expected `key: value` lines", f"known keys: {', '.join(field_names(model))}")
    remedy = nearest(str(value), _choices(kind), "fix the value")
    return Problem(path, f"{name} is {_as_yaml(value)}, it must be {expected(kind)}", remedy)


def field_names(model: Any) -> list[str]:
    """The names of a model's fields in order."""
    return list(getattr(model, "__pydantic_fields__", {}))


def _name(path: KeyPath) -> str:
    """The keys after the last list position of a path, joined: max_drop.fog."""
    names: list[str] = []
    for part in reversed(path):
        if isinstance(part, int) and names:
            break
        if not isinstance(part, int):
            names.insert(0, str(part))
    return ".".join(names)


def _path_and_type(model: Any, location: Sequence[str | int]) -> tuple[KeyPath, Any]:
    """The part of pydantic's location that is a path in the document, and the type of its value."""
    path: list[str | int] = []
    for part in location:
        inner = _type_at(model, (part,))
        if inner is None:
            if hasattr(_plain(model), "__pydantic_fields__"):
                path.append(part)  # an unknown key
            break
        path.append(part)
        model = inner
    return tuple(path), model


def _type_at(model: Any, path: Iterable[str | int]) -> Any:
    """The type of the value at a path; None when the model has no such path."""
    for part in path:
        plain = _plain(model)
        fields = getattr(plain, "__pydantic_fields__", None)
        inner = get_args(plain)
        if fields is not None:
            model = fields.get(part)
        elif get_origin(plain) is dict:
            model = inner[1]
        elif get_origin(plain) in (list, tuple) and isinstance(part, int):
            model = inner[min(part, len(inner) - 1)] if inner[-1] is not Ellipsis else inner[0]
        else:
            model = None
        if model is None:
            return None
    return model


def _plain(kind: Any) -> Any:
    """The type of a field, without its annotations."""
    if isinstance(kind, FieldInfo):
        kind = kind.annotation
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _metadata(kind: Any) -> list[Any]:
    """The metadata of a type: bounds and other annotations."""
    if isinstance(kind, FieldInfo):
        return list(kind.metadata)
    metadata: list[Any] = []
    for item in get_args(kind)[1:] if get_origin(kind) is Annotated else ():
        metadata += item.metadata if isinstance(item, FieldInfo) else [item]
    return metadata


def may_be_auto(kind: Any) -> bool:
    """Whether a field accepts `auto`."""
    return bool(words_of(kind))


def is_of_recipe(kind: Any) -> bool:
    """Whether `optim.recipe: auto` chooses the value of a field that is not written."""
    return any(isinstance(item, OrAuto) and item.by_recipe for item in _metadata(kind))


def words_of(kind: Any) -> str:
    """The words that a field accepts next to its type: `or auto`, `auto or find`; '' for none."""
    words = next((item.words for item in _metadata(kind) if isinstance(item, OrAuto)), ())
    return f"or {words[0]}" if len(words) == 1 else _either(words or ("",))


def type_name(kind: Any) -> str:
    """The kind of value of a type in words: a whole number, text, auto or frozen."""
    plain = _plain(kind)
    if get_origin(plain) is Literal:
        return _either([str(item) for item in get_args(plain)])
    if get_origin(plain) in (Union, UnionType):
        return _either([type_name(item) for item in get_args(plain) if item is not type(None)])
    if get_origin(plain) is tuple and get_args(plain)[-1] is not Ellipsis:
        return PAIR
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    names |= {list: "a list", tuple: "a list", dict: "a mapping"}
    return names.get(get_origin(plain) or plain, "`key: value` lines")


def is_pair(kind: Any) -> bool:
    """Whether a value of a type is written as [low, high]."""
    return type_name(kind) == PAIR


def _choices(kind: Any) -> list[str]:
    """The values of a type that lists them; empty for others."""
    plain = _plain(kind)
    return [str(item) for item in get_args(plain)] if get_origin(plain) is Literal else []


def bounds(kind: Any) -> str:
    """The bounds of a number in words: `from 0 to 1`, `of at least 1`; '' without bounds."""
    limits: dict[str, Any] = {}
    for item in _metadata(kind):
        limits |= {name: getattr(item, name) for name in ("ge", "gt", "le", "lt") if hasattr(item, name)}
    if {"ge", "le"} <= limits.keys():
        return f"from {number(limits['ge'])} to {number(limits['le'])}"
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[name]} {number(limits[name])}" for name in words if name in limits)


def expected(kind: Any) -> str:
    """The valid values of a type in words: a number above 0 and at most 10, or auto."""
    words = " ".join(part for part in (type_name(kind), bounds(kind)) if part)
    return f"{words}, {words_of(kind)}" if may_be_auto(kind) else words


def number(value: float) -> str:
    """A bound as text."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _either(names: Sequence[str]) -> str:
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _as_yaml(value: object) -> str:
    """A value for an error line, as YAML writes it."""
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else shown(value)
