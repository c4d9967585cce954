"""The exception for mistakes of the user, and the function that runs every script."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NoReturn

from lib.failures.file_errors import explained_error, file_error
from lib.failures.memory_errors import is_out_of_memory, memory_advice
from lib.failures.stops import stop, stop_on_signals

STOP_SECONDS = 1.0  # in which a stop of all processes, which has ended a loading process, reaches this one, too


class UserError(Exception):
    """A mistake that the user can mend. One sentence says what was found, what was expected and what to do."""


def run_script(main: Callable[[list[str]], None], argv: list[str] | None = None) -> NoReturn:
    """Run `main(argv)` as a script, and end the process with `exit_code`; 130 on Ctrl-C and SIGTERM."""
    stop_on_signals()
    try:
        code = exit_code(main, sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        stop()
    sys.exit(code)


def exit_code(main: Callable[[list[str]], None], argv: list[str]) -> int:
    """Run `main(argv)`: 0 when done; 2, after one sentence, on a mistake of the user, a fault of a file or disk, or a
    lack of memory.

    Other errors are faults of the program, and are raised.
    """
    try:
        main(argv)
    except UserError as error:
        return _tell(str(error))
    except Exception as error:
        if str(error).startswith("DataLoader worker"):
            time.sleep(STOP_SECONDS)
            return _tell(
                f"a loading process was killed ({' '.join(str(error).split())}); memory may be short, so lower "
                "train.workers or train.batch_size and run the same command again"
            )
        if is_out_of_memory(error):
            return _tell(memory_advice(error))
        fault = file_error(error) if isinstance(error, OSError | RuntimeError) else None
        if fault is None:
            raise
        return _tell(explained_error(fault))
    return 0


def _tell(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2
