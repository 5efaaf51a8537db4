"""Laws of the configuration: round trip, errors with place and nearest key."""

import pytest

from drivetl.config import dump_yaml, load_config
from drivetl.errors import ConfigError

MINIMAL = "data: {train: a.json, val: b.json}\n"


def load(tmp_path, text, *overrides):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(path, list(overrides))


def test_what_is_written_reads_back_the_same(tmp_path):
    config = load(tmp_path, MINIMAL + "optim: {lr: 1e-3, ema: 0.99}\nseed: 7\n")
    assert config.optim.lr == 1e-3
    assert load(tmp_path, dump_yaml(config)) == config


def test_flags_win_over_the_file_in_both_spellings(tmp_path):
    config = load(tmp_path, MINIMAL + "optim: {epochs: 3}\n", "--optim.epochs", "9", "--optim.lr=0.5", "--seed", "4")
    assert (config.optim.epochs, config.optim.lr, config.seed) == (9, 0.5, 4)


def test_text_that_looks_like_yaml_stays_text(tmp_path):
    config = load(tmp_path, "data: {train: 'a: b.json', val: b.json}\n", "--model.start", "none")
    assert (config.data.train, config.model.start) == ("a: b.json", "none")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (MINIMAL + "optim:\n  epchs: 3\n", [], r"c\.yaml:3: unknown key 'optim\.epchs' - did you mean 'optim\.epochs'"),
        (MINIMAL + "oops: 1\n", [], r"c\.yaml:2: unknown key 'oops'"),
        (MINIMAL + "optim: {epochs: many}\n", [], r"optim\.epochs"),
        (MINIMAL + "optim: {epochs: [1, 2]}\n", [], r"c\.yaml:2: optim\.epochs takes one value"),
        (MINIMAL + "optim: 3\n", [], r"c\.yaml:2: expected `key: value`"),
        (MINIMAL + "optim: {epochs: 3\n", [], r"c\.yaml:\d+: not valid YAML"),
        ("- a\n", [], r"c\.yaml:1: expected"),
        (MINIMAL, ["--optim.epchs", "3"], r"unknown flag --optim\.epchs - did you mean"),
        (MINIMAL, ["--optim.epochs"], r"needs a value"),
        (MINIMAL, ["stray"], r"unexpected argument 'stray'"),
        (MINIMAL, ["--optim.epochs", "0"], r"optim\.epochs is 0.*at least 1"),
        (MINIMAL, ["--model.norm", "often"], r"model\.norm"),
        (MINIMAL, ["--optim.lr", "nan"], r"optim\.lr.*nan"),
        (MINIMAL, ["--model.min_size", "900", "--model.max_size", "800"], r"model\.min_size"),
        ("data: {train: a.json}\n", [], r"data\.val"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(tmp_path, text, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, *overrides)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
