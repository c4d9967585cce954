"""The exception for mistakes of the user, and the function that runs every script."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from lib.file_errors import explained_error, file_error


class UserError(Exception):
    """A mistake that the user can mend. One sentence says what was found, what was expected and what to do."""


def run_script(main: Callable[[list[str]], None], argv: list[str] | None = None) -> NoReturn:
    """Run `main(argv)` as a script, and end the process with `exit_code`; 130 on Ctrl-C."""
    # A closed terminal or a cluster's SIGTERM ends like Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt(os.getpid()))
    sys.unraisablehook = _quiet
    try:
        code = exit_code(main, sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        _stop()
    sys.exit(code)


def exit_code(main: Callable[[list[str]], None], argv: list[str]) -> int:
    """Run `main(argv)`: 0 when done; 2, after one sentence, on a mistake of the user or a fault of a file or disk.

    Other errors are faults of the program, and are raised.
    """
    try:
        main(argv)
    except UserError as error:
        return _tell(str(error))
    except (OSError, RuntimeError) as error:
        # A loading process that was killed is reported before our own signal arrives.
        if "DataLoader worker" in str(error):
            return _tell_killed_loader(error)
        fault = file_error(error)
        if fault is None:
            raise
        return _tell(explained_error(fault))
    return 0


def _tell(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2


def _tell_killed_loader(error: BaseException) -> int:
    if "signal: Terminated" in str(error) or "exited unexpectedly" in str(error):
        _stop()
    return _tell(
        f"a loading process was killed ({' '.join(str(error).split())}); memory may be short, so lower train.workers "
        "or train.batch_size and run the same command again"
    )


def _quiet(unraisable: sys.UnraisableHookArgs) -> None:
    """Hide a KeyboardInterrupt that Python could not raise: the handler's timer ends the process."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)


def _interrupt(main_process: int) -> Callable:
    """A signal handler that raises KeyboardInterrupt, and ends the process where that is swallowed.

    (Python ignores an exception inside `__del__`, where loaders wait for their workers.)
    """

    def handler(_number: int, _frame: object) -> NoReturn:
        if os.getpid() != main_process:  # a loading process, forked with this handler
            os._exit(130)
        late = threading.Timer(5, _stop)
        late.daemon = True
        late.start()
        raise KeyboardInterrupt

    return handler


def _stop() -> NoReturn:
    print("\nstopped; run the same command again to go on from here", file=sys.stderr)
    sys.stderr.flush()
    try:
        for process in multiprocessing.active_children():  # a signal that came as one was forked did not reach it
            process.kill()
    finally:  # also where torch raises an error about a worker that was killed
        os._exit(130)  # loader threads must not hold the exit up
