"""Finds the pattern that matches some pictures of a folder, and no others."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from lib.competition.image_files import image_files
from lib.errors import UserError

MAX_NAMED_FOLDERS = 12  # a pattern lists at most so many folders by name


def glob_of(root: Path, names: list[str], exceptions: set[str]) -> str | None:
    """The simplest pattern below `root` that matches these pictures and no others; None where there is none.

    `exceptions`: files that the pattern may match too.
    """
    wanted = set(names)
    for pattern in _patterns(names) if wanted else []:
        try:
            matches = image_files(root, pattern, "init")
        except UserError:
            continue
        if {path.relative_to(root).as_posix() for path in matches} - exceptions == wanted:
            return pattern
    return None


def _patterns(names: list[str]) -> list[str]:
    """Patterns that match all the names, the simplest first: a wildcard for a folder, or the folders' names."""
    folders = [Path(name).parent.parts for name in names]
    if len({len(parts) for parts in folders}) != 1:
        return []
    levels = [sorted(set(level)) for level in zip(*folders, strict=True)]
    plain = [glob.escape(level[0]) if len(level) == 1 else "*" for level in levels]
    nameable = [1 < len(level) <= MAX_NAMED_FOLDERS and not set("{},") & set("".join(level)) for level in levels]
    exact = [
        "{" + ",".join(map(glob.escape, level)) + "}" if named else one
        for level, one, named in zip(levels, plain, nameable, strict=True)
    ]
    suffixes = {Path(name).suffix for name in names}
    start = os.path.commonprefix([Path(name).name for name in names])
    end = os.path.commonprefix([Path(name).name[::-1] for name in names])[::-1]
    ends = ["*", *(f"*{glob.escape(suffix)}" for suffix in suffixes if len(suffixes) == 1)]
    ends += [f"{glob.escape(start)}*", f"*{glob.escape(end)}"]
    if len({Path(name).name for name in names}) == 1:
        ends = [glob.escape(start)]
    above = [plain] + [exact] * (exact != plain)
    return ["/".join([*parts, last]) for parts in above for last in ends]
