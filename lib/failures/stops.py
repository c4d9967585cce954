"""Stops: Ctrl-C, a closed terminal and a cluster's SIGTERM end the process and its children at once, with one sentence.

No KeyboardInterrupt is raised. Whatever would catch it or tidy up costs time and prints more: loaders wait up to 5
seconds for each of their processes, and Python ignores an exception in `__del__`. Files are whole at any instant.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import NoReturn

STOPPED = "\nstopped; run the same command again to go on from here"
EXIT_CODE = 130


def stop_on_signals() -> None:
    """From now on SIGINT and SIGTERM end this process. Call it in the main thread."""
    main_process = os.getpid()

    def handler(_number: int, _frame: object) -> NoReturn:
        if os.getpid() != main_process:  # a loading process, forked with this handler
            os._exit(EXIT_CODE)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _kill(process: multiprocessing.Process) -> None:
    """Kill a child; joblib's have no `kill` of their own, and Windows has no such signal."""
    with contextlib.suppress(OSError):
        os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def stop() -> NoReturn:
    """End this process and its children, with one sentence."""
    end(STOPPED, EXIT_CODE)


def several_processes() -> bool:
    """Whether torchrun started this process together with others. Some of its variables may be left over alone."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "TORCHELASTIC_RUN_ID" in os.environ


def speaks_first() -> bool:
    """Whether this process may say why all end: of those that torchrun started, only the first one that asks may."""
    if not several_processes():
        return True
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
    group = "_".join([str(os.getppid()), *(re.sub(r"\W", "", os.environ.get(name, "")) for name in names)])
    try:
        Path(tempfile.gettempdir(), f"segmentation_ended_{group}").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        return os.environ.get("RANK", "0") == "0"
    return True


def end(sentence: str, code: int) -> NoReturn:
    """End this process and its children at once, from any thread, with a sentence and an exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGCHLD"):  # torch raises an error as soon as a loading process ends
        if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        for process in multiprocessing.active_children():
            _kill(process)
        if not speaks_first():
            os._exit(code)
        print(sentence, file=sys.stderr, flush=True)
    except RuntimeError:  # the signal came inside of another print
        os.write(2, f"{sentence}\n".encode())
    finally:
        os._exit(code)  # threads that read images must not hold the exit up
