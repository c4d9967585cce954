"""Bars, quiet, and the log file."""

import re
import sys

import numpy as np
import pytest

from lib.config import load
from lib.errors import UserError
from lib.system import terminal


@pytest.fixture
def begun():
    """`begin` with some flags; undone afterwards."""
    yield lambda *flags: terminal.open_log(load(None, list(flags)))
    terminal.open_log(load(None))


def test_where_nobody_watches_a_bar_is_a_line_for_each_tenth(capsys):
    bar = terminal.progress(100, "01 look", "image")
    for _ in range(100):
        bar.update()
        bar.refresh()  # which tqdm itself does twice a second at most
    bar.close()
    shown = capsys.readouterr().err
    lines = shown.splitlines()
    assert "\r" not in shown
    assert [int(re.search(r": (\d+) %", line)[1]) // 10 for line in lines] == sorted({*range(11)})
    assert lines[-1].startswith("01 look: 100 % of 100 image, 00:00 gone, 00:00 left")


def test_without_a_description_there_is_no_bar(capsys):
    bar = terminal.progress(3, "", "image")
    bar.update(3)
    bar.close()
    assert capsys.readouterr().err == ""


def test_quiet_shows_warnings_and_errors_alone_and_the_log_has_everything(begun, tmp_path, capsys):
    log = tmp_path / "logs/run.txt"
    begun("--quiet", "--log-file", str(log))
    print("a table\nof two lines")
    print("warning: look here")
    print("error: this", file=sys.stderr)
    bar = terminal.progress(10, "03", "step")
    bar.update(10)
    bar.close()
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
    terminal.Bar._instances.clear()  # of other tests, whose stages ended with an error
    bar = terminal.progress(3, "01 look", "image")
    bar.update(3)
    bar.close()
    shown = capsys.readouterr().err
    assert "\r" in shown and "3/3" in shown and shown.count("\n") == 1


@pytest.fixture
def clock(monkeypatch):
    """The bars' clock: a list whose only item is the time, in seconds."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def check_time_left(told: list[tuple[float, float, float]], ended: float) -> None:
    """`told`: (share done, time, seconds that were said to be left); after the first tenth they are right."""
    late = [(at, left) for share, at, left in told if 0.1 <= share < 1]
    assert len(late) > 5
    for at, left in late:
        assert left == pytest.approx(ended - at, rel=0.2), f"{ended - at:.0f} s were left"


def test_the_time_left_is_right_although_starting_is_slow_and_pieces_differ(clock):
    pieces = np.random.default_rng(0).choice([1.0, 2.0, 3.0, 20.0], 80)  # megabytes, say
    bar, told = terminal.progress(pieces.sum(), "01 look", "MB"), []
    clock[0] += 15  # processes start
    for size in pieces:
        clock[0] += 0.4 * size
        bar.update(size)
        told.append((bar.n / bar.total, clock[0], bar.left()))
    check_time_left(told, clock[0])


@pytest.mark.parametrize("by_the_clock", [False, True])
def test_a_resumed_training_knows_its_time_left_and_sets_scoring_apart(clock, capsys, by_the_clock):
    total, each = (300.0, 2.5) if by_the_clock else (120, 1)  # seconds or steps; 2.5 s a step
    bar, told = terminal.progress(total, "fold0", "s" if by_the_clock else "step", done=total / 3), []
    clock[0] += 20  # the first batch is read
    scorings = [total / 2, total * 3 / 4]
    while bar.n < total:
        clock[0] += 2.5
        bar.update(each)
        if scorings and bar.n >= scorings[0]:
            clock[0] += 30
            bar.aside(30, len(scorings[1:]))
            scorings.pop(0)
        told.append(((bar.n / total - 1 / 3) * 1.5, clock[0], bar.left()))
    bar.close()
    assert ", 00:00 left" in capsys.readouterr().err.splitlines()[-1]
    unscored = [entry for entry in told if entry[0] < 0.25]  # before a scoring, nobody knows how long one takes
    assert unscored[-1][2] == pytest.approx(200 * (1 - unscored[-1][0]), rel=0.05)
    check_time_left(told[len(unscored) :], clock[0])


def test_what_is_shown_is_that_time_left(clock, capsys):
    bar = terminal.progress(10, "05", "window")
    for _ in range(10):
        clock[0] += 60
        bar.update()
    bar.close()
    assert "05: 50 % of 10 window, 05:00 gone, 05:00 left" in capsys.readouterr().err
