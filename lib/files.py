"""Atomic writes: files and folders that are never half-written. Also fingerprints of files, and free disk space.

What is being written has a temporary name of its own, which says which process writes it. `sweep` deletes what a
process that was killed left behind.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
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


HOST = re.sub(r"\W", "_", socket.gethostname())[:32]
_TEMPORARY = re.compile(r"\..*\.(?P<host>\w+)-(?P<pid>[0-9]+)-[0-9a-f]{8}\.tmp(\..*)?", re.DOTALL)
_EARLIER = re.compile(r"\.(.*\.)?(?P<pid>[0-9]+)\.tmp(\..*)?|\..*\.tmp", re.DOTALL)  # names of earlier versions
OTHER_HOST_SECONDS = 24 * 3600  # after which the process of another host that wrote a temporary file counts as dead


def temporary_name(path: str | Path) -> Path:
    """A new name beside `path`, which no other process, thread or host uses. It keeps the suffix."""
    path = Path(path)
    owner = f"{HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.stem[:40]}.{owner}.tmp{path.suffix}")


_checks: list[Callable[[], None]] = []


def before_writing(check: Callable[[], None]) -> Callable[[], None]:
    """Have `check` called before any file is put in place; it raises an error where this process must not write."""
    _checks.append(check)
    return check


def check_writing() -> None:
    """Raises what the checks raise, where this process must not write."""
    for check in _checks:
        check()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write to the temporary path that is yielded; it takes `path`'s place only when all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        check_writing()
        os.replace(temporary, path)
    except OSError as error:  # the user knows the file, not its temporary name
        if error.filename in (None, str(temporary), temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_dir(path: str | Path) -> Iterator[Path]:
    """Like `replacing`, for a whole folder: the old folder is deleted when the new one is complete."""
    path = Path(path)
    temporary = temporary_name(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        check_writing()
        remove_folder(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder, if there is one. Of a link only the link is deleted, and nothing of what it leads to."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def sweep(folder: Path) -> int:
    """Delete the temporary files and folders in `folder` whose process has ended. Returns how many there were."""
    swept = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and _is_left_over(Path(entry.path)):
                _discard(Path(entry.path))
                swept += 1
    return swept


def _is_left_over(path: Path) -> bool:
    """Whether a temporary file was left by a process that has ended. Of another host, an old one counts as left."""
    found = _TEMPORARY.fullmatch(path.name)
    if found and found["host"] != HOST:
        return time.time() - path.lstat().st_mtime > OTHER_HOST_SECONDS
    found = found or _EARLIER.fullmatch(path.name)
    return bool(found) and not (found["pid"] and is_alive(int(found["pid"])))


def is_alive(pid: int) -> bool:
    """Whether a process of this host is running. A zombie, which has ended, is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:  # no Linux, or it has just ended
        return not Path("/proc/self/stat").exists()
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no process has so large a number
        return pid < 2**31


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process may sweep, too
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


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


def write_table(path: str | Path, table: pd.DataFrame, provenance: str = "") -> None:
    """Write a CSV; `provenance` becomes a first line that starts with `#`."""
    head = f"# {provenance}\n" if provenance else ""
    texts = table.select_dtypes(exclude="number")
    # pandas puts no quotes around a carriage return, and takes it for the end of a row when it reads.
    breaks = any("\r" in str(cell) for name in texts for cell in texts[name].unique())
    quoting = csv.QUOTE_NONNUMERIC if breaks else csv.QUOTE_MINIMAL
    write_text(path, head + table.to_csv(index=False, lineterminator="\n", quoting=quoting))
