"""Reads the files that stages wrote: JSON, YAML, logs, weights and archives of arrays.

Every function raises UserError on a damaged file, with its path, what is wrong with it, and what to do. The functions
whose names begin with `sound_` are for caches: they say whether a file can be used, so that it is made again if not.
Tables are read by lib/tables.py, the user's configuration by lib/config/load.py.
"""

from __future__ import annotations

import json
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from lib.artifacts.schemas import REMAKE, FileKind, kind_of
from lib.errors import UserError, reading, reason_of

if TYPE_CHECKING:
    import torch

DAMAGED_ARCHIVE = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What gzip and zipfile raise on a broken file."""


def damaged(path: Path, reason: BaseException | str, remedy: str) -> UserError:
    """The error for a file that cannot be used. `reason`: an exception, or words."""
    words = reason if isinstance(reason, str) else reason_of(reason)
    return UserError(f"{path} is damaged ({words}); {remedy}")


def read_json(path: str | Path, default: object, kind: FileKind | None = None) -> Any:
    """The content of a JSON file, or `default` where there is no file.

    `kind`: what it must hold; by default what lib/artifacts/schemas.py says of files of this name.
    """
    return _read_text(Path(path), default, kind, json.loads)


def read_yaml(path: str | Path, kind: FileKind | None = None) -> dict:
    """The content of a YAML file that a stage wrote. Raises UserError also where there is none."""
    content = _read_text(Path(path), None, kind, yaml.safe_load)
    if content is None:
        raise UserError(f"{path} does not exist; {(kind or kind_of(Path(path))).remedy}")
    return content


def _read_text(path: Path, default: object, kind: FileKind | None, parse: Any) -> Any:
    kind = kind or kind_of(path)
    try:
        content = parse(path.read_text(encoding="utf-8"))
        kind.check(content)
    except FileNotFoundError:
        return default
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # errors of decoding are ValueErrors, too
        raise damaged(path, error, kind.remedy) from None
    return content


def sound_json(path: str | Path, default: object, kind: FileKind | None = None) -> Any:
    """What a cache holds, or `default` where there is none. A damaged one is said, and counts as none."""
    try:
        return read_json(path, default, kind)
    except UserError as error:
        print(f"note: {str(error).partition(';')[0]}, so it is made again", flush=True)
        return default


def read_log(path: Path) -> list[dict]:
    """The records of a log with one JSON object a line, each with its `step`.

    A kill can leave half a line. Such lines are left out, because a log is for people, and nothing depends on it.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: str) -> dict | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int | float) else None


def read_tensors(path: Path, remedy: str) -> dict:
    """The dictionary in a file that torch wrote, on the CPU. No code in the file is run."""
    import torch

    with reading(path, "damaged", remedy):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # torch's own words advise to run the code in the file
            raise ValueError("it is not a file of tensors") from None
    if not isinstance(saved, dict):
        raise damaged(path, f"it holds a {type(saved).__name__}, not weights", remedy)
    return saved


def fit_state(module: torch.nn.Module, state: dict, path: Path, remedy: str) -> None:
    """Load a state dictionary into a module. Raises UserError where it belongs to another network."""
    try:
        module.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} holds the weights of another network ({reason}); {remedy}") from None


def read_arrays(path: Path, names: tuple[str, ...] = (), remedy: str = f"delete it and {REMAKE}") -> dict:
    """The arrays of an .npz file by their names, of which `names` must be there."""
    with reading(path, "damaged", remedy), np.load(path, allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise damaged(path, f"it lacks {', '.join(missing)}", remedy)
    return arrays


def sound_zip(path: Path) -> bool:
    """Whether a file is a zip archive whose entries are all whole. Reads all of it."""
    try:
        with reading(path, "not a whole archive"), zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except UserError:
        return False
