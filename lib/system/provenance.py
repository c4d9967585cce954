"""Provenance of results: versions of the code and of its libraries."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "timm", "segmentation-models-pytorch", "albumentations", "numpy", "opencv-python-headless")


def code_version() -> str:
    """The git commit, with a + when files were changed since; empty outside a repository."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment(device: object) -> dict[str, str]:
    """Code, Python, machine, device and libraries."""
    found = {"code": code_version(), "python": platform.python_version(), "machine": platform.platform()}
    found["device"] = str(device)
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # another build of it, as Kaggle's images have
            found[name] = "?"
    return found
