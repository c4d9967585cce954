"""Faults of files and disks in one sentence: the path, what the system said about it, and what to do."""

from __future__ import annotations

import errno

AGAIN = "and run the same command again, it goes on from here"
ELSEWHERE = "set workspace to a folder that can be written"
SHORTER = "choose a shorter workspace, competition.name, train.experiment or infer.tag"

EXPLAINED = {
    errno.ENOSPC: ("the disk is full, or your share of it", f"make room {AGAIN}"),
    errno.EDQUOT: ("the disk is full, or your share of it", f"make room {AGAIN}"),
    errno.EFBIG: ("the file would be larger than the disk or your limit allows", f"{ELSEWHERE} {AGAIN}"),
    errno.EROFS: ("the disk is read-only", f"{ELSEWHERE}, or mount the disk for writing, {AGAIN}"),
    errno.EACCES: ("there is no permission", f"change the permissions, or {ELSEWHERE}, {AGAIN}"),
    errno.EPERM: ("there is no permission", f"change the permissions, or {ELSEWHERE}, {AGAIN}"),
    errno.EISDIR: ("there is a folder where a file is expected", f"move the folder away {AGAIN}"),
    errno.ENOTDIR: ("there is a file where a folder is expected", f"move the file away {AGAIN}"),
    errno.EEXIST: ("there is a file where a folder is expected", f"move the file away {AGAIN}"),
    errno.ENOTEMPTY: ("the folder is not empty", f"end what else writes there {AGAIN}"),
    errno.EBUSY: ("another program uses it", f"end that program {AGAIN}"),
    errno.ENOENT: ("there is no such file or folder", "check the path; if a stage made the file, run that stage again"),
    errno.ELOOP: ("its links lead in a circle", f"remove the links {AGAIN}"),
    errno.ENAMETOOLONG: ("the name is too long for this disk", f"{SHORTER}, or rename the image, {AGAIN}"),
    errno.EMFILE: ("too many files are open", f"raise the limit (ulimit -n 4096), or lower jobs, {AGAIN}"),
    errno.ENFILE: ("too many files are open", f"end other programs {AGAIN}"),
    errno.EIO: ("the disk reports a fault", f"check the disk and its cable or network {AGAIN}"),
    errno.ESTALE: ("the network folder was lost", f"mount it again {AGAIN}"),
    errno.ENOMEM: ("memory is short", f"end other programs {AGAIN}"),
    errno.EPIPE: ("the program that reads this output has ended", f"keep it open {AGAIN}"),
}
"""Error number -> what was found, and what to do."""


def file_error(error: BaseException | None) -> OSError | None:
    """The fault of a file behind an error, which may be one that a library raised because of it (torch.save)."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError):
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def explained_error(error: OSError) -> str:
    """The sentence. Faults of unknown kinds are told in the system's words."""
    # Where a file is renamed, the target is at fault, and the source a temporary file that the user never sees.
    path = error.filename if error.filename2 is None else error.filename2
    what, advice = EXPLAINED.get(
        error.errno, (str(error.strerror or error or type(error).__name__), f"check the disk and the path {AGAIN}")
    )
    what = " ".join(what.split())
    return f"{path}: {what}; {advice}" if path is not None else f"{what}; {advice}"
