"""The bench of tests/faults, made once for all of its tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import make_tiny
from faults.bench import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("faults"), make_relative)


def make_relative(folder: Path) -> Path:
    """The tiny competition with relative paths only, so that a copy of the whole folder is up to date."""
    path = make_tiny(folder)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["competition"]["root"], config["workspace"] = "raw", "work"
    config["train"]["epochs"], config["pseudo"]["rounds"] = 1, 0
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
