"""Atomic writes: files and folders that are never half-written. Also fingerprints of files, and free disk space."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lib.errors import UserError


def file_fingerprint(path: Path) -> str:
    """Size and hash of a file's content; of a folder, the names and sizes inside; or `missing`."""
    path = Path(path)
    if path.is_dir():
        names = sorted(f"{p.relative_to(path)} {p.stat().st_size}" for p in path.rglob("*"))
        return f"{len(names)} files {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}"
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return f"{path.stat().st_size} {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def stamp(path: Path) -> list[int]:
    """Size and time of change of a large file, without reading it; [0, 0] where there is none."""
    about = path.stat() if path.is_file() else None
    return [about.st_size, int(about.st_mtime)] if about else [0, 0]


def short_hash(value: object) -> str:
    """A hash of any JSON-like value: twelve hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hash_of(*values: object) -> str:
    """A hash of arrays (by their bytes) and JSON-like values (by their text): sixteen hexadecimal digits."""
    hashed = hashlib.blake2b(digest_size=8)
    for value in values:
        array = isinstance(value, np.ndarray)
        hashed.update(np.ascontiguousarray(value) if array else json.dumps(value, default=str).encode())
    return hashed.hexdigest()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write to the temporary path that is yielded; it takes `path`'s place only when all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_dir(path: str | Path) -> Iterator[Path]:
    """Like `replacing`, for a whole folder: the old folder is deleted when the new one is complete."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary  # left behind when killed or failed; the next attempt clears it
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)


def check_disk(what: str, gib: float, folder: Path, advice: str = "") -> None:
    """Raises UserError where the disk of `folder` has less than `gib` GiB free.

    `what`: subject and verb of the message, as in "the run needs". `advice`: what the user can do besides making room.
    """
    free = free_gib(folder)
    if gib > free:
        raise UserError(
            f"{what} about {gib:.2f} GiB of disk, but {folder} has {free:.2f} GiB free; make room, "
            f"{advice + ', ' if advice else ''}or set workspace to a folder on another disk"
        )


def free_gib(folder: Path) -> float:
    """Free GiB of the disk of a folder. The folder need not exist yet."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: str | Path, default: object) -> dict:
    """The file's content, or `default` when there is no file."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def write_table(path: str | Path, table: pd.DataFrame, provenance: str = "") -> None:
    """Write a CSV; `provenance` becomes a first line that starts with `#`."""
    head = f"# {provenance}\n" if provenance else ""
    texts = table.select_dtypes(exclude="number")
    # pandas puts no quotes around a carriage return, and takes it for the end of a row when it reads.
    breaks = any("\r" in str(cell) for name in texts for cell in texts[name].unique())
    quoting = csv.QUOTE_NONNUMERIC if breaks else csv.QUOTE_MINIMAL
    write_text(path, head + table.to_csv(index=False, lineterminator="\n", quoting=quoting))
