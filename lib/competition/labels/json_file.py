"""Reads the JSON of labels. What Python's own reader takes silently is refused: keys that stand twice."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np

from lib.errors import UserError, reading

FARTHEST = 1_000_000  # pixels: pycocotools walks along an outline in steps of a fifth of a pixel


def read_json_object(path: Path, kind: str) -> dict:
    """The object that a JSON file holds, in UTF-8 or UTF-16. `kind`: what the file should be, for errors.

    Raises UserError where there is no file, where it is not a JSON, or where an object has a key twice.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; check competition.root and the option that names the file")
    with reading(path, f"not a {kind}", "export or download it again"):
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_twins)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a {kind}: it holds a {type(content).__name__}, not an object")
    return content


def _without_twins(pairs: list[tuple[str, object]]) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"the key {str(repeated(name for name, _ in pairs))[:40]!r} stands twice in an object")
    return values


def repeated(values: Iterable[Hashable]) -> Hashable | None:
    """The first value that was there before; None where there is none.

    >>> repeated([1, 2, 2.0]), repeated("ab")
    (2.0, None)
    """
    seen = set()
    return next((value for value in values if value in seen or seen.add(value)), None)


def corners_of(values: object) -> np.ndarray:
    """An outline's numbers, float64, of any shape. Raises ValueError where they are no numbers, or too far away."""
    try:
        numbers = np.asarray(values)
    except ValueError:  # lists of several lengths
        raise ValueError("corners must be pairs of numbers") from None
    if numbers.size and numbers.dtype.kind not in "iuf":  # numpy would read texts as numbers
        raise ValueError("corners must be numbers")
    numbers = numbers.astype(np.float64)
    if not (np.abs(numbers) <= FARTHEST).all():  # NaN is not, either
        raise ValueError(f"corners must be numbers up to {FARTHEST}")
    return numbers
