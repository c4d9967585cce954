"""Claims: one process at a time does a piece of work of a workspace, and the next one is told who does.

A claim is a lock of the operating system on locks/<name>.lock, which ends with its process, however that ends. Beside
it, locks/<name>.json says who holds it and since when, for the message to the second process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from filelock import FileLock, Timeout

from lib.artifacts.read import read_json
from lib.errors import UserError
from lib.files import HOST, is_alive, write_json

DEAD_HOLDER_SECONDS = 5.0  # seconds that a dead holder's own children, which inherited its lock, get to end
RETRY_SECONDS = 0.1  # seconds between two tries


class Held(UserError):
    """Another process does this work."""


class Claim:
    """The right to do one piece of work. It may be taken again by the process that has it already.

    claim = Claim(workspace.root / "locks" / "01_preprocess.lock")
    claim.take()  # raises Held where another process has it
    claim.release()
    """

    _own: dict[Path, FileLock] = {}  # those of this process

    def __init__(self, path: Path):
        """`path`: the lock file. Its stem names the work."""
        self.path = Path(path).absolute()
        self._holder = self.path.with_suffix(".json")

    def take(self) -> None:
        """Take the claim, at once if its holder is dead. Raises Held where a living process has it."""
        if self.path in self._own:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._try()
        until = time.monotonic() + DEAD_HOLDER_SECONDS
        while lock is None and self._holder_is_dead() and time.monotonic() < until:
            time.sleep(RETRY_SECONDS)
            lock = self._try()
        if lock is None and self._holder_is_dead():  # a child of it lives on: the file that it locks is given up
            self.path.unlink(missing_ok=True)
            lock = self._try()
        if lock is None:
            raise Held(self._refusal())
        self._own[self.path] = lock
        about = {"host": HOST, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_json(self._holder, about)

    def release(self) -> None:
        """Give the claim back, if this process has it."""
        lock = self._own.pop(self.path, None)
        if lock is not None:
            self._holder.unlink(missing_ok=True)
            lock.release()

    def _try(self) -> FileLock | None:
        lock = FileLock(self.path)
        try:
            return lock.acquire(timeout=0) and lock
        except Timeout:
            return None

    def _about(self) -> dict:
        try:
            return read_json(self._holder, {})
        except UserError:
            return {}

    def _holder_is_dead(self) -> bool:
        about = self._about()
        return about.get("host") == HOST and isinstance(about.get("pid"), int) and not is_alive(about["pid"])

    def _refusal(self) -> str:
        about = self._about()
        who = f"process {about.get('pid', '?')} on {about.get('host', 'another machine')}"
        return (
            f"{self.path.stem} is running already in {self.path.parent.parent}: {who}, since "
            f"{about.get('since', 'a moment ago')}; wait until it has ended, or end it, and run the same command again"
        )


def release_all() -> None:
    """Give back every claim of this process. Only tests need this: the claims of a process end with it."""
    for path in list(Claim._own):
        Claim(path).release()
