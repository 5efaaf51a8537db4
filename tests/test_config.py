"""Laws of the configuration: round trip, errors with place and nearest key."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drivetl.config import (
    FinetuneConfig,
    _fields,
    describe,
    dump_yaml,
    json_schema,
    load_config,
    recipe_keys,
    values_of,
    with_values,
)
from drivetl.errors import ConfigError
from drivetl.files.typed import AUTO, type_name

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "configs" / "finetune").rglob("*.yaml"), key=lambda path: (len(path.parts), path))

MINIMAL = "data: {train: a.json, val: b.json}\n"


def load(tmp_path, text, *overrides):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(path, list(overrides))


def test_what_is_written_reads_back_the_same(tmp_path):
    config = load(tmp_path, MINIMAL + "optim: {lr: 1e-3, ema: 0.99}\nseed: 7\n")
    assert config.optim.lr == 1e-3
    assert load(tmp_path, dump_yaml(config)) == config


def test_a_range_is_written_as_a_list_in_a_file_and_in_a_flag(tmp_path):
    config = load(tmp_path, "data: {train: a.json, val: b.json, scale_jitter: [0.5, 2]}\n")
    assert config.data.scale_jitter == (0.5, 2.0) and load(tmp_path, dump_yaml(config)) == config
    assert load(tmp_path, MINIMAL, "--data.scale_jitter", "[0.5, 2]") == config
    assert values_of(config)["data.scale_jitter"] == [0.5, 2.0] and with_values(config, values_of(config)) == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2", r"is 2, it must be \[low, high\]"),
        ("[1]", r"has too few values, it must be \[low, high\]"),
        ("[1, 2, 3]", r"is \[1, 2, 3\], it must be \[low, high\]"),
        ("[2, 1]", r"\[2, 1\] does not rise - put the smaller number first"),
        ("[0, 1]", r"is 0, it must be a number from 0\.1 to 4"),
        ("[a, 1]", r"is 'a', it must be a number from 0\.1 to 4"),
        ("['1', 1]", r"is '1', it must be a number"),
        ("[0.5, 2", r"is '\[0\.5, 2', it must be \[low, high\]"),
        ("{a: 1}", r"it must be \[low, high\]"),
    ],
)
def test_a_range_that_is_wrong_names_key_and_place(tmp_path, value, message):
    with pytest.raises(ConfigError, match=r"^--data\.scale_jitter=.*" + message):
        load(tmp_path, MINIMAL, "--data.scale_jitter", value)
    if value != "[0.5, 2":
        with pytest.raises(ConfigError, match=r"c\.yaml:1: .*" + message):
            load(tmp_path, f"data: {{train: a.json, val: b.json, scale_jitter: {value}}}\n")


def test_flags_win_over_the_file_in_both_spellings(tmp_path):
    config = load(tmp_path, MINIMAL + "optim: {epochs: 3}\n", "--optim.epochs", "9", "--optim.lr=0.5", "--seed", "4")
    assert (config.optim.epochs, config.optim.lr, config.seed) == (9, 0.5, 4)


def test_an_empty_flag_unsets_a_key_that_is_empty_by_default(tmp_path):
    text = "data: {train: a.json, val: b.json, unlabelled: night, pseudo: p.json}\n"
    config = load(tmp_path, text, "--data.unlabelled", "", "--data.pseudo=")
    assert (config.data.unlabelled, config.data.pseudo) == ("", "")


def test_text_that_looks_like_yaml_stays_text(tmp_path):
    config = load(tmp_path, "data: {train: 'a: b.json', val: b.json}\n", "--model.start", "none")
    assert (config.data.train, config.model.start) == ("a: b.json", "none")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (MINIMAL + "optim:\n  epchs: 3\n", [], r"c\.yaml:3: unknown key 'optim\.epchs' - did you mean 'optim\.epochs'"),
        (MINIMAL + "oops: 1\n", [], r"c\.yaml:2: unknown key 'oops'"),
        (MINIMAL + "seed: 1\nseed: 2\n", [], r"c\.yaml:3: key 'seed' is duplicated, it is on line 2 and on line 3"),
        (MINIMAL + "optim: {lr: 1}\ndata: {}\n", [], r"c\.yaml:3: key 'data' is duplicated, .* line 1 and on line 3"),
        (MINIMAL + "optim:\n  lr: 1\n  lr: 2\n", [], r"c\.yaml:4: key 'lr' is duplicated"),
        (MINIMAL + "seed:\n", [], r"c\.yaml:2: seed is empty"),
        (MINIMAL + "seed: !!int x\n", [], r"c\.yaml:2: the tag !!int"),
        ("data: {train: , val: b}\n", [], r"c\.yaml:1: data\.train is empty"),
        (MINIMAL + "optim: {epochs: many}\n", [], r"c\.yaml:2: optim\.epochs is 'many', it must be a whole number"),
        (MINIMAL + "optim: {epochs: [1, 2]}\n", [], r"c\.yaml:2: optim\.epochs takes one value"),
        (MINIMAL + "optim: 3\n", [], r"c\.yaml:2: expected `key: value`"),
        (MINIMAL + "optim: {epochs: 3\n", [], r"c\.yaml:\d+: not valid YAML"),
        ("- a\n", [], r"c\.yaml:1: expected"),
        (MINIMAL, ["--optim.epchs", "3"], r"unknown flag --optim\.epchs - did you mean"),
        (MINIMAL, ["--optim.epochs"], r"needs a value"),
        (MINIMAL, ["--data.train", ""], r"^--data\.train=: data\.train is not set"),
        (MINIMAL, ["--seed", ""], r"seed is empty"),
        (MINIMAL, ["stray"], r"unexpected argument 'stray'"),
        (MINIMAL, ["--optim.epochs", "0"], r"^--optim\.epochs=0: optim\.epochs is 0.*whole number from 1 to 10000"),
        (MINIMAL, ["--model.norm", "often"], r"model\.norm is 'often', it must be auto, frozen or train"),
        (MINIMAL, ["--optim.lr", "nan"], r"optim\.lr.*nan"),
        (
            MINIMAL,
            ["--model.min_size", "900", "--model.max_size", "800"],
            r"model\.min_size is 900, it must be at most model\.max_size \(800\)",
        ),
        ("data: {train: a.json}\n", [], r"data\.val"),
        (MINIMAL, ["--data.source", "s.json"], r"data\.source_share is 0 with data\.source set - set .* 0\.5 or auto"),
        (MINIMAL, ["--data.source_share=0.3"], r"data\.source is not set, data\.source_share is 0\.3"),
        (MINIMAL, ["--data.source=./a.json", "--data.source_share=.3"], r"^--data\.source=.* same file as data\.train"),
        (MINIMAL, ["--data.source=b.json", "--data.source_share=auto"], r"data\.source is the same file as data\.val"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(tmp_path, text, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, *overrides)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def bounded():
    """(key, a value that its bounds refuse) of every bound of every field."""
    for name, info in _fields().items():
        for bound in info.metadata:
            step = 1 if info.annotation is int else 1e-3
            for attribute, away in (("ge", -step), ("gt", 0), ("le", step), ("lt", 0)):
                if hasattr(bound, attribute):
                    yield name, getattr(bound, attribute) + away


@pytest.mark.parametrize(("key", "value"), list(bounded()), ids=str)
def test_law_a_value_outside_a_bound_is_refused_naming_file_line_and_key(tmp_path, key, value):
    section, _, name = key.rpartition(".")
    text = f"{section}: {{{name}: {value!r}}}\n" if section else f"{name}: {value!r}\n"
    text = text if section != "data" else text.replace("{", "{train: a.json, val: b.json, ")
    with pytest.raises(ConfigError, match=rf"c\.yaml:1: {re.escape(key)} is .*, it must be a"):
        load(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"^--{re.escape(key)}={re.escape(repr(value))}: {re.escape(key)} is "):
        load(tmp_path, MINIMAL, f"--{key}", repr(value))


def test_every_number_has_a_bound_and_every_key_its_help():
    assert {name for name, _ in bounded()} == {key.name for key in describe() if "number" in key.kind}
    assert all(key.help for key in describe())
    assert all(type_name(info) for info in _fields().values())
    may_be_auto = {key.name for key in describe() if key.words}
    assert recipe_keys() == may_be_auto - {"optim.batch_size"} and "seed" not in may_be_auto


@pytest.mark.parametrize("key", [key.name for key in describe() if "number" in key.kind])
@pytest.mark.parametrize("value", ["true", "'12'", "1_000", "0x10", "012", "yes", ".nan", "2001-13-45"])
def test_law_a_number_is_a_number(tmp_path, key, value):
    section, _, name = key.rpartition(".")
    text = f"{section}: {{{name}: {value}}}\n" if section else f"{name}: {value}\n"
    with pytest.raises(ConfigError, match=rf"c\.yaml:1: {re.escape(key)} is "):
        load(tmp_path, text)


def test_a_whole_number_is_not_a_fraction_and_a_boolean_is_true_or_false(tmp_path):
    for text in ("optim: {epochs: 12.0}", "seed: 1e3", "runtime: {compile: yes}", "runtime: {compile: 1}"):
        with pytest.raises(ConfigError, match=r"c\.yaml:2: (optim\.epochs|seed|runtime\.compile) is "):
            load(tmp_path, MINIMAL + text)
    assert load(tmp_path, MINIMAL + "runtime: {compile: true, channels_last: on}").runtime.channels_last == "on"
    assert load(tmp_path, MINIMAL + "optim: {lr: 1}").optim.lr == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "0x10",
        "1_000",
        "1e-3",
        "1.50",
        "007",
        "true",
        "null",
        "~",
        "yes",
        "2001-01-01",
        "a b",
        "[x]",
        "-1",
        "é",
        "C:\\x",
    ],
)
def test_law_a_path_is_the_text_as_written(tmp_path, text):
    quoted = f"'{text}'" if text in ("[x]", "~") else text
    for config in (
        load(tmp_path, f"data:\n  train: {quoted}\n  val: b.json\n"),
        load(tmp_path, f"data: {{train: '{text}', val: b.json}}\n"),
        load(tmp_path, MINIMAL, "--data.train", text),
        load(tmp_path, MINIMAL, f"--data.train={text}"),
    ):
        assert config.data.train == text
        assert load(tmp_path, dump_yaml(config)) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.lr", "1e-3"),
        ("seed", "7"),
        ("optim.epochs", "auto"),
        ("runtime.compile", "true"),
        ("model.norm", "train"),
        ("model.start", "0x10"),
        ("optim.recipe", "auto"),
        ("eval.every", "3"),
        ("data.cache_gb", "0"),
    ],
)
def test_law_a_flag_reads_like_the_file(tmp_path, key, value):
    section, _, name = key.rpartition(".")
    text = f"data:\n  train: a.json\n  val: b.json\n  {name}: {value}\n" if section == "data" else MINIMAL
    text += "" if section == "data" else f"{section}: {{{name}: {value}}}\n" if section else f"{name}: {value}\n"
    assert load(tmp_path, text) == load(tmp_path, MINIMAL, f"--{key}={value}")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_law_every_shipped_config_round_trips(tmp_path, path):
    config = load_config([SHIPPED[0], path])
    assert load(tmp_path, dump_yaml(config)) == config
    assert load_config([SHIPPED[0], path], ["--seed", "3"]) == dataclasses.replace(config, seed=3)


def test_auto_is_written_read_and_dumped(tmp_path):
    config = load(tmp_path, MINIMAL + "optim: {recipe: auto}\n")
    assert {key for key, value in values_of(config).items() if value == AUTO and key in recipe_keys()} == recipe_keys()
    assert load(tmp_path, dump_yaml(config)) == config
    assert config.optim.batch_size == 4
    for key in (*recipe_keys(), "optim.batch_size"):
        assert values_of(load(tmp_path, MINIMAL, f"--{key}=auto"))[key] == AUTO
    with pytest.raises(ConfigError, match=r"optim\.momentum is 'auto', it must be a number"):
        load(tmp_path, MINIMAL, "--optim.momentum", "auto")


def test_a_copy_is_checked_too():
    config = FinetuneConfig()
    with pytest.raises(ConfigError, match=r"model\.min_size is 5, it must be a whole number from 32 to 8192"):
        dataclasses.replace(config.model, min_size=5)
    assert with_values(config, {"optim.epochs": 3, "seed": 4}).optim.epochs == 3


def test_the_schema_for_editors_is_that_of_the_model():
    written = (ROOT / "configs" / "schema.json").read_text("utf-8")
    assert json.loads(written) == json_schema(), "run python tools/schema.py"
    assert set(json_schema()["properties"]) == set(FinetuneConfig().as_dict())


@pytest.mark.parametrize("mistake", ["config", "preset"])
def test_mistakes_are_reported_without_torch_and_without_a_traceback(tmp_path, mistake):
    path, preset = tmp_path / "c.yaml", tmp_path / "p.yaml"
    preset.write_text("steps:\n  - {name: haze, p: 1}\n")
    if mistake == "config":
        path.write_text(MINIMAL + "optim: {lr: fast}\n")
    else:  # the files that it names exist
        path.write_text(f"data: {{train: {path}, val: {path}, augment: {preset}}}\nmodel: {{start: none}}\n")
    code = (
        "import sys; from drivetl.cli import main; code = main(['finetune', '--config', sys.argv[1]]);"
        " assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    expected = {
        "config": (
            f"{path}:2: optim.lr is 'fast', it must be a number above 0 and at most 10, auto or find - fix the value"
        ),
        "preset": f"{preset}:2: step 1 changes every image, so the model never sees one as it is - set its p below 1",
    }
    assert " ".join(done.stderr.split()) == f"error: {expected[mistake]}"
