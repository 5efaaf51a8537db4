"""Laws of what a terminal shows, and of what a file gets: colour and boxes for a terminal only, every line whole."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

HEAD = "import sys, time\nfrom drivetl import console\n"
TABLE = HEAD + "console.table('A title', ['', 'AP50'], [['car', '0.512'], ['tram', '0.1']])\nconsole.wrote('x')\n"


def in_terminal(code, *, columns=80, stdout="terminal", **environment):
    """(what the terminal shows, what goes to a stdout that is a pipe) of a Python program."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (40, columns))
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=side,
        stdout=side if stdout == "terminal" else subprocess.PIPE,
        stderr=side,
        env=variables | {"TERM": "xterm"} | environment,
    )
    os.close(side)
    shown = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:  # the program has ended
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    piped = (process.communicate()[0] or b"").decode()
    assert process.returncode == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n"), piped


def test_a_terminal_gets_a_box_and_a_file_gets_columns():
    shown, _ = in_terminal(TABLE)
    assert "──" in shown and "\x1b[" in shown
    shown, piped = in_terminal(TABLE, stdout="pipe")
    assert shown == "" and piped == "A title\n       AP50\ncar   0.512\ntram    0.1\nwrote x\n"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_and_no_box_where_they_are_not_wanted(environment):
    shown, _ = in_terminal(TABLE, **environment)
    assert shown == "A title\n       AP50\ncar   0.512\ntram    0.1\nwrote x\n"


def test_a_long_line_breaks_between_words_and_a_command_stays_whole():
    code = (
        HEAD + "console.say('word ' * 30)\nconsole.warn('word ' * 30)\nconsole.wrote('p', 'drivetl ' + 'long/' * 30)\n"
    )
    shown, _ = in_terminal(code, NO_COLOR="1")
    lines = [line for line in shown.splitlines() if line.startswith(("word", "warning: word"))]
    assert all(len(line) <= 80 and line.endswith("word") for line in lines) and len(lines) == 4
    assert shown.count("word") == 60 and "long/" * 30 in shown


def test_a_warning_that_goes_to_a_file_is_one_line():
    run = subprocess.run(
        [sys.executable, "-c", HEAD + "console.warn('word ' * 30 + 'end')"], capture_output=True, check=True
    )
    assert run.stderr.decode().splitlines() == ["warning: " + "word " * 30 + "end"]


PROGRESS = HEAD + (
    "with console.progress_bar() as bar:\n"
    "    task = bar.add_task('training', total=10000, completed=9990, note='')\n"
    "    bar.update(task, advance=1, note='epoch 12/12  loss 0.731')\n"
    "    time.sleep(0.3)\n"
    "    console.say('epoch 11/12: AP 0.487  AP50 0.731  loss 0.512  100 s')\n"
    "    console.warn('odd')\n"
    "    time.sleep(0.3)\n"
)
SAID = "epoch 11/12: AP 0.487  AP50 0.731  loss 0.512  100 s"


def test_a_bar_fits_80_columns_and_a_line_said_meanwhile_is_whole():
    shown, _ = in_terminal(PROGRESS)
    assert "epoch 12/12  loss 0.731" in shown and "…" not in shown
    assert f"{SAID}\n" in shown


def test_what_goes_to_a_file_is_not_sent_to_the_terminal():
    shown, piped = in_terminal(PROGRESS, stdout="pipe")
    assert (
        piped == f"{SAID}\n"
        and SAID not in shown
        and "warning: odd" in shown.replace("\x1b[33m", "").replace("\x1b[0m", "")
    )


LOADING = HEAD + "with console.loading('torch'):\n    pass\n"


def test_loading_is_said_on_stderr_and_removed_from_a_terminal():
    shown, piped = in_terminal(LOADING, stdout="pipe")
    assert shown == "loading torch ...\r\x1b[2K" and piped == ""
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == "loading torch ...\n"


@pytest.mark.parametrize(
    "before", ["console.be_quiet(True)\n", "sys.modules['torch'] = sys\n", "import os; os.environ['RANK'] = '1'\n"]
)
def test_loading_is_not_said_when_quiet_when_loaded_or_by_other_processes(before):
    code = LOADING.replace("with", before + "with", 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_what_a_command_starts_is_on_the_screen_before_torch(tmp_path):
    """The first line of `finetune` comes before torch is imported: a fake torch shows the order."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import sys\nprint('torch', file=sys.stderr)\nsys.exit(3)\n")
    (tmp_path / "c.yaml").write_text("data: {train: c.yaml, val: c.yaml}\n")
    root = str(Path(__file__).parents[2])
    words = [sys.executable, "-m", "drivetl", "finetune", "--config", "c.yaml", "--out", "run"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == ["loading torch ...", "torch"]
