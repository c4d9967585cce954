"""The notebook that runs a package on Kaggle, and the metadata of both for Kaggle."""

from __future__ import annotations

import re
from pathlib import Path

from lib.competition.scoring import with_codecs_suffix
from lib.config import Config
from lib.package.layout import NOTEBOOK, WHEELS
from lib.submissions.kaggle import kaggle_user

UNKNOWN_OWNER = "YOUR-KAGGLE-NAME"
ABOUT = """# {title}

Predicts the test images with the packaged ensemble ({networks} networks), without internet. All images of the
competition's sample submission (or, without one, of its list or folder) are predicted, so hidden test images are, too.
"""
LIMIT = """# Time for this notebook, such as "8.5h": Kaggle stops it at the competition's limit, often 9 hours.
TIME_LIMIT = ""
"""
INSTALL = f"""import subprocess
import sys
import time
from pathlib import Path

BEGAN, INPUT, OUTPUT = time.time(), Path("/kaggle/input"), Path("/kaggle/working")
# Kaggle mounts inputs one to three folders deep. The output of a notebook holds the package in a folder of its own.
package = next(path for depth in range(1, 5) for path in sorted(INPUT.glob("*/" * depth + "infer.py"))).parent
wheels = sorted(map(str, (package / "{WHEELS}").glob("*.whl")))
if wheels:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels], check=True)
"""
PREDICT = """command = [sys.executable, package / "infer.py", "--input", INPUT, "--out", OUTPUT / "{out}"]
if TIME_LIMIT:
    command += ["--infer.time_limit", TIME_LIMIT, "--began", str(BEGAN)]
subprocess.run(command, check=True)
"""


def notebook(config: Config, title: str, networks: int) -> dict:
    """An .ipynb with four cells: description, time limit, installation, prediction."""
    out = with_codecs_suffix(Path("submission"), config.competition).name
    return {
        "cells": [
            _cell("markdown", ABOUT.format(title=title, networks=networks)),
            _cell("code", LIMIT),
            _cell("code", INSTALL),
            _cell("code", PREDICT.format(out=out)),
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }


def metadata(config: Config, title: str) -> tuple[dict, dict]:
    """dataset-metadata.json and kernel-metadata.json, as the `kaggle` package reads them."""
    owner = config.package.user or kaggle_user() or UNKNOWN_OWNER
    slug = title.replace(" ", "-")
    dataset = {"title": title, "id": f"{owner}/{slug}", "licenses": [{"name": "unknown"}]}
    kernel = {
        "id": f"{owner}/{slug}-notebook",
        "title": f"{title} notebook",
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        "dataset_sources": [dataset["id"]],
        "competition_sources": [config.competition.kaggle] if config.competition.kaggle else [],
        "kernel_sources": [],
    }
    return dataset, kernel


def title_of(config: Config) -> str:
    """A title that Kaggle can turn into an address: lower case, 6 to 40 letters.

    >>> title_of(Config())
    'demo ensemble package'
    """
    words = re.sub(r"[^a-z0-9]+", " ", f"{config.competition.name} {config.infer.tag} package".lower()).split()
    return " ".join(words)[:40].strip()


def _cell(kind: str, text: str) -> dict:
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True), **code}
