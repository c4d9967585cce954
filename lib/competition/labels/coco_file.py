"""Reads a COCO JSON (https://cocodataset.org/#format-data), and checks what label readers rely on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lib.competition.labels.json_file import read_json_object, repeated
from lib.errors import UserError


def _is_id(value: object) -> bool:
    whole = isinstance(value, float) and value.is_integer()
    return whole or (isinstance(value, int | str) and not isinstance(value, bool))


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


Check = tuple[Callable[[object], bool], str]
ID: Check = (_is_id, "a whole number or a text")
FILE_NAME: Check = (_is_file_name, "a text")
NEEDED: dict[str, dict[str, Check]] = {
    "images": {"id": ID, "file_name": FILE_NAME},
    "annotations": {"image_id": ID, "category_id": ID},
    "categories": {"id": ID, "name": ID},
}
"""List of the JSON -> keys of each entry, with what their values must be."""


def read_coco(path: Path) -> dict[str, list[dict]]:
    """The lists `images`, `annotations` and `categories` of the JSON; the last two may be missing, and then are empty.

    Raises UserError, naming the entry, where a key is missing or of the wrong type, and where two images or two
    categories share an id.
    """
    content = read_json_object(path, "COCO JSON")
    if "images" not in content:
        raise UserError(f"{path} is not a COCO JSON: it has no 'images'")
    lists = {part: content.get(part, []) for part in NEEDED}
    for part, entries in lists.items():
        if not isinstance(entries, list):
            raise UserError(f"{path} is not a COCO JSON: its {part} are a {type(entries).__name__}, not a list")
        for place, entry in enumerate(entries):
            if fault := _fault(entry, NEEDED[part]):
                raise UserError(f"{path} is not a COCO JSON: entry {place} of its {part} {fault}")
    for part in ("images", "categories"):
        twice = repeated(entry["id"] for entry in lists[part])
        if twice is not None:
            raise UserError(f"{path} has two {part} with the id {twice!r}; give each an id of its own")
    return lists


def _fault(entry: object, keys: dict[str, Check]) -> str:
    """What is wrong with an entry of a list; empty where nothing is."""
    if not isinstance(entry, dict):
        return f"is a {type(entry).__name__}, not an object"
    for key, (is_right, expected) in keys.items():
        if key not in entry:
            return f"has no {key!r}"
        if not is_right(entry[key]):
            return f"has {key!r}: {str(entry[key])[:40]}; {expected} is expected"
    return ""
