"""Laws of what is printed: any text comes out as it is, on one line, and never as markup or a control sequence."""

import contextlib
import io
import itertools
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from drivetl import cli, console
from drivetl.console import progress
from drivetl.console.text import MOST_CHARACTERS, markdown, markdown_code, one_line, printable
from drivetl.errors import DataError

PIECES = ("\\", "[", "]", "/", "bold", "red", ":cat:", "\x1b", "\n", "\r", "\t", "\x9b", "\u202e", "\ud800")
SHORT = st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=10).map("".join)
HOSTILE = ("a\\[/b]", "\\[bold]x", "\x1b]0;title\x07", "a\nerror: b", "\u00e9\ud800")
law = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _law(test):
    for text in HOSTILE:
        test = example(text=text)(test)
    return law(given(text=SHORT)(test))


@pytest.fixture(autouse=True)
def fresh_consoles():
    """Consoles that write to the streams of this test."""
    console._console.cache_clear()
    yield
    console._console.cache_clear()


def _printed(action, *arguments):
    """What an action prints on stdout and on stderr, both strict UTF-8."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        action(*arguments)
        for stream in streams:
            stream.flush()
    return tuple(stream.buffer.getvalue().decode() for stream in streams)


@law
@given(st.text(max_size=40))
@example("\x1b[31m")
def test_printable_text_has_no_control_character_and_encodes(text):
    shown = printable(text)
    shown.encode()
    assert not {letter for letter in shown if letter < " " or "\x7f" <= letter <= "\x9f"}
    assert not set(shown) & set("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert printable(shown) == shown


@_law
def test_say_warn_and_error_print_any_text_as_it_is(text):
    assert _printed(console.say, text) == (printable(text) + "\n", "")
    assert _printed(console.warn, text) == ("", f"warning: {printable(text)}\n")
    assert _printed(console.error, text) == ("", f"error: {printable(text)}\n")


@_law
def test_wrote_prints_any_path_and_command_as_they_are(text):
    path = f"folder/{text}"
    commands = f"next:  {printable(text)}\n" if text else ""
    assert _printed(console.wrote, path, text) == (f"wrote {printable(path)}\n{commands}", "")


@_law
def test_a_table_shows_any_text_in_every_place(text):
    shown = printable(text).strip()
    out, _ = _printed(console.table, text, ["head", text], [["row", text]])
    assert not {letter for letter in out if letter < " "} - {"\n"}
    if len(shown) < 20 and " " not in shown and shown.isascii():
        assert out.count(shown) >= 3


@pytest.mark.parametrize("terminal", [True, False])
@_law
def test_a_progress_bar_shows_any_description_and_note(terminal, text):
    stream = io.StringIO()
    bar = progress.bar(Console(file=stream, force_terminal=terminal, width=200, color_system=None))
    bar.disable = not terminal
    task = bar.add_task(text, total=2, note=text)
    shown = io.StringIO()
    Console(file=shown, width=400, color_system=None).print(bar.get_renderable())
    assert printable(text).strip() in shown.getvalue()
    bar._tasks[task].start_time = -1000.0
    bar.spoken_at = 0.0 if terminal else -1000.0
    bar.update(task, completed=1)
    if not terminal:
        assert printable(text) in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@law
@given(st.text(min_size=1, max_size=20), st.integers(1, 4000))
def test_a_line_is_bounded_and_keeps_both_ends(text, times):
    line = one_line("place: " + text * times + " - remedy")
    assert len(line) <= MOST_CHARACTERS and line.startswith("place: ") and line.endswith(" - remedy")


@pytest.mark.parametrize("reason", ["x" * 100_000, "a\nTraceback (most recent call last):\n  b", "\x1b[2J", "a\\[/b]"])
def test_an_error_is_one_line_whatever_it_says(reason, monkeypatch):
    def fail(_):
        raise DataError(reason, remedy="fix it", file="labels/\x1b[31m.txt", line=3)

    monkeypatch.setattr(cli, "dispatch", fail)
    out, err = _printed(cli.main, ["info"])
    assert out == "" and err.count("\n") == 1 and len(err) <= MOST_CHARACTERS + len("error: \n") and "\x1b" not in err
    assert err.startswith("error: labels/\\x1b[31m.txt:3: ") and err.endswith(" - fix it\n")


def test_stdout_in_another_encoding_escapes_what_it_lacks(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(cli, "dispatch", lambda _: console.say("caf\u00e9 \u2013 5") or 0)
    assert cli.main([]) == 0
    stream.flush()
    assert stream.buffer.getvalue() == b"caf\\xe9 \\u2013 5\n"


MARKDOWN_PIECES = (
    "<b>",
    "</b>",
    "<!--",
    "&lt;",
    "&",
    "#",
    "*",
    "_",
    "__",
    "`",
    "~~",
    "|",
    "[a](b)",
    "![",
    "\\",
    "1. ",
    "- ",
)
MARKDOWN = SHORT | st.lists(st.sampled_from((*MARKDOWN_PIECES, "a", " ", "> ", "+ ", "---", "\n")), max_size=10).map(
    "".join
)
parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _content(source, kind):
    """The inline texts of a document's blocks of this kind; anything but plain text in them is an error."""
    tokens = parser.parse(source)
    contents = []
    for before, token in itertools.pairwise(tokens):
        if token.type == "inline" and before.type == kind:
            assert {child.type for child in token.children} <= {"text"}, source
            contents.append("".join(child.content for child in token.children))
    return contents


@law
@given(MARKDOWN)
@example("<img src=x onerror=alert(1)>")
@example("2. a")
def test_markdown_reads_any_text_literally(text):
    shown, start = printable(text), f"{text.strip()} end".strip()
    assert _content(f"{markdown(start)}\n", "paragraph_open") == [printable(start)]
    assert _content(f"# x{markdown(text)}x\n", "heading_open") == [f"x{shown}x"]
    table = _content(f"| a | b |\n|---|---|\n| x{markdown(text)}x | end |\n", "td_open")
    assert table == [f"x{shown}x", "end"]


@law
@given(MARKDOWN)
def test_a_code_span_shows_any_text(text):
    (line,) = [token for token in parser.parse(f"x {markdown_code(text)} end\n") if token.type == "inline"]
    shown = printable(text)
    if shown.strip():
        (code,) = [child for child in line.children if child.type == "code_inline"]
        assert code.content.strip() == shown.strip()


@pytest.mark.parametrize(
    "text",
    ["town_a", "traffic light", "car/van", "a-b (c), 31.4 (28.9\u201333.7)", "-", "+0.012 (-0.1 to 0.2)", "p < 0.001"],
)
def test_ordinary_names_and_numbers_stay_as_they_are_in_markdown(text):
    assert markdown(text) == text
    assert markdown_code(text) == f"`{text}`"
