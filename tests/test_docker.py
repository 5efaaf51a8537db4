"""configs/docker/Dockerfile: stages, arguments, and that what it copies is there and suffices. Nothing is built."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "configs" / "docker" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def parse(text):
    """[(instruction, rest)]; comments are left out, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    pairs = [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", " ", lines).splitlines()]
    return [(name, rest) for name, rest in pairs]


def stages(instructions):
    """The instructions before the first FROM, and those of every stage."""
    parts = [[]]
    for name, rest in instructions:
        if name == "FROM":
            parts.append([])
        parts[-1].append((name, rest))
    return parts


def of(stage, name):
    return [rest for found, rest in stage if found == name]


@pytest.fixture(scope="module")
def parts():
    return stages(parse(FILE.read_text("utf-8")))


def test_two_stages_on_a_slim_python_that_the_project_supports(parts):
    before, build, final = parts
    assert of(before, "ARG") == ["PYTHON=3.12"]
    assert of(build, "FROM") == ["python:${PYTHON}-slim AS build"] and of(final, "FROM") == ["python:${PYTHON}-slim"]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert tuple(map(int, least.split("."))) <= (3, 12)


def test_every_variable_is_declared_in_its_stage_and_the_cpu_is_the_default(parts):
    for stage in parts[1:]:
        declared = {"PYTHON", "PATH"}
        for name, rest in stage:
            if name == "ARG":
                declared.add(rest.partition("=")[0])
            elif name != "ENV":
                assert set(VARIABLE.findall(rest)) <= declared, rest
    arguments = dict(item.split("=", 1) for item in of(parts[1], "ARG"))
    assert arguments["TORCH_INDEX"].endswith("/cpu")
    assert set(arguments["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    assert "--build-arg TORCH_INDEX=" in (ROOT / "docs" / "interop.md").read_text("utf-8")


def test_what_is_copied_is_there_is_sent_to_the_builder_and_suffices_to_install(parts):
    copied = [word for rest in of(parts[1], "COPY") for word in rest.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    ignore = FILE.with_name("Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignore[1] == "*" and {line[1:] for line in ignore if line.startswith("!")} == set(copied)
    needed = {"pyproject.toml", "setup.py", PROJECT["readme"], *PROJECT["license-files"], "drivetl", "constraints.txt"}
    shipped = re.search(r"for folder in \((.+?)\):", (ROOT / "setup.py").read_text("utf-8"))
    needed |= set(re.findall(r'"(\w+)"', shipped[1]))
    assert needed <= set(copied)
    targets = [rest.split()[-1] for rest in of(parts[1], "COPY")]
    assert all(target == "./" or target in copied for target in targets)  # folders keep their names


def test_versions_are_pinned_and_the_stage_that_is_copied_is_the_one_that_was_built(parts):
    installs = [rest for rest in of(parts[1], "RUN") if "pip install" in rest]
    assert len(installs) == 2 and all("--constraint constraints.txt" in rest for rest in installs)
    assert of(parts[2], "COPY") == ["--from=build /opt/drivetl /opt/drivetl"]
    assert all(rest.startswith(("/opt/drivetl/bin/", "python -m venv /opt/drivetl")) for rest in of(parts[1], "RUN"))


def test_drivetl_runs_unprivileged(parts):
    final = parts[2]
    user = of(final, "USER")[-1]
    assert user not in ("root", "0") and any(f" {user} " in rest for rest in of(final, "RUN"))
    assert [name for name, _ in final].index("USER") > max(n for n, (name, _) in enumerate(final) if name == "RUN")
    (command,) = json.loads(of(final, "ENTRYPOINT")[0])
    assert command in PROJECT["scripts"] and json.loads(of(final, "CMD")[0]) == ["--help"]


def test_the_documented_runs_give_shared_memory():
    for text in (FILE.read_text("utf-8"), (ROOT / "docs" / "interop.md").read_text("utf-8")):
        runs = re.findall(r"docker run .*", text)
        assert runs and all("--shm-size" in line for line in runs)
