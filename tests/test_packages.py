"""The packages in requirements.txt: known weaknesses, and whether the oldest and the newest allowed versions do."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VARIED = ("torch", "segmentation-models-pytorch", "timm", "numpy", "pandas")
OFFLINE = re.compile(r"ConnectionError|Max retries|resolve host|No matching distribution|Temporary failure", re.I)
FAST_PART = ["lib", *(f"tests/{room}" for room in (
    "competition", "config", "data", "decision", "imaging", "inference", "models", "training", "stages",
))]  # fmt: skip
# A release that breaks something is excluded in requirements.txt, with the reason; this finds what has no reason.
PINNED = {"albumentations": "the last MIT release"}
LINE = re.compile(r"^([A-Za-z0-9._-]+)(\[[a-z]+\])?\s*([<>=!~].*)?$")


def requirements() -> dict[str, str]:
    """Package -> its bounds."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [LINE.match(line) for line in lines if line and not line.startswith("#")]
    return {one[1]: one[3] or "" for one in found}


def oldest() -> list[str]:
    """The lowest allowed version of each of the `VARIED` packages, for pip; torchvision belongs to its torch."""
    bounds = requirements()
    return [f"{name}=={re.search(r'>=([0-9.]+)', bounds[name])[1]}.*" for name in (*VARIED, "torchvision")]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_every_requirement_has_a_lower_bound_and_only_those_with_a_reason_an_upper_one():
    bounds = requirements()
    assert set(VARIED) <= set(bounds)
    assert [name for name, bound in bounds.items() if not re.search(r"[>=]=", bound)] == []
    capped = {name for name, bound in bounds.items() if re.search(r"==|<|!=|~=", bound)}
    assert capped == set(PINNED)


@pytest.mark.slow
def test_installed_packages_have_no_known_weakness():
    if not importlib.util.find_spec("pip_audit"):
        pytest.skip("pip-audit is not installed")
    done = run(sys.executable, "-m", "pip_audit", "-r", "requirements.txt", "--no-deps", "--disable-pip",
               "--progress-spinner", "off")  # fmt: skip
    if OFFLINE.search(done.stderr):
        pytest.skip("pip-audit needs a network")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_fast_part_passes_with_the_oldest_and_the_newest_versions(tmp_path, which):
    """Makes an environment, which takes some GB and minutes; skipped without a network."""
    python = tmp_path / "venv" / "bin" / "python"
    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    versions = oldest() if which == "oldest" else ["--upgrade", *VARIED]
    made = run(python, "-m", "pip", "install", "-q", *versions, "-r", "requirements.txt", "pytest", "pytest-timeout",
               "hypothesis", "ruff")  # fmt: skip
    if made.returncode and OFFLINE.search(made.stderr):
        pytest.skip(f"the packages cannot be fetched here: {made.stderr[-300:]}")
    assert made.returncode == 0, made.stderr
    listed = run(python, "-m", "pip", "list", "--format", "freeze").stdout
    done = run(python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *FAST_PART, OMP_NUM_THREADS="1")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{listed}"
