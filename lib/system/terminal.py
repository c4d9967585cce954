"""Terminal output: progress bars in a terminal, plain lines elsewhere; the options `quiet` and `log_file`."""

from __future__ import annotations

import io
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from lib.config import Config
from lib.errors import UserError
from lib.failures.stops import several_processes

ALWAYS = "warning"  # lines that start so are shown even when `quiet`
PLAIN = "{desc}: {percentage:.0f} % of {total:g} {unit}, {elapsed} gone, {remaining} left{postfix}"


class Tee(io.TextIOBase):
    """A stream that writes whole lines to a console, and to a log with the time before each line.

    `quiet`: only lines that start with a word of `always` reach the console.
    """

    def __init__(self, console: TextIO, log: TextIO | None, quiet: bool, always: tuple[str, ...] = (ALWAYS,)):
        self.console, self.log, self.quiet, self.always, self._rest = console, log, quiet, always, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if not self.quiet or line.startswith(self.always):
                self.console.write(line + "\n")
            self.note(line)
        return len(text)

    def note(self, line: str) -> None:
        """Write a line to the log only."""
        if self.log:
            self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}".rstrip() + "\n")

    def flush(self) -> None:
        self.console.flush()

    def isatty(self) -> bool:
        return self.console.isatty()


def open_log(config: Config) -> None:
    """Apply `quiet` and `log_file`, until the process ends or this is called again.

    Of the processes that torchrun starts, only the main process writes. Raises UserError when it cannot write the log.
    """
    follows = several_processes() and os.environ.get("RANK", "0") != "0"
    quiet = config.quiet or follows
    out, err = (getattr(stream, "console", stream) for stream in (sys.stdout, sys.stderr))
    log = None
    if config.log_file and not config.preflight and not follows:  # nobody reads the output of a rehearsal
        try:
            Path(config.log_file).parent.mkdir(parents=True, exist_ok=True)
            log = Path(config.log_file).open("a", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (for the process's life)
        except OSError as error:
            raise UserError(f"log_file: {config.log_file} cannot be written to ({error.strerror})") from None
    wanted = quiet or log
    sys.stdout = Tee(out, log, quiet, () if follows else (ALWAYS,)) if wanted else out
    sys.stderr = Tee(err, log, False) if wanted else err
    Bar.quiet = quiet


class Bar(tqdm):
    """A progress bar in a terminal. Elsewhere, and in the log, a plain line at each tenth of the work.

    The time left is computed from the work after the first piece: before it, processes start and networks warm up.
    """

    quiet = False

    def __init__(self, *arguments: object, **options: object):
        self.shown_tenth = -1
        self.stream = sys.stderr
        console = getattr(sys.stderr, "console", sys.stderr)
        self.live = console.isatty() and not self.quiet
        self.first: tuple[float, float] | None = None  # (units, seconds) as the first piece was done
        self.last = self.first  # and the latest one
        self.later = 0.0  # seconds that are known to come besides
        super().__init__(*arguments, file=console, leave=self.live, **options)

    def update(self, n: float = 1) -> bool | None:
        if not self.disable:
            if self.total:
                self.total = max(self.total, self.n + n)  # more than was expected
            self.last = (self.n + n, self._time())
            self.first = self.first or self.last
        return super().update(n)

    def aside(self, seconds: float, again: int = 0) -> None:
        """Leave out `seconds` that other work took. `again`: how many more times it will take them."""
        if self.first:
            self.first, self.last = ((units, at + seconds) for units, at in (self.first, self.last))
        self.later = seconds * again

    def left(self) -> float | None:
        """Seconds left; None before anything is known."""
        if not self.first:
            return None
        (start, started), (done, at) = self.first, self.last
        if done <= start:  # one piece alone: all the time so far was its own
            start, started = self.initial, self.start_t
        return max(0.0, self.total - done) * (at - started) / (done - start) + self.later if done > start else None

    @property
    def format_dict(self) -> dict:
        left = None if self.disable or not self.total or self.n >= self.total else self.left()
        return {**super().format_dict, "rate": (self.total - self.n) / left if left else None}

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.live:
            super().display(msg, pos)
        tenth = int(10 * self.n / self.total + 1e-6) if self.total else -1
        if tenth > self.shown_tenth and msg is None:
            self.shown_tenth = tenth
            self.tell(self.format_meter(**{**self.format_dict, "bar_format": PLAIN}))

    def tell(self, line: str) -> None:
        if self.live or self.quiet:
            getattr(self.stream, "note", str)(line)
        else:
            print(line, file=self.stream, flush=True)

    def clear(self, nolock: bool = False) -> None:
        if self.live:
            super().clear(nolock)

    def close(self) -> None:
        if self.live or self.disable:
            super().close()
            return
        self.display()
        self.disable = True
        self._decr_instances(self)


@cache
def warn_once(sentence: str) -> None:
    """Print a warning, the same one only once in the life of the process."""
    Bar.write(f"{ALWAYS}: {sentence}")


def progress(
    total: float, description: str, unit: str, shape: str | None = None, parts: bool = False, done: float = 0
) -> Bar:
    """A progress bar that `update` moves; it starts at `done`. It is hidden where `description` is empty.

    Move it in proportion to the work, or the time left is wrong. `shape`: tqdm's `bar_format`. `parts`: it moves by
    less than one unit.
    """
    return Bar(
        total=total, desc=description, unit=unit, bar_format=shape, unit_scale=parts, smoothing=0, initial=done,
        mininterval=0.5, disable=not description,
    )  # fmt: skip
