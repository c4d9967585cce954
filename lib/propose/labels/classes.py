"""Reads names and colours of classes from a CSV, a JSON or a list in the organiser's folder."""

from __future__ import annotations

import pandas as pd

from lib.propose.folder import Folder, read_organiser_json

NO_CLASS = ("background", "unlabeled", "unlabelled", "void", "ignore", "other", "none", "unknown", "_background_")
INDEX = ("index", "id", "value", "class_id", "label_id", "label", "pixel_value", "trainid")
NAME = ("name", "class", "class_name", "category", "label", "title")
COLOUR = ("color", "colour", "rgb")
Colours = dict[str, list[int]]


def names_of_values(folder: Folder, largest: int) -> dict[int, str] | None:
    """Stored value -> class name, from the first file that names the largest value; None where no file does."""
    tables = [_rows(table) for table in folder.tables.values() if len(table) <= 256]
    for rows in [
        *tables,
        *(_entries(read_organiser_json(folder.root / name)) for name in _small(folder, ".json")),
        *_lists(folder),
    ]:
        names = {row["index"]: row["name"] for row in rows if row.get("index") is not None}
        if len(names) == len(rows) and largest in names and len(set(names.values())) == len(names):
            return names
    return None


def palette_of(folder: Folder) -> tuple[str, Colours, bool] | None:
    """(file, class name -> [red, green, blue], whether `competition.labels.palette` can name the file itself)."""
    for name, table in folder.tables.items():
        rows = _rows(table) if len(table) <= 256 else []
        if rows and all(row["color"] for row in rows):
            plain = {"name", "r", "g", "b"} <= set(table.columns)
            return name, {row["name"]: row["color"] for row in rows}, plain
    for name in _small(folder, ".json"):
        rows = _entries(read_organiser_json(folder.root / name))
        if rows and all(row.get("color") for row in rows):
            return name, {row["name"]: row["color"] for row in rows}, False
    return None


def _small(folder: Folder, suffix: str) -> list[str]:
    names = [name for name in folder.texts if name.lower().endswith(suffix)]
    return [name for name in names if (folder.root / name).stat().st_size < 100_000][:20]


def _rows(table: pd.DataFrame) -> list[dict]:
    """Rows with `name`, `index` and `color`. The last two are None where the table has no such column."""
    columns = {column.strip().lower(): column for column in table.columns}
    name = next((columns[c] for c in NAME if c in columns), None)
    index = next((columns[c] for c in INDEX if c in columns and columns[c] != name), None)
    rgb = next((triple for triple in (("r", "g", "b"), ("red", "green", "blue")) if set(triple) <= set(columns)), ())
    if name is None:
        return []
    return [
        {
            "name": row[name].strip(),
            "index": _number(row[index]) if index else None,
            "color": _colour([_number(row[columns[c]]) for c in rgb]),
        }
        for row in table.to_dict("records")
    ]


def _entries(content: object) -> list[dict]:
    """Rows as `_rows` gives them, from a JSON; [] where it names no classes.

    The JSON is a map of indices to names, or of names to indices or colours, or a list of names or objects. It may
    lie one or more levels down.

    >>> _entries({"classes": ["sky", {"name": "car", "color": [0, 0, 142]}]})[1]
    {'name': 'car', 'index': 1, 'color': [0, 0, 142]}
    >>> _entries({"0": "sky", "7": "road"})[1], _entries({"sky": [1, 2, 3]})
    ({'name': 'road', 'index': 7, 'color': None}, [{'name': 'sky', 'index': None, 'color': [1, 2, 3]}])
    """
    if isinstance(content, list):
        rows = [_entry(item, position) for position, item in enumerate(content)]
        return rows if all(rows) else []
    if not isinstance(content, dict):
        return []
    rows = []
    for key, value in content.items():
        if isinstance(value, str):
            rows.append({"name": value, "index": _number(key), "color": None})
        elif isinstance(value, int):
            rows.append({"name": key, "index": value, "color": None})
        elif _colour(value):
            rows.append({"name": key, "index": _number(key), "color": _colour(value)})
        else:
            rows.append(_entry(value, _number(key)))
    if rows and all(row and (row["index"] is not None or row["color"]) for row in rows):
        return rows
    return next((rows for value in content.values() if (rows := _entries(value))), [])


def _entry(item: object, position: int | None) -> dict | None:
    """One row from a name or an object. `position`: the index where the item gives none."""
    if isinstance(item, str):
        return {"name": item, "index": position, "color": None}
    if not isinstance(item, dict):
        return None
    keys = {str(key).lower(): value for key, value in item.items()}
    name = next((keys[k] for k in NAME if isinstance(keys.get(k), str)), None)
    index = next((n for k in INDEX if (n := _number(keys.get(k))) is not None), position)
    colour = next((c for k in COLOUR if (c := _colour(keys.get(k)))), None)
    return {"name": name, "index": index, "color": colour} if name else None


def _number(value: object) -> int | None:
    text = str(value).strip()
    return int(text) if text.isdecimal() else None


def _colour(value: object) -> list[int] | None:
    """[red, green, blue] from a list of three or four numbers or from #rrggbb; None for anything else."""
    if isinstance(value, str) and len(value) == 7 and value.startswith("#"):
        try:
            return list(bytes.fromhex(value[1:]))
        except ValueError:
            return None
    plain = isinstance(value, list) and len(value) in (3, 4) and all(v in range(256) for v in value)
    return value[:3] if plain else None


def _lists(folder: Folder) -> list[list[dict]]:
    """Rows of text files such as classes.txt: one name a line, counted from 0."""
    out = []
    for name in _small(folder, ".txt"):
        if any(word in name.lower() for word in ("class", "label", "names", "categor")):
            lines = (folder.root / name).read_text(encoding="utf-8", errors="replace").splitlines()
            out.append(
                [{"name": line.strip(), "index": i, "color": None} for i, line in enumerate(lines) if line.strip()]
            )
    return out
