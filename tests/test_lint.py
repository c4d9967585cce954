"""ruff's rules hold, and every name, attribute and keyword argument exists, also where no test runs the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAULT = re.compile(r'\[(attr-defined|name-defined|call-arg)\]$|module named "(lib|benchmarks)')
# `follow-imports=silent` reports only the files that are named: mypy does not know all that lib does with numpy.
MYPY = ["--no-site-packages", "--follow-imports=silent", "--explicit-package-bases", "--check-untyped-defs"]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def unknown_names(paths: list[Path], cache: Path) -> list[str]:
    """mypy's messages on modules, names, attributes and arguments that do not exist; its others are not wanted."""
    command = [sys.executable, "-m", "mypy", *MYPY, "--cache-dir", str(cache), *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1].startswith(("Found", "Success")), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if FAULT.search(line)]


@pytest.mark.timeout(120)
def test_every_name_exists_in_programs_that_no_test_runs(tmp_path):
    pytest.importorskip("mypy")
    scripts = []
    for script in ROOT.glob("0*.py"):  # a module's name cannot begin with a digit
        scripts.append(tmp_path / f"stage_{script.name}")
        shutil.copyfile(script, scripts[-1])
    cache = tmp_path / "cache"
    assert unknown_names([*scripts, ROOT / "benchmarks", ROOT / "docs"], cache) == []

    # The check sees what a rename leaves behind.
    wrong = tmp_path / "left_behind.py"
    wrong.write_text(
        "from benchmarks import trials\nimport lib.gone\nfrom lib.config import load\n"
        "trials.apply_train_options(1)\nload(None, flag=[])\nprint(folds)\n"
    )
    found = unknown_names([wrong], cache)
    for fault in ("apply_train_options", "lib.gone", "flag", "folds"):
        assert any(fault in line for line in found), fault
