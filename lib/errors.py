"""The exception for mistakes of the user, how damaged files become one, and the function that runs every script."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from lib.failures.file_errors import explained_error, file_error
from lib.failures.lost_processes import ANOTHER_ENDED, lost_connection
from lib.failures.memory_errors import is_out_of_memory, memory_advice
from lib.failures.stops import speaks_first, stop, stop_on_signals

STOP_SECONDS = 1.0  # in which a stop of all processes, which has ended a loading process, reaches this one, too

NOT_OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
REASON_LETTERS, SHOWN_LETTERS = 300, 120  # of a library's own words, and of a value, in a sentence


class UserError(Exception):
    """A mistake that the user can correct. One sentence says what was found, what was expected and what to do."""


@contextlib.contextmanager
def reading(file: Path | str, fault: str, remedy: str = "replace or remove the file") -> Iterator[None]:
    """Raises UserError, "<file> is <fault> (<reason>); <remedy>", whatever is raised under it.

    Libraries raise many kinds of errors on damaged files, and each version raises others. Only calls into libraries
    belong under this, because a mistake of our own would be reported as a damaged file.

    >>> with reading("a.npy", "not a readable array"):
    ...     raise KeyError("descr")
    Traceback (most recent call last):
    lib.errors.UserError: a.npy is not a readable array (KeyError 'descr'); replace or remove the file
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno in NOT_OF_THE_FILE:
            raise UserError(explained_error(error)) from None
        raise UserError(f"{file} is {fault} ({reason_of(error)}); {remedy}") from None
    except MemoryError:
        raise UserError(f"{file} is {fault}, or it needs more memory than there is; {remedy}") from None
    except Exception as error:
        raise UserError(f"{file} is {fault} ({reason_of(error)}); {remedy}") from None


def shown(value: object) -> str:
    """A value as Python writes it, cut off where it is long.

    >>> shown("a" * 300)[:3], len(shown("a" * 300))
    ("'aa", 121)
    """
    text = repr(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def reason_of(error: BaseException) -> str:
    """An error's own words on one line; with its kind, where they say little alone.

    >>> reason_of(ValueError("too\\n  long")), reason_of(KeyError("id")), reason_of(RecursionError())
    ('too long', "KeyError 'id'", 'RecursionError')
    """
    words, kind = " ".join(str(error).split())[:REASON_LETTERS], type(error).__name__
    return words if " " in words and not isinstance(error, KeyError) else f"{kind} {words}".strip()


def run_script(main: Callable[[list[str]], None], argv: list[str] | None = None) -> NoReturn:
    """Run `main(argv)` as a script, and end the process with `exit_code`; 130 on Ctrl-C and SIGTERM."""
    stop_on_signals()
    _open_streams()
    try:
        code = exit_code(main, sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        stop()
    sys.exit(code)


def _open_streams() -> None:
    """Let whatever is printed pass: to a stream that was closed (2>&-), and letters that the encoding lacks."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the next file would get its number, and what libraries print would be written into it
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (for the process's life)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def exit_code(main: Callable[[list[str]], None], argv: list[str]) -> int:
    """Run `main(argv)`: 0 when done; 2, after one sentence, on a mistake of the user, a fault of a file or disk, or a
    lack of memory.

    Other errors are faults of the program, and are raised.
    """
    try:
        main(argv)
    except UserError as error:
        return _tell(str(error))
    except SystemExit as error:  # also that of --help
        if not (place := _place_in_plugin(error)):
            raise
        return _tell(f"plugins: {place}: it ends the program ({reason_of(error)}); raise an error there instead")
    except Exception as error:
        if str(error).startswith("DataLoader worker"):
            time.sleep(STOP_SECONDS)
            return _tell(
                f"a loading process was killed ({' '.join(str(error).split())}); memory may be short, so lower "
                "train.workers or train.batch_size and run the same command again"
            )
        if is_out_of_memory(error):
            return _tell(memory_advice(error))
        if lost_connection(error):
            return _tell(ANOTHER_ENDED)
        fault = file_error(error) if isinstance(error, OSError | RuntimeError) else None
        if fault is None:
            raise
        return _tell(explained_error(fault))
    return 0


def _place_in_plugin(error: BaseException) -> str:
    """File and line of the user's plugin that raised an error; empty where none did."""
    trace, place = error.__traceback__, ""
    while trace:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("plugin_"):
            place = f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _tell(sentence: str) -> int:
    with contextlib.suppress(OSError):  # stderr itself may be at fault: the exit code tells
        if speaks_first():
            print(f"error: {one_line(sentence)}", file=sys.stderr, flush=True)
    return 2


def one_line(text: str) -> str:
    r"""The text with escapes for line ends and other control characters, which names and cells of files may hold.

    >>> one_line("a\nb\x1b[31m\u2028")
    'a\\nb\\x1b[31m\\u2028'
    """
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)
