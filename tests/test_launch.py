"""configs/launch/: every file parses, and so does every command in it, by torchrun's parser and by drivetl's."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from drivetl.commands import build_parser
from drivetl.commands.flags import parse_shard
from drivetl.config import load_config

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs" / "launch").iterdir())
SHELLS = (".sh", ".sbatch")
PROGRAMS = ("torchrun", "drivetl")


def strings(document):
    """Every text in a YAML document, and every list of texts as a command line."""
    if isinstance(document, dict):
        return [text for value in document.values() for text in strings(value)]
    if isinstance(document, list):
        if document and all(isinstance(item, str) for item in document):
            return [shlex.join(document)]
        return [text for value in document for text in strings(value)]
    return [document] if isinstance(document, str) else []


def commands(path):
    """The words of every torchrun and drivetl command of a file, comments included; variables stay as they are."""
    text = path.read_text("utf-8")
    comments = re.findall(r"^#\s+(drivetl .+)$", text, re.MULTILINE)
    scripts = [text] if path.suffix in SHELLS else strings(yaml.safe_load(text))
    lines = [line for script in scripts for line in script.replace("\\\n", " ").splitlines()]
    found = []
    for line in [*lines, *comments]:
        if line.lstrip().startswith("#"):
            continue
        words = shlex.split(line, comments=True)
        words = words[1:] if words[:1] == ["srun"] else words
        if len(words) > 1 and words[0] in PROGRAMS:  # a volume has the name, too
            found.append(words)
    return found


def drivetl_words(words):
    """The words after `drivetl`; what comes before is given to torchrun's own parser, as torchrun does."""
    if words[0] == "drivetl":
        return words[1:]
    args = get_args_parser().parse_args(words[1:])
    assert args.module and args.training_script == "drivetl"
    return args.training_script_args


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_law_every_command_of_every_file_parses(path):
    if path.suffix in SHELLS:
        subprocess.run(["bash", "-n", str(path)], check=True)
    else:
        assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)
    assert f"configs/launch/{path.name}" in path.read_text("utf-8").split("\n\n")[0], "the head says how to start it"
    found = [drivetl_words(words) for words in commands(path)]
    assert found
    for words in found:
        args, rest = build_parser(words[0]).parse_known_args(words)
        assert bool(rest) == (words[0] == "finetune"), rest
        if words[0] == "finetune":
            load_config([ROOT / file for file in args.config], rest)
            assert args.continues and not args.resume
        elif args.shard:
            assert parse_shard(re.sub(r"\$\w+", "1", args.shard)) == (0, 8)


def test_the_page_names_every_file():
    page = (ROOT / "docs" / "distributed.md").read_text("utf-8")
    assert [path.name for path in FILES if f"(../configs/launch/{path.name})" not in page] == []


def test_torchrun_claims_run_and_takes_run_dir(capsys):
    words = ["--standalone", "-m", "drivetl", "eval-robustness"]
    assert get_args_parser().parse_args([*words, "--run-dir", "r"]).training_script_args == [
        words[-1],
        "--run-dir",
        "r",
    ]
    with pytest.raises(SystemExit):
        get_args_parser().parse_args([*words, "--run", "r"])
    assert "--run-path" in capsys.readouterr().err
