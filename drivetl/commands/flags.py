"""The parser of all commands, the flags that every command has, and the types of flags that several have.

A path that must exist, and an output that must not, are checked before the command runs, by the type of their flag:
before anything slow is imported.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from drivetl import console
from drivetl.detectors.spec import FORMS, parse_spec
from drivetl.errors import ConfigError, DataError, nearest
from drivetl.files.paths import meant, require
from drivetl.files.shipped import shipped
from drivetl.files.write import check_new

SEED_LIMIT = 2**63
"""Every random generator takes seeds from 0 to below this."""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line on stderr, as all errors are, and exit code 2."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # with abbreviations, --seed (a key of the config) would be read as --seeds
        super().__init__(*arguments, **options | {"allow_abbrev": False})
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        """Print a mistake and exit."""
        reason = message.replace("the following arguments are required", "missing")
        reason = re.sub(r"^argument ([^:]+): ", r"\1 ", reason)
        remedy = "" if " - " in reason else f" - see `{self.prog} --help`"
        console.error(f"{self.prog}: {reason}{remedy}")
        self.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's own, with the name that was probably meant."""
        if action.choices is None or value in action.choices:
            return
        remedy = nearest(str(value), map(str, action.choices))
        if action.dest == COMMAND:
            self.error(f"unknown command {value!r} - {remedy}")
        raise argparse.ArgumentError(action, f"is {value!r} - {remedy}")

    def refuse(self, words: list[str]) -> NoReturn:
        """Print that words are no arguments of this command, and exit."""
        name = words[0].partition("=")[0]
        if not name.startswith("-"):
            self.error(f"unexpected argument {name!r}")
        self.error(str(self.unknown(name)))

    def unknown(self, name: str) -> ConfigError:
        """The error for a flag that this command does not have."""
        return ConfigError(f"unknown flag {name}", remedy=nearest(name, self.flags(), f"see `{self.prog} --help`"))

    def is_misspelt(self, words: list[str]) -> bool:
        """Whether the first word is nearly a flag of this command, and not a key of the config."""
        name = words[0].partition("=")[0]
        return (
            "." not in name
            and name != "--seed"
            and bool(difflib.get_close_matches(name, self.flags(), n=1, cutoff=0.7))
        )

    def actions(self) -> Iterator[argparse.Action]:
        """The arguments of this command."""
        return iter(self._actions)

    def flags(self) -> list[str]:
        """The flags of this command, without those that only old scripts use."""
        shown = (action for action in self.actions() if action.help != argparse.SUPPRESS)
        return [name for action in shown for name in action.option_strings if name.startswith("--")]


COMMAND = "command"
"""Attribute of the parsed arguments with the command's name."""


def add_common(parser: argparse.ArgumentParser) -> None:
    """The flags that every command has."""
    group = parser.add_argument_group("output")
    group.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    group.add_argument(
        "--json",
        action="store_true",
        help="end stdout with one line of JSON: command, exit_code, wrote (paths), numbers, next (commands), error",
    )


def add_old_name(parser: argparse.ArgumentParser, old: str, action: argparse.Action) -> None:
    """Another, hidden name of a flag, which scripts use."""
    parser.add_argument(
        old, dest=action.dest, type=action.type or str, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


def add_config(parser: argparse.ArgumentParser, without: str = "") -> None:
    """The flag --config of the commands that take the fine-tuning config; `without`: what may replace it."""
    parser.add_argument(
        "--config",
        type=config_file,
        required=not without,
        action="append",
        metavar="FILE.yaml",
        help=f"YAML, see configs/finetune; may be repeated: keys of a later file override earlier ones{without}",
    )


def add_class_map(parser: argparse.ArgumentParser) -> None:
    """The flag --class-map of the commands that run a detector on labelled data."""
    parser.add_argument(
        "--class-map",
        default="",
        metavar="THEIRS=OURS,...|FILE.yaml",
        help=(
            "classes of the detector that are classes of the data under another name, like person=pedestrian; THEIRS= "
            "leaves one out (default: by name, then by `from` of the data's taxonomy)"
        ),
    )


def default_run(configs: Sequence[Path]) -> Path:
    """The run directory of a training without --out: named after its configs."""
    return Path("runs") / "-".join(path.stem for path in configs)


def whole_number(text: str) -> int:
    """An int of 64 bits, with or without a sign. Raises ArgumentTypeError, which argparse turns into exit code 2."""
    if not re.fullmatch(r"[-+]?\d{1,19}", text) or abs(int(text)) >= SEED_LIMIT:
        raise argparse.ArgumentTypeError(f"is {text!r}, it must be a whole number")
    return int(text)


def number(text: str) -> float:
    """A float. Raises ArgumentTypeError."""
    with suppress(ValueError):
        return float(text)
    raise argparse.ArgumentTypeError(f"is {text!r}, it must be a number")


def seed(text: str) -> int:
    """A whole number from 0 to below SEED_LIMIT. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) >= SEED_LIMIT:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to below 2^63")
    return int(text)


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` -> (1, 8): this part, counted from 0, and the number of parts. Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard {text!r} is not I/N with I from 1 to N", remedy="for example 1/4")
    return int(match[1]) - 1, int(match[2])


def given_flags(args: argparse.Namespace, without: Sequence[str]) -> list[str]:
    """The flags of a parsed command that differ from their defaults, with their values; none of `without`, which are
    names of attributes."""
    words = []
    for action in args.parser.actions():
        if action.help == argparse.SUPPRESS:  # another name of a flag
            continue
        value = getattr(args, action.dest, action.default)
        if action.option_strings and action.dest not in (*without, "quiet", "json") and value != action.default:
            values = (
                [[]] if action.nargs == 0 else [[str(item)] for item in (value if type(value) is list else [value])]
            )
            words += [word for item in values for word in (action.option_strings[0], *item)]
    return words


def input_path(text: str) -> Path:
    """A file or folder that exists."""
    return Path(text)


def config_file(text: str) -> Path:
    """A config that exists."""
    return Path(text)


def run_directory(text: str) -> Path:
    """A folder that exists, with a run."""
    return Path(text)


def run_or_detector(text: str) -> Path | str:
    """A folder that exists, with a run; or the text of another detector, which `detectors.spec` reads."""
    return text if text.partition(":")[0] in FORMS else Path(text)


def new_path(text: str) -> Path:
    """A file or folder to be written, which does not exist yet or is an empty folder."""
    return Path(text)


def check_paths(parser: Parser, args: argparse.Namespace) -> None:
    """Check every path among the arguments as its type demands. Raises DataError."""
    for action in parser.actions():
        check = CHECKS.get(action.type)
        value = getattr(args, action.dest, None)
        if check is not None and value is not None:
            for path in value if isinstance(value, list) else [value]:
                check(path)


def _check_config(path: Path) -> None:
    """drivetl's own configs may have been meant too."""
    require(path, sorted(shipped("configs/finetune").glob("**/*.yaml")))


def _check_run(path: Path) -> None:
    if not os.path.isdir(path):  # noqa: PTH112 - False for a path that the system does not accept
        reason = "not a folder" if os.path.exists(path) else "no such folder"  # noqa: PTH110
        raise DataError(reason, remedy=meant(path) or "name a run directory that finetune wrote", file=path)


def _check_detector(value: Path | str) -> None:
    _check_run(value) if isinstance(value, Path) else parse_spec(value)


CHECKS: dict[object, Callable[[Any], object]] = {
    input_path: require,
    config_file: _check_config,
    run_directory: _check_run,
    run_or_detector: _check_detector,
    new_path: check_new,
}
"""Type of a flag -> the check of its value, which raises DataError."""
