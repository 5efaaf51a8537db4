"""The YAML reader: plain values, lines and texts, and errors."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from drivetl.errors import ConfigError, DataError
from drivetl.files.yaml_reader import MOST_ALIASES, MOST_LEVELS, load_yaml, parse_yaml, read_scalar, read_yaml

TEXT = [
    *("yes", "no", "on", "off", "True", "-"),
    *("0x10", "0o17", "1_000", "012", "1:30", "2001-13-45", "2001-01-01", "1.2.3"),
]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", TEXT)
def test_what_only_looks_like_a_number_or_a_boolean_is_text(text):
    assert read_scalar(text) == text
    assert text == "-" or parse_yaml(f"a: {text}").value == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("true", True), ("false", False), ("null", None), ("~", None), ("", None), ("12", 12), ("-3", -3)),
        *(("1e-3", 1e-3), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("1E5", 1e5), ("-.inf", -math.inf)),
    ],
)
def test_constants_and_numbers(text, value):
    read = parse_yaml(f"a: {text}").value["a"]
    assert read == value and type(read) is type(value)
    assert math.isnan(parse_yaml("a: .nan").value["a"])
    assert parse_yaml("a: '12'\nb: !!str 12").value == {"a": "12", "b": "12"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab: -#'\n"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:", min_size=1), inner, max_size=3),
    )
)
def test_dumped_values_read_the_same(value):
    assert parse_yaml(yaml.safe_dump({"a": value})).value == {"a": value}


def test_lines_and_texts_are_known():
    document = parse_yaml("# head\na:\n  b: 0x10\n  c:\n    - 1.50\n    - {d: 'x'}\n")
    assert (document.line(("a", "b")), document.line(("a", "c", 0)), document.line(("a", "c", 1, "d"))) == (3, 5, 6)
    assert document.line(("a", "c", 1, "missing")) == 6 and document.line(("missing",)) == document.line(())
    assert document.texts[("a", "b")] == "0x10" and document.texts[("a", "c", 0)] == "1.50"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3", 3, "key 'a' is duplicated, it is on line 1 and on line 3"),
        ("s: {x: 1,\n x: 2}", 2, "key 'x' is duplicated, it is on line 1 and on line 2"),
        ("0: a\n0: b", 2, "key '0' is duplicated"),
        ('a: !!int "x"', 1, "the tag !!int is not supported"),
        ('a: !!binary "x"', 1, "the tag !!binary"),
        ("!!python/object/apply:os.system [ls]", 1, "the tag !!python/object"),
        ("a: &a\n  b: *a", 2, "an alias refers to the value that contains it"),
        (BOMB, None, "more than 200,000 values"),
        ("a: &a x\nb: [" + "*a," * (MOST_ALIASES + 1) + "]", 2, f"more than {MOST_ALIASES} aliases"),
        ("[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1), 1, f"deeper than {MOST_LEVELS}"),
        ("[" * 5000, 1, "deeper than"),
        ("a: 1\n<<: {b: 2}", 2, "merge keys"),
        ("? [a]\n: 1", 1, "a key is a list or a mapping"),
        ("a: 1\nb: \x07", 2, "a control character"),
        ('a: "\\ud800"', 1, "lone surrogate"),
        ("a: 1\n---\nb: 2", 2, "not valid YAML"),
        ("a: [1\nb: 2", 2, "not valid YAML"),
        ("a: *b", 1, "not valid YAML"),
    ],
)
def test_errors_have_their_line(tmp_path, text, line, reason):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_yaml(path)
    assert reason in caught.value.reason and caught.value.file == path and len(str(caught.value)) < 500
    assert caught.value.line == line or line is None


def test_a_file_that_cannot_be_read_raises_the_requested_error(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read"):
        read_yaml(tmp_path / "gone.yaml", ConfigError)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:1: byte 0xe9 is not UTF-8"):
        read_yaml(tmp_path / "latin.yaml", ConfigError)
