"""Bars, quiet, and the log file."""

import re
import sys

import pytest

from lib import terminal
from lib.config import load
from lib.errors import UserError


@pytest.fixture
def begun():
    """`begin` with some flags; undone afterwards."""
    yield lambda *flags: terminal.begin(load(None, list(flags)))
    terminal.begin(load(None))


def test_where_nobody_watches_a_bar_is_a_line_for_each_tenth(capsys):
    bar = terminal.progress(100, "01 look", "image")
    for _ in range(100):
        bar.update()
        bar.refresh()  # which tqdm itself does twice a second at most
    bar.close()
    shown = capsys.readouterr().err
    lines = shown.splitlines()
    assert "\r" not in shown and list(terminal.progress(3, "01 look", "image", range(3))) == [0, 1, 2]
    assert [int(re.search(r": (\d+) %", line)[1]) // 10 for line in lines] == sorted({*range(11)})
    assert lines[-1].startswith("01 look: 100 % of 100 image, 00:00 gone, 00:00 left")


def test_without_a_description_there_is_no_bar(capsys):
    assert list(terminal.progress(3, "", "image", range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_quiet_shows_warnings_and_errors_alone_and_the_log_has_everything(begun, tmp_path, capsys):
    log = tmp_path / "logs/run.txt"
    begun("--quiet", "--log-file", str(log))
    print("a table\nof two lines")
    print("warning: look here")
    print("error: this", file=sys.stderr)
    for _ in terminal.progress(10, "03", "step", range(10)):
        pass
    shown = capsys.readouterr()
    assert shown.out == "warning: look here\n" and shown.err == "error: this\n"
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line) for line in lines)
    for words in ("a table", "of two lines", "warning: look here", "error: this", "03: 100 %"):
        assert sum(words in line for line in lines) == 1, words
    assert "\r" not in log.read_text()


def test_a_log_without_quiet_changes_nothing_on_the_screen_and_grows(begun, tmp_path, capsys):
    log = tmp_path / "run.txt"
    for word in ("first", "second"):
        begun(f"--log_file={log}")
        print(word)
    begun()
    print("third")
    assert capsys.readouterr().out == "first\nsecond\nthird\n"
    assert [line.split()[-1] for line in log.read_text().splitlines()] == ["first", "second"]
    with pytest.raises(UserError, match="log_file"):
        begun("--log-file", str(tmp_path))


def test_in_a_terminal_the_bar_lives_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(terminal.progress(3, "01 look", "image", range(3)))
    shown = capsys.readouterr().err
    assert "\r" in shown and "3/3" in shown and shown.count("\n") == 1
