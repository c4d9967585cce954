"""The one exception for a user's mistake, and the frame every script runs in."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Something the user can mend: one sentence that says what was found, what was expected, what to do."""


def run_script(main: Callable[[list[str]], None], argv: list[str] | None = None) -> NoReturn:
    """Run `main(argv)`; exit 0 when done, 2 with one sentence on a UserError, 130 on Ctrl-C."""
    # A closed terminal or a cluster's SIGTERM ends like Ctrl-C, so that worker processes are stopped too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
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


def _stop() -> NoReturn:
    print("\nstopped; run the same command again to go on from here", file=sys.stderr)
    sys.stderr.flush()
    os._exit(130)  # loader threads must not hold the exit up
