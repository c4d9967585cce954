"""The log of finished trials, and the time that further trials will take."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from lib.config.old_names import OLD_NAMES

RESULTS = Path(__file__).resolve().parent / "results"


def key_of(competition: str, name: str, seed: int, fold: int, seconds: float, options: str) -> str:
    """Everything that a trial's score depends on, except the code. `options`: a setting's hash.

    >>> key_of("demo", "ema", 42, 0, 60.0, "a1b2")
    'demo ema seed42 fold0 60s a1b2'
    """
    return f"{competition} {name} seed{seed} fold{fold} {seconds:g}s {options}"


class Log:
    """A file of finished trials, one JSON line each."""

    def __init__(self, path: Path):
        self.path = path

    def lines(self, **same: object) -> list[dict]:
        """The lines that hold the values `same`, oldest first, with options by today's names.

        A last line that a kill cut short is left out.
        """
        lines = []
        for text in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if all(line[key] == value for key, value in same.items()):
                options = {OLD_NAMES.get(name, name): value for name, value in line.get("options", {}).items()}
                lines.append({**line, "options": options} if options else line)
        return lines

    def latest(self) -> dict[str, dict]:
        """The latest line of each key."""
        return {line["key"]: line for line in self.lines()}

    def add(self, line: dict) -> None:
        """Append a line, with the time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A line that a kill cut short must not be joined with this one.
        cut = self.path.is_file() and self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + json.dumps({**line, "when": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Budget:
    """The time that a program may take. `minutes`: 0 for no limit."""

    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes if minutes else float("inf")

    def fits(self, seconds: float) -> bool:
        """Whether something of so many seconds still fits the budget."""
        return time.monotonic() + seconds <= self.end


GUESSES = {"data": 600.0, "train": 240.0, "infer": 180.0}  # seconds of a trial besides its training: too high, if wrong


def expected_seconds(
    lines: Iterable[dict], kind: str, competition: str, seconds: float, guesses: Mapping[str, float] = GUESSES
) -> float:
    """Seconds that a trial of this kind will take: as long as the longest one in `lines`, or a guess without any.

    `seconds`: of its training; 0 for equal epochs. Finished trials may have trained for another time.
    """
    trains = kind != "infer"
    known = [
        line["wall_seconds"] - trains * line["seconds"] for line in lines
        if (line["kind"], line["competition"], not line["seconds"]) == (kind, competition, not seconds)
    ]  # fmt: skip
    return trains * seconds + (max(known) if known else guesses[kind])
