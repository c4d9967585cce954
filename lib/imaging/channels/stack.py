"""Stacks of slices: which other images belong to an image's stack, and which one lies so many slices away."""

from __future__ import annotations

import glob
import math
import re
from functools import lru_cache
from pathlib import Path

from lib.config.pixels import STACK_HOLE, Pixels
from lib.errors import UserError
from lib.imaging.readers.registry import file_and_slice, stem_of, volume_slices

NUMBER = "{number}"


def slice_at(path: Path, offset: int, pixels: Pixels) -> Path:
    """The image `offset` slices after that of `path` in its stack; the first or last one beyond the stack's ends.

    Raises UserError where the path names no stack, and where a slice is missing inside the stack.
    """
    if not offset:
        return path
    numbers = slices_of_stack(path, pixels)
    own = next((number for number, one in numbers.items() if one == path), None)
    if own is None:
        raise UserError(f"there is no image {path}; its stack has the slices {min(numbers)} to {max(numbers)}")
    step = math.gcd(*(number - own for number in numbers)) or 1
    wanted = min(max(own + offset * step, min(numbers)), max(numbers))
    if wanted in numbers:
        return numbers[wanted]
    if pixels.gaps == "nearest":
        return numbers[min(numbers, key=lambda number: (abs(number - wanted), number))]
    raise UserError(
        f"the stack of {path} has a gap: it has no slice {wanted}, between {min(numbers)} and {max(numbers)}; restore "
        "the file, or set competition.pixels.gaps to nearest"
    )


def slices_of_stack(path: Path, pixels: Pixels) -> dict[int, Path]:
    """All slices of an image's stack, by their numbers, in order. Raises UserError where the path names no stack."""
    file, number = file_and_slice(path)
    if number is not None:
        digits = len(path.name)
        return {i: file / f"{i:0{digits}}" for i in range(volume_slices(file, pixels))}
    if not pixels.stack:
        raise UserError(
            f"competition.pixels reads slices, but does not say how {path} names its stack and number: set "
            "competition.pixels.stack, for example to {stack}/slice_{number}"
        )
    end, suffix = _end_of(path, pixels.stack)
    found = _pattern(pixels.stack).fullmatch(end)
    if not found:
        raise UserError(f"{path} is not named like competition.pixels.stack, {pixels.stack}; correct the option")
    base = path.parents[pixels.stack.count("/")]
    same = "".join(_as_glob(part, found) for part in _numbered(pixels.stack))
    return _slices_below(base, same + glob.escape(suffix), pixels.stack, _stack_name(found), _changed(path, base))


@lru_cache(maxsize=256)
def _slices_below(base: Path, pattern: str, template: str, stack: tuple[str, ...], _changed: tuple) -> dict[int, Path]:
    numbers: dict[int, Path] = {}
    for path in sorted(base.glob(pattern)):
        found = _pattern(template).fullmatch(_end_of(path, template)[0])
        if not found or _stack_name(found) != stack:
            continue
        number = int(found["number"])
        if number in numbers:
            raise UserError(
                f"{numbers[number]} and {path} are both slice {number} of one stack; correct competition.pixels.stack, "
                f"{template}"
            )
        numbers[number] = path
    return dict(sorted(numbers.items()))


def _end_of(path: Path, template: str) -> tuple[str, str]:
    """(the end of a path that a template names, without suffix; the suffix)."""
    stem = stem_of(path)
    return "/".join([*path.parts[:-1], stem][-1 - template.count("/") :]), path.name.removeprefix(stem)


def _numbered(template: str) -> list[str]:
    """The literal texts and holes of a template; each `{stack}` after the first gets its place: `{stack1}`.

    >>> _numbered("{stack}/{stack}_{number}")
    ['{stack}', '/', '{stack1}', '_', '{number}']
    """
    parts, count = [], 0
    for part in filter(None, STACK_HOLE.split(template)):
        parts.append(f"{{stack{count or ''}}}" if part == "{stack}" else part)
        count += part == "{stack}"
    return parts


@lru_cache(maxsize=8)
def _pattern(template: str) -> re.Pattern:
    expression = ""
    for part in _numbered(template):
        if part == NUMBER:
            expression += r"(?P<number>\d+)"
        elif part == "*":
            expression += "[^/]*"
        elif part.startswith("{stack"):
            expression += f"(?P<{part[1:-1]}>[^/]+)"
        else:
            expression += re.escape(part)
    return re.compile(expression)


def _as_glob(part: str, found: re.Match) -> str:
    """A part of a template as a glob of the stack in which `found` is a slice."""
    if part in (NUMBER, "*"):
        return "*"
    return glob.escape(found[part[1:-1]] if part.startswith("{stack") else part)


def _stack_name(found: re.Match) -> tuple[str, ...]:
    return tuple(text for name, text in found.groupdict().items() if name != "number")


def _changed(path: Path, base: Path) -> tuple[int, ...]:
    """Times of change of the folders in which a new slice would lie."""
    folders = dict.fromkeys([path.parent, base])
    return tuple(folder.stat().st_mtime_ns for folder in folders if folder.is_dir())
