"""The exception for mistakes of the user, and the function that runs every script."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A mistake that the user can mend. One sentence says what was found, what was expected and what to do."""


def run_script(main: Callable[[list[str]], None], argv: list[str] | None = None) -> NoReturn:
    """Run `main(argv)`; exit 0 when done, 2 with one sentence on a UserError or a full disk, 130 on Ctrl-C."""
    # A closed terminal or a cluster's SIGTERM ends like Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt(os.getpid()))
    sys.unraisablehook = _quiet
    try:
        main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (OSError, RuntimeError) as error:
        if full := _full_disk(error):
            where = f", writing {full.filename}" if full.filename else ""
            print(
                f"error: the disk is full, or your share of it{where}; make room and run the same command again, it "
                "goes on from here",
                file=sys.stderr,
            )
            sys.exit(2)
        # A loading process that was killed is reported before our own signal arrives.
        if "DataLoader worker" not in str(error):
            raise
        if "signal: Terminated" not in str(error) and "exited unexpectedly" not in str(error):
            print(
                f"error: a loading process was killed ({' '.join(str(error).split())}); memory may be short, "
                "so lower train.workers or train.batch_size and run the same command again",
                file=sys.stderr,
            )
            sys.exit(2)
        _stop()
    except KeyboardInterrupt:
        _stop()
    sys.exit(0)


def _full_disk(error: BaseException | None) -> OSError | None:
    """The error that a full disk raised, perhaps behind another (torch.save's)."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


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
