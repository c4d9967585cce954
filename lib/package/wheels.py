"""Packages that Kaggle's image lacks, as wheels."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lib.errors import UserError

# Of requirements.txt, what is in neither Kaggle's own requirements nor the Colab image that it is built on; and timm,
# whose names for weights change with its version. The rest (torch, pandas, pydantic, …) is there.
LACKING = ("segmentation-models-pytorch", "timm", "ttach", "imagecodecs", "pyvips", "pyvips-binary")
PLATFORMS = ("manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{i}" for i in (5, 12, 17, 24, 26, 27, 28)))


def fetch_wheels(folder: Path, python: str) -> list[Path]:
    """Download `LACKING`, in the versions installed here, for CPython `python` (empty: this one) on Linux, x86-64.

    Raises UserError when that fails.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary", ":all:", "--implementation", "cp", "--dest", str(folder),
        "--python-version", python or ".".join(platform.python_version_tuple()[:2]),
        *(word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")),
        *map(_pinned, LACKING),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), done.stderr.strip())
        raise UserError(
            f"the wheels cannot be fetched ({reason.removeprefix('ERROR: ')[:300]}); go online and try again, set "
            "package.python to the image's version, or leave them out with --package.wheels false"
        )
    return sorted(folder.glob("*.whl"))


def _pinned(name: str) -> str:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name
