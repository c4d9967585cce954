"""How a script ends that cannot go on."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lib.errors import UserError, exit_code
from lib.failures.memory_errors import is_out_of_memory

ROOT = Path(__file__).resolve().parents[1]


def ended(body, **variables):
    """A process that runs `body` as a script's main, with more variables in its environment."""
    code = f"from lib.errors import run_script\ndef main(argv):\n    {body}\nrun_script(main, [])"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **variables}
    )


def test_a_name_that_the_terminal_cannot_show_is_shown_with_escapes():
    done = ended("print('m\\u00e9 \\udcff.png')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "m\\xe9 \\udcff.png\n"), done.stderr


@pytest.mark.parametrize(("how", "code"), [("2>&-", 0), (">&-", 0), ("<&- >&- 2>&-", 0), ("2>/dev/full", 2)])
def test_a_stream_that_is_closed_or_full_raises_nothing_else(how, code, tmp_path):
    body = f"""import os, sys; print("out"); file = open("{tmp_path / "file"}", "w")
    os.write(2, b"of a library"); print("err", file=sys.stderr)"""
    program = f"from lib.errors import run_script\ndef main(argv):\n    {body}\nrun_script(main, [])"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {how}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT)
    assert done.returncode == code and (tmp_path / "file").read_text() == ""


def test_a_sentence_is_one_line_whatever_its_names_hold(capsys):
    def fail(argv):
        raise UserError("a\nb\x1b[31m\u2028c\td is no name")

    assert exit_code(fail, []) == 2
    assert capsys.readouterr().err == "error: a\\nb\\x1b[31m\\u2028c\\td is no name\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("what", ["text", "weights", "picture"])
def test_a_full_disk_is_one_sentence(what, tmp_path):
    (tmp_path / "full.png").symlink_to("/dev/full")
    done = ended(
        {
            "text": "open('/dev/full', 'w').write('x' * 100_000)",
            "weights": f"""import contextlib, torch; from pathlib import Path; from lib.models import weight_files
    weight_files.replacing = contextlib.contextmanager(lambda path: (p for p in [path]))
    weight_files.save_weights(Path("{tmp_path}/full.png"), torch.nn.Linear(1000, 1000))""",
            "picture": f"""import numpy; from pathlib import Path; from lib.imaging import save
    save.temporary_name = lambda path: path
    save.save_image(Path("{tmp_path}/full.png"), numpy.zeros((9, 9), numpy.uint8))""",
        }[what]
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "the disk is full, or your share of it; make room" in done.stderr


FAULTS = {
    "open('/no/such/file')": "/no/such/file: there is no such file or folder; check the path",
    "open('/')": "/: there is a folder where a file is expected; move the folder away",
    "open('/dev/null/a')": "/dev/null/a: there is a file where a folder is expected; move the file away",
    "open('/' + 'a' * 300)": "the name is too long for this disk; choose a shorter workspace",
    "import os; os.symlink('a', 'a'); open('a')": "a: its links lead in a circle; remove the links",
    "import os; open('b', 'w'); os.mkdir('b')": "b: there is a file where a folder is expected; move the file away",
    "raise PermissionError(13, 'Permission denied', 'work')": "work: there is no permission; change the permissions",
    "raise OSError(30, 'Read-only file system', 'work')": "work: the disk is read-only; set workspace to a folder",
    "raise OSError(5, 'Input/output error', 'work')": "work: the disk reports a fault; check the disk",
    "raise OSError(24, 'Too many open files', 'work')": "work: too many files are open; raise the limit",
    "raise OSError(99, 'Something else', 'work')": "work: Something else; check the disk and the path",
    "raise OSError('words of a library')": "words of a library; check the disk",
    "raise OSError(18, 'Invalid cross-device link', 'temporary', None, 'work/a')": "work/a: Invalid cross-device link",
}


@pytest.mark.parametrize("body", FAULTS)
def test_faults_of_files_are_one_sentence_with_the_path_and_what_to_do(body, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_code(lambda argv: exec(body), []) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and FAULTS[body] in told


def test_what_a_library_raises_because_of_a_fault_of_a_file_is_told_as_the_fault(capsys):
    def fail(argv):
        try:
            raise OSError(30, "Read-only file system", "work/last.pt")
        except OSError as error:
            raise RuntimeError("inline_container.cc: enforce fail") from error

    assert exit_code(fail, []) == 2
    assert capsys.readouterr().err.startswith("error: work/last.pt: the disk is read-only")


def test_a_fault_of_the_program_is_told_whole():
    done = ended("{}['no such key']")
    assert done.returncode == 1 and "Traceback" in done.stderr and "KeyError" in done.stderr


@pytest.mark.parametrize("raised", [MemoryError(), OSError(12, "Cannot allocate memory"), torch.OutOfMemoryError("\n")])
def test_a_lack_of_memory_is_one_sentence(raised, capsys):
    def fail(argv):
        raise raised

    assert exit_code(fail, []) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: memory does not suffice") and "train.batch_size" in told and told.count("\n") == 1


def raised_by(call):
    with pytest.raises(Exception) as raised:
        call()
    return raised.value


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.ones(1 << 58),
        lambda: np.ones(1 << 58),
        lambda: cv2.resize(np.zeros((9, 9), np.uint8), (1 << 29, 1 << 29)),
        lambda: bytearray(1 << 62),
    ],
    ids=["torch", "numpy", "opencv", "python"],
)
def test_what_libraries_raise_without_memory_is_known(call):
    assert is_out_of_memory(raised_by(call))


def test_what_gpus_raise_without_memory_is_known_and_other_errors_are_not():
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    for call in (
        lambda: torch.ones(2) @ torch.ones(3),
        lambda: np.ones(2) @ np.ones(3),
        lambda: cv2.resize(None, (2, 2)),
    ):
        assert not is_out_of_memory(raised_by(call))
