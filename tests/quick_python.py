"""A `python` for shell scripts that starts at once: every call is a fork of a process that has imported the packages.

    with quick_python(folder):    # folder/bin/python, for PATH and VIRTUAL_ENV

`-m pip` does nothing, and `-c` sees `VIRTUAL_ENV` as its prefix, so that no script changes the real environment.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

PACKAGES = (
    "albumentations", "cv2", "joblib", "pandas", "plotly.graph_objects", "pydantic", "scipy.stats",
    "segmentation_models_pytorch", "tifffile", "timm", "torch",
)  # fmt: skip
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"call"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    code = int(server.recv(9) or 1)
sys.exit(code)
"""


@contextlib.contextmanager
def quick_python(folder: Path) -> Iterator[None]:
    """Write `folder/bin/python`, and serve its calls."""
    address, client = str(folder / "calls"), folder / "bin/python"
    client.parent.mkdir(parents=True, exist_ok=True)
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    with subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE, env=environment) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.terminate()


def serve(address: str) -> None:
    """Answer calls as long as the parent lives."""
    parent = os.getppid()
    for name in PACKAGES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while os.getppid() == parent:
            if not select.select([listener], [], [], 1)[0]:
                continue
            call, _ = listener.accept()
            if not os.fork():
                answer(call)
            call.close()


def answer(call: socket.socket) -> None:
    """Be the process that the client asked for, tell it the exit code, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, *_ = socket.recv_fds(call, 4, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
    with call.makefile("rb") as stream:
        words, folder, environment = json.loads(stream.read())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # New streams: those of before think that the files are still what they were.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    code = 1
    try:
        run(words)
        code = 0
    except SystemExit as stop:
        code = int(stop.code) if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    call.sendall(str(code).encode())
    os._exit(code)


def run(words: list[str]) -> None:
    """What `python WORDS` does."""
    sys.path[0:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if words[0] == "-c":
        sys.argv, sys.prefix = ["-c", *words[2:]], os.environ["VIRTUAL_ENV"]
        exec(words[1], {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, str(Path.cwd()))
        if words[1] != "pip":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
