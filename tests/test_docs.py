"""The documents: links resolve, commands parse, tables equal their sources, and the words are plain."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import drivetl
from drivetl.commands import COMMANDS, EXPLAINED_IN
from drivetl.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(ROOT.glob("docs/**/*.md"))
PLAIN = (
    *("*.md", "docs/**/*.md", "datasets/**/*.md", "datasets/**/*.yaml", "configs/**/*.yaml"),
    *("tools/**/*.py", "tools/**/*.yaml"),
    *("drivetl/commands/**/*.py", "drivetl/console/**/*.py", "drivetl/*.py"),
    *("drivetl/report/**/*.py", "drivetl/report/**/*.j2", "drivetl/report/schema.md"),
    *("drivetl/label_curve/**/*.py", "drivetl/label_curve/**/*.j2"),
    *(f"drivetl/{room}/**/*.py" for room in ("adapters", "coco", "convert", "draw", "files")),
    *(f"tests/{room}/**/*.py" for room in ("adapters", "convert", "draw", "files")),
)
"""What is checked for the words below. To add the code: "drivetl/**/*.py"."""
DIALECT = re.compile(
    r"\bmend(s|ed|ing)?\b|\bcom(e|es|ing) twice\b|\bwhoever\b|\btold apart\b|\b(could|can) be told\b"
    r"|\bla(y|ys|id|ying) (\w+ )?over\b|(?-i:\bis none\b)|\bso many (images|frames|steps)\b|\blearnt\b",
    re.IGNORECASE,
)
FENCE = re.compile(r"^( *)```\w*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(drivetl|make|python tools/\w+\.py)\b(.*)$", re.MULTILINE)
TOOLS = {name.replace("-", "_"): name for name in COMMANDS}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of tools/ can be imported."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])


# ---- Links


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES + sorted(ROOT.glob("datasets/*/README.md")), ids=relative)
def test_every_link_and_image_is_there(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists() and path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), target


# ---- Commands


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """(program, words) of every command line in fenced blocks; a backslash continues a line."""
    for indent, block in FENCE.findall(text):
        lines = "\n".join(line.removeprefix(indent) for line in block.replace("\\\n", " ").splitlines())
        for program, words in COMMAND.findall(lines):
            yield program, shlex.split(words, comments=True)


def parse_drivetl(name: str, words: list[str]) -> None:
    """Parse the words of one command as the command itself does; overrides are checked against the config."""
    module = importlib.import_module(f"drivetl.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=name, allow_abbrev=False)
    module.add_arguments(parser)
    args, rest = parser.parse_known_args(words)
    if getattr(module, "TAKES_OVERRIDES", False) and rest:
        load_config([ROOT / path for path in args.config], rest)
    else:
        assert not rest, rest


def parse(program: str, words: list[str]) -> None:
    if program == "make":
        targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert targets and set(words) <= set(targets[1].split()), words
    elif program == "drivetl":
        assert words[0] in COMMANDS, words
        parse_drivetl(words[0], words[1:])
    elif (tool := Path(program.partition(" ")[2]).stem) in TOOLS:
        parse_drivetl(TOOLS[tool], words)
    else:
        assert (ROOT / "tools" / f"{tool}.py").is_file(), tool
        module = importlib.import_module(tool)
        if hasattr(module, "argument_parser"):
            module.argument_parser().parse_args(words)
        else:
            assert not words, words


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_parses(page: Path, tools: None) -> None:
    for program, words in commands(page.read_text("utf-8")):
        assert "..." not in words, words
        parse(program, words)


def test_the_commands_are_found() -> None:
    lines = list(commands((ROOT / "README.md").read_text("utf-8")))
    assert {program for program, _ in lines} >= {"make", "drivetl"}
    assert list(commands("  ```\n  $ drivetl info a \\\n      b   # c\n  ```\n")) == [("drivetl", ["info", "a", "b"])]


@pytest.mark.parametrize(("program", "words"), [("drivetl", ["view", "a", "--no"]), ("make", ["tea"])])
def test_a_wrong_command_fails(program: str, words: list[str]) -> None:
    with pytest.raises((SystemExit, AssertionError)):
        parse(program, words)


def test_the_command_page_has_a_section_for_every_command() -> None:
    assert "(docs/commands.md)" in (ROOT / "README.md").read_text("utf-8")
    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"\n## drivetl {name}\n" not in text] == []


def test_the_pages_that_help_names_are_there() -> None:
    assert set(EXPLAINED_IN) <= set(COMMANDS)
    assert [page for page in EXPLAINED_IN.values() if not (ROOT / "docs" / page).is_file()] == []


def test_the_readmes_python_uses_what_exists() -> None:
    """docs/python.md has the same lines, and tests/api/test_python_page.py runs it."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    used = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Attribute)]
    names = {node.attr for node in used if isinstance(node.value, ast.Name) and node.value.id == "drivetl"}
    assert len(names) >= 4 and names <= set(drivetl.__all__)


# ---- Tables


def test_the_map_is_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contract = next(item for item in project["tool"]["importlinter"]["contracts"] if item["type"] == "layers")
    floors: dict[int, set[str]] = {}
    for floor, room in re.findall(
        r"^\| (\d+) \| `(\w+)` \| \S", (ROOT / "docs/ARCHITECTURE.md").read_text(), re.MULTILINE
    ):
        floors.setdefault(int(floor), set()).add(room)
    layers = [set(layer.split(" | ")) for layer in contract["layers"]]
    assert floors == dict(zip(range(len(layers), 0, -1), layers, strict=True))
    rooms = {
        path.stem for path in (ROOT / "drivetl").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert set().union(*layers) == {room for room in rooms if not room.startswith("__")}


def test_generated_parts_are_as_the_code_says(tools: None) -> None:
    import reference

    pages = reference.pages()
    assert len(pages) >= 3
    for page in pages:
        text = page.read_text("utf-8")
        assert reference.with_generated(text) == text, "run python tools/reference.py"


def test_the_index_links_every_page() -> None:
    text = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = [path for path in sorted(ROOT.glob("docs/**/*.md")) if path.name != "README.md"]
    assert [relative(page) for page in pages if f"({page.relative_to(ROOT / 'docs')})" not in text] == []


def test_every_source_has_a_line_in_the_footage_page() -> None:
    text = (ROOT / "docs" / "footage.md").read_text("utf-8")
    assert [path.name for path in sorted(ROOT.glob("datasets/*/")) if f"datasets/{path.name}/" not in text] == []


def test_the_short_tables_are_extracts_of_the_csv_files(tools: None) -> None:
    import results

    page = results.PAGE.read_text("utf-8")
    assert results.with_tables(page) == page, "run python tools/results.py"
    names = [row["name"] for row in results.load("index")]
    assert names == sorted(results.SHORT) == sorted({match[2] for match in results.BLOCK.finditer(page)})
    assert names == sorted(path.stem for path in results.FOLDER.glob("*.csv") if path != results.INDEX)
    for name in names:
        assert 3 <= len(results.markdown(results.SHORT[name], results.load(name)).splitlines()) <= 8  # six rows


def test_an_interval_takes_three_columns_of_a_csv(tools: None) -> None:
    import results

    text = results.csv_text([{"line": "a", "AP": "9.6 [7.6, 15.5]"}, {"line": "b, c", "AP": "-"}])
    assert text == 'line,AP,AP low,AP high\na,9.6,7.6,15.5\n"b, c",,,\n'


# ---- Words


@pytest.mark.parametrize("glob", PLAIN)
def test_the_words_are_plain(glob: str) -> None:
    paths = sorted(ROOT.glob(glob))
    assert paths
    dialect = [
        f"{relative(path)}:{number}: {match[0]}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in DIALECT.finditer(line)
    ]
    assert not dialect, "\n".join(dialect)
