"""The notebook that runs a package on Kaggle, and what Kaggle is told of both."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from lib.competition.kaggle import kaggle_user
from lib.competition.scoring import with_codecs_suffix
from lib.config import Config
from lib.package.layout import NOTEBOOK, WHEELS, split_pattern

UNKNOWN = "YOUR-KAGGLE-NAME"
ABOUT = """# {title}

Predicts the test images with the packaged ensemble ({networks} networks), without internet. Whatever the competition's
sample submission, or where there is none its list or folder, holds is answered, so that hidden test images are too.
"""
INSTALL = f"""import subprocess
import sys
from pathlib import Path

INPUT, OUTPUT = Path("/kaggle/input"), Path("/kaggle/working")


def find(name):
    \"\"\"Kaggle mounts datasets and competitions one to three folders deep.\"\"\"
    return next(path for depth in range(1, 4) for path in sorted(INPUT.glob("*/" * depth + name)))


package = find("infer.py").parent
wheels = sorted(map(str, (package / "{WHEELS}").glob("*.whl")))
if wheels:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels], check=True)
"""
SAMPLED = """sample = find({sample!r})
images = sample.parents[{depth}] / {images!r}
command = [sys.executable, package / "infer.py", "--images", images, "--sample", sample, "--out", OUTPUT / {out!r}]
subprocess.run(command, check=True)
"""
WITHOUT_SAMPLE = """images = find({images!r})
command = [sys.executable, package / "infer.py", "--images", images, "--out", OUTPUT / {out!r}]
{listed}subprocess.run(command, check=True)
"""


def notebook(config: Config, title: str, networks: int) -> dict:
    """An .ipynb of three cells: what it is, install, predict."""
    sample, listed = PurePosixPath(config.competition.submission.sample), config.competition.test_list
    values = {
        "sample": str(sample),
        "depth": len(sample.parts) - 1,
        "listed": f'command += ["--list", find({listed!r})]\n' if listed else "",
        "images": split_pattern(config.competition.test_images)[0],
        "out": with_codecs_suffix(Path("submission"), config.competition).name,
    }
    predict = SAMPLED if config.competition.submission.sample else WITHOUT_SAMPLE
    return {
        "cells": [
            _cell("markdown", ABOUT.format(title=title, networks=networks)),
            _cell("code", INSTALL),
            _cell("code", predict.format(**values)),
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }


def metadata(config: Config, title: str) -> tuple[dict, dict]:
    """dataset-metadata.json and kernel-metadata.json, as the `kaggle` package reads them."""
    owner = config.package.user or kaggle_user() or UNKNOWN
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
    """Words that Kaggle turns into an address: lower case, 6 to 40 letters.

    >>> title_of(Config())
    'demo ensemble package'
    """
    words = re.sub(r"[^a-z0-9]+", " ", f"{config.competition.name} {config.infer.tag} package".lower()).split()
    return " ".join(words)[:40].strip()


def _cell(kind: str, text: str) -> dict:
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True), **code}
