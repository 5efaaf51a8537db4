"""HTML pages from templates: every inserted text is escaped, and an undefined name in a template is an error."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup


def style_sheet() -> Markup:
    """The style sheet of every page: the report, the audit, the label curve."""
    return Markup(_read("draw/style.css"))  # noqa: S704 - a file of this package


def render(template: str, /, **values: Any) -> str:
    """Render template `ROOM/NAME`, which is the file drivetl/ROOM/templates/NAME.html.j2."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: _read(f"{name}.html.j2")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read(name: str) -> str:
    room, file = name.split("/")
    return resources.files(f"drivetl.{room}").joinpath("templates", file).read_text("utf-8")
