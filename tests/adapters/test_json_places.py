"""Errors in JSON files of any format have the line of the record, which is searched only when needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from footage_trees import coco, convert_tree, nuimages, write_tree

from drivetl.coco import json_lines
from drivetl.convert import build
from drivetl.errors import DataError


def records(value: object) -> Iterator[dict]:
    """All JSON objects in a document."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from records(item)


def pretty(files: dict[str, bytes], change) -> dict[str, bytes]:
    """The files with every JSON written over many lines, after `change` of each record."""
    formatted = {}
    for name, content in files.items():
        if name.endswith(".json"):
            document = json.loads(content.decode("utf-8-sig"))
            for record in records(document):
                change(record)
            content = json.dumps(document, indent=2).encode()
        formatted[name] = content
    return formatted


def record_at(error: DataError) -> dict:
    """The JSON object that begins on the error's line."""
    lines = Path(str(error.file)).read_text().splitlines()
    assert error.line is not None
    return json.JSONDecoder().raw_decode("\n".join(lines[error.line - 1 :]).lstrip(" ["))[0]


def test_an_error_in_a_nuimages_table_has_the_line_of_its_row(tmp_path: Path) -> None:
    def spoil(record: dict) -> None:
        if record.get("token") == "c2":
            record["token"] = "c1"

    with pytest.raises(DataError, match="'c1' is duplicated") as caught:
        convert_tree("nuimages", write_tree(tmp_path, pretty(nuimages(), spoil)))
    assert record_at(caught.value)["name"] == "human.pedestrian.adult"


def test_lines_are_searched_only_for_listed_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_NAMED_REJECTIONS", 1)
    asked: list[object] = []
    find = json_lines.JsonText.line
    monkeypatch.setattr(json_lines.JsonText, "line", lambda text, place: asked.append(place) or find(text, place))

    def spoil(record: dict) -> None:
        if "bbox" in record:
            record["bbox"] = "x"

    _, account = convert_tree("coco", write_tree(tmp_path, pretty(coco(), spoil)), on_error="skip")
    assert sum(account.rejected.values()) == 3 and len(account.rejections) == 1 == len(asked)
