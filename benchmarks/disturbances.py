"""Disturbances of the process that calls: a signal at a rename, or errors of all operations that write.

Also when to disturb, and what must be the same afterwards.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

COMPARED = (
    "*.csv", "tiles/*", "leaks/*.csv", "fingerprint.json", "decision.json", "runs/*/*/*_weights.pt",
    "runs/*/*/network.yaml", "runs/*/*/resolved.yaml", "pseudo/*/*.csv", "pseudo/*/tiles/*",
)  # fmt: skip


def kill_at(place: int, before: bool, number: signal.Signals) -> None:
    """The process group gets a signal at a rename, counted from 0."""
    counter = itertools.count()

    def watched(rename: Callable) -> Callable:
        def renaming(*paths: object, **options: object) -> None:
            here = next(counter) == place
            if here and before:
                os.killpg(0, number)
            rename(*paths, **options)
            if here and not before:
                os.killpg(0, number)

        return renaming

    os.replace, os.rename = watched(os.replace), watched(os.rename)


def on_writing(workspace: Path, act: Callable[[str], object]) -> None:
    """`act(path)` before every operation of this process that changes a file of the workspace."""
    inside, process = str(workspace), os.getpid()

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            path = arguments[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(inside) and os.getpid() == process:
            act(os.fspath(path))

    sys.addaudithook(hook)


def fail_from(place: int, number: int, workspace: Path) -> None:
    """From an operation on, counted from 0, all that write fail."""
    counter = itertools.count()

    def act(path: str) -> None:
        if next(counter) >= place:
            raise OSError(number, os.strerror(number), path)

    on_writing(workspace, act)


def count_operations(file: Path, workspace: Path) -> None:
    """Write [renames, operations that write] to a file, after each of them."""
    counts = [0, 0]

    def act(_path: str) -> None:
        counts[1] += 1

    def watched(rename: Callable) -> Callable:
        def renaming(*paths: object, **options: object) -> None:
            counts[0] += 1
            rename(*paths, **options)
            file.write_text(json.dumps(counts))

        return renaming

    os.replace, os.rename = watched(os.replace), watched(os.rename)
    on_writing(workspace, act)


def contents(workspace: Path) -> dict[str, str]:
    """Relative path -> hash of the files that must not depend on disturbances."""
    files = [path for pattern in COMPARED for path in workspace.glob(pattern) if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def moments(renames: list[int], most: int, random_: random.Random) -> Iterator[tuple[int, int, bool]]:
    """(stage, rename, before or after): all of them, or `most` that are drawn."""
    places = [(stage, place) for stage, count in enumerate(renames) for place in range(count)]
    every = [(*where, before) for where in places for before in (True, False)]
    yield from every if len(every) <= most else sorted(random_.sample(every, most))
