"""Claims: one process at a time does a piece of work of a workspace, on one machine or on several that share a folder.

A claim is a lease of filelock, the file locks/<name>.lease, which its holder renews. A lease whose holder has died on
this machine is taken over at once. One that was not renewed for its whole duration is watched for as long again, and
then taken over: its holder has died on another machine, or is frozen. A frozen holder finds that out when it wakes, and
ends before it writes. Beside the lease, locks/<name>.json says who holds it and since when, for the message to the
second process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from lib.artifacts.read import read_json
from lib.errors import UserError
from lib.failures.stops import end
from lib.files import HOST, before_writing, temporary_name, write_json

LEASE_SECONDS = 120.0  # longer than file systems of a network cache the state of a file (60 seconds)
RETRY_SECONDS = 0.1  # seconds between two tries
CHECKS = 3  # how often within its duration a lease is renewed, and looked at before files are written


class Held(UserError):
    """Another process does this work."""


class Lost(UserError):
    """Another process took over the work that this one was doing."""


class Claim:
    """The right to do one piece of work. It may be taken again by the process that has it already.

    claim = Claim(workspace.root / "locks" / "01_preprocess")
    claim.take()  # raises Held where another process has it
    claim.release()
    """

    _own: dict[Path, Claim] = {}  # those of this process

    def __init__(self, path: Path, seconds: float = LEASE_SECONDS):
        """`path`: of the lease, without suffix. `seconds`: its duration, the same in all processes."""
        path = Path(path).absolute()
        self.path, self._holder = (path.with_name(f"{path.name}{suffix}") for suffix in (".lease", ".json"))
        self.name, self.seconds = path.name, seconds
        self._lease: SoftFileLease | None = None
        self._checked = 0.0

    def take(self) -> None:
        """Take the claim. Raises Held where a process has it that may be alive.

        Where the holder has not renewed its lease for a while, this waits until the lease has ended.
        """
        if self.path in self._own:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._checked = now()
        lease = SoftFileLease(
            self.path, lease_duration=self.seconds, heartbeat_interval=self.seconds / CHECKS, thread_local=False,
            on_compromise=self._end,
        )  # fmt: skip
        if not self._acquired(lease):
            raise Held(self._refusal())
        self._lease = lease
        self._own[self.path] = self
        write_json(self._holder, {"host": HOST, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})

    def release(self) -> None:
        """Give the claim back, if this process has it."""
        claim = self._own.pop(self.path, None)
        if claim is not None and claim._lease is not None:
            if claim._is_ours():
                self._holder.unlink(missing_ok=True)
            claim._lease.release()

    def check(self) -> None:
        """Raises Lost where another process has taken over. The lease is read only once in a part of its duration."""
        if now() - self._checked < self.seconds / CHECKS:
            return
        if not self._is_ours():
            self._own.pop(self.path, None)
            raise Lost(self._loss())
        self._checked = now()

    def _acquired(self, lease: SoftFileLease) -> bool:
        """Whether the lease was taken. While it stays as old as it is, it is tried until it has ended."""
        try:
            before = self._renewed()
            if _acquire(lease):
                return True
            if before is None or self._age(before) < self.seconds:
                return False
            until = time.monotonic() + self.seconds + 10 * RETRY_SECONDS
            while time.monotonic() < until and self._renewed() == before:
                time.sleep(RETRY_SECONDS)
                if _acquire(lease):
                    return True
            return _acquire(lease)
        except LeaseSettingsMismatch as error:
            raise Held(
                f"{self._refusal()}; that process has another execution.lease ({' '.join(str(error).split())})"
            ) from None

    def _renewed(self) -> float | None:
        """When the lease was renewed last, by the clock of its disk; None where there is no lease."""
        try:
            with self.path.open("rb") as file:  # opening asks a network's file system for the present state
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return None

    def _age(self, renewed: float) -> float:
        """Seconds since then, by the same clock."""
        probe = temporary_name(self.path)
        probe.touch()
        try:
            return probe.stat().st_mtime - renewed
        finally:
            probe.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        token = self._lease.token if self._lease else None
        try:
            return token is not None and token in self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False

    def _about(self) -> dict:
        try:
            return read_json(self._holder, {})
        except UserError:
            return {}

    def _who(self) -> str:
        about = self._about()
        return f"process {about.get('pid', '?')} on {about.get('host', 'another machine')}"

    def _refusal(self) -> str:
        since = self._about().get("since", "a moment ago")
        return (
            f"{self.name} is running already in {self.path.parent.parent}: {self._who()}, since {since}; wait until it "
            "has ended, or end it, and run the same command again"
        )

    def _loss(self) -> str:
        return (
            f"{self.name} in {self.path.parent.parent} was taken over by {self._who()}, because this process did not "
            f"answer for {self.seconds:g} seconds; nothing more is written here, and the work goes on there"
        )

    def _end(self, _: object) -> None:
        """Called by the lease's own thread where it was lost."""
        if self.path in self._own and not self._is_ours():
            end(f"error: {self._loss()}", 2)


def now() -> float:
    """Seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


def _acquire(lease: SoftFileLease) -> bool:
    try:
        lease.acquire(timeout=0)
    except Timeout:
        return False
    return True


@before_writing
def check_claims() -> None:
    """Raises Lost where another process has taken over what this one does."""
    for claim in list(Claim._own.values()):
        claim.check()


def release_all() -> None:
    """Give back every claim of this process. Only tests need this: the claims of a process end with it."""
    for claim in list(Claim._own.values()):
        claim.release()
