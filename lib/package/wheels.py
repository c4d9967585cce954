"""Downloads wheels of the Python packages that Kaggle's image lacks."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lib.config import Config
from lib.errors import UserError
from lib.files import replacing_dir

# The part of requirements.txt that is neither in Kaggle's requirements nor in the Colab image below it; and timm, whose
# names for weights change with its version. The rest (torch, pandas, pydantic, …) is installed there.
LACKING = ("segmentation-models-pytorch", "timm", "ttach", "imagecodecs", "pyvips-binary")
SOURCES = ("pyvips",)  # on PyPI without a wheel; plain Python, beside pyvips-binary
PLATFORMS = ("manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{i}" for i in (5, 12, 17, 24, 26, 27, 28)))


def write_wheels(config: Config, folder: str) -> None:
    """`python -m lib wheels`: a folder with these wheels, for a notebook that trains without internet.

    Raises UserError where the folder holds other files, or a wheel cannot be downloaded.
    """
    target = Path(folder)
    if target.is_file() or (target.is_dir() and any(file.suffix != ".whl" for file in target.iterdir())):
        raise UserError(f"{target} is to hold only wheels, and holds other files; give a new folder")
    with replacing_dir(target) as new:
        fetch_wheels(new, config.package.python)
    print(f"{target}: {len(list(target.glob('*.whl')))} wheels that Kaggle's image lacks")


def fetch_wheels(folder: Path, python: str) -> None:
    """Download `LACKING` and `SOURCES`, in the versions installed here, for CPython `python` on Linux, x86-64.

    `python`: such as 3.12; empty for the version that runs here. Raises UserError where a wheel cannot be downloaded.
    """
    python = python or ".".join(platform.python_version_tuple()[:2])
    target = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    target += [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    _pip("download", "--dest", folder, *target, *map(_pinned, LACKING))
    _pip("wheel", "--wheel-dir", folder, *map(_pinned, SOURCES))


def _pip(verb: str, *arguments: object) -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", "--no-deps"]
    # Without these settings, the wheel would be built against a libvips of this machine.
    environment = {**os.environ, "PKG_CONFIG_PATH": "", "PKG_CONFIG_LIBDIR": os.devnull}
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, env=environment)
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), done.stderr.strip())
        raise UserError(
            f"the wheels cannot be downloaded ({reason.removeprefix('ERROR: ')[:300]}); go online and try again, set "
            "package.python to the image's version, or leave them out with --package.wheels false"
        )


def _pinned(name: str) -> str:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name
