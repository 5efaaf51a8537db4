"""The code blocks of a how-to page, put in place in a copy of the repository and run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"^(?:#|<!--) file: (?P<path>[\w./]+)(?:, (?P<where>at the end|after: .*?))?(?: -->)?$")
MOST_LINES = 60


def blocks_of(page: Path) -> list[tuple[str, str, str]]:
    """(path, where: "" or "at the end" or "after: <line>", text) of each block of code, which must have a marker."""
    blocks = []
    for block in BLOCK.finditer(page.read_text()):
        if block["language"] == "sh":
            continue
        first, _, text = block["body"].partition("\n")
        marker = MARKER.match(first)
        assert marker, f"{page.name}: a block begins with {first!r}, not with '# file: PATH'"
        blocks.append((marker["path"], marker["where"] or "", text))
    return blocks


def commands_of(page: Path) -> list[list[str]]:
    """The words after `python` of each line in a block of shell commands."""
    blocks = [block["body"] for block in BLOCK.finditer(page.read_text()) if block["language"] == "sh"]
    return [line.removeprefix("python ").split() for body in blocks for line in body.splitlines()]


def lines_of_code(page: Path) -> int:
    """Lines of all blocks that hold something."""
    return sum(bool(line.strip()) for _, _, text in blocks_of(page) for line in text.splitlines())


def copy_with(page: Path, folder: Path) -> Path:
    """A copy of the repository's code in which the blocks of the page are in place."""
    for name in ("drivetl", "datasets", "configs", "tests", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", "splits")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    for path, where, text in blocks_of(page):
        target = folder / path
        if not where:
            assert not target.exists(), f"{path} exists: say where the lines go"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        elif where == "at the end":
            target.write_text(target.read_text() + "\n\n" + text)
        else:
            line = where.removeprefix("after: ") + "\n"
            before, found, after = target.read_text().partition(line)
            assert found, f"{path} has no line {line!r}"
            target.write_text(before + found + text + after)
    return folder


def run(copy: Path, *words: object) -> str:
    """Run python in the copy; its output. An exit status other than 0 fails the test with the output."""
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
