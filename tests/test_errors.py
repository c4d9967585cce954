"""How a script ends that cannot go on."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def ended(body):
    """A process that runs `body` as a script's main."""
    code = f"from lib.errors import run_script\ndef main(argv):\n    {body}\nrun_script(main, [])"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_sentence():
    done = ended("open('/dev/full', 'w').write('x' * 100_000)")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the disk is full")


def test_other_faults_of_files_are_told_whole():
    done = ended("open('/no/such/file')")
    assert done.returncode == 1 and "Traceback" in done.stderr and "No such file" in done.stderr
