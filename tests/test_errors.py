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
@pytest.mark.parametrize("what", ["text", "weights", "picture"])
def test_a_full_disk_is_one_sentence(what, tmp_path):
    (tmp_path / "full.png").symlink_to("/dev/full")
    done = ended(
        {
            "text": "open('/dev/full', 'w').write('x' * 100_000)",
            "weights": f"""import contextlib, torch; from pathlib import Path; from lib.models import weight_files
    weight_files.replacing = contextlib.contextmanager(lambda path: (p for p in [path]))
    weight_files.save_weights(Path("{tmp_path}/full.png"), torch.nn.Linear(1000, 1000))""",
            "picture": f"""import numpy; from pathlib import Path; from lib.imaging.save import save_image
    save_image(Path("{tmp_path}/full.png"), numpy.zeros((9, 9), numpy.uint8))""",
        }[what]
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the disk is full")


def test_other_faults_of_files_are_told_whole():
    done = ended("open('/no/such/file')")
    assert done.returncode == 1 and "Traceback" in done.stderr and "No such file" in done.stderr
