"""`--regimes` of `drivetl budget`: configs that differ only in start weights and recipe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from drivetl.config import FinetuneConfig, load_config, parse_overrides, written_keys
from drivetl.errors import ConfigError, nearest
from drivetl.files.shipped import shipped


def parse_regimes(text: str, paths: Sequence[Path], overrides: list[str]) -> dict[str, FinetuneConfig]:
    """`transfer,scratch,other=FILE.yaml` -> configs that differ in start weights and recipe, with the same data.

    transfer is the config as it is; NAME overrides it with configs/finetune/regimes/NAME.yaml (scratch: from_scratch),
    NAME=FILE.yaml with that file. Raises ConfigError naming --regimes.
    """
    base = load_config(paths, overrides)
    folder = shipped("configs/finetune/regimes")
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    known = {"scratch": known["from_scratch"]} | known
    regimes: dict[str, FinetuneConfig] = {}
    for word in (part.strip() for part in text.split(",")):
        name, has_path, file = word.partition("=")
        if not re.fullmatch(r"[\w-]+", name) or name in regimes:
            raise ConfigError(
                f"--regimes {text!r}: {name!r} is empty, duplicated or not a name",
                remedy="write transfer,scratch,NAME=FILE.yaml",
            )
        if name == "transfer" and not has_path:
            if base.model.start == "none":
                raise ConfigError(
                    "--regimes transfer: with model.start none there is nothing to transfer", remedy="set --model.start"
                )
            regimes[name] = base
            continue
        if not has_path and name not in known:
            names = ["transfer", *known]
            raise ConfigError(
                f"--regimes: unknown regime {name!r}",
                remedy=nearest(name, names, f"known: {', '.join(names)}; or {name}=FILE.yaml"),
            )
        path = Path(file) if has_path else known[name]
        other = load_config([*paths, path], _without_keys_of(path, overrides))
        data = dataclasses.replace(other.data, train=base.data.train, val=base.data.val)
        regimes[name] = dataclasses.replace(other, data=data)
    return regimes


def _without_keys_of(path: Path, overrides: list[str]) -> list[str]:
    """The flags whose keys a regime's file does not set: its keys win over flags (scratch ignores --model.start)."""
    set_by_file = written_keys(path).keys() - {"seed"}
    return [f"--{key}={text}" for key, text in parse_overrides(overrides).items() if key not in set_by_file]
