"""The generated parts of the documentation are those of today's code and figures."""

import doctest
import importlib
import sys
from pathlib import Path

import pytest

from lib import __main__ as verbs
from lib.config import Config, flat

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate():
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("generate")
    sys.path.remove(str(DOCS))


def test_pages_are_current(generate):
    assert generate.main(["--check"]) == 0, "run python docs/generate.py"


def test_a_stale_page_is_found(generate, tmp_path, capsys, monkeypatch):
    (tmp_path / "page.md").write_text("<!-- generated: columns FOLDS -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "page.md is out of date" in capsys.readouterr().out
    assert generate.main([]) == 0
    assert "| `kept_from` |" in (tmp_path / "page.md").read_text()
    assert generate.main(["--check"]) == 0


def test_every_option_has_a_heading():
    lines = set((DOCS / "reference/options.md").read_text(encoding="utf-8").splitlines())
    assert [name for name in flat(Config()) if f"### `{name}`" not in lines] == []


def test_every_verb_has_a_row():
    text = (DOCS / "reference/commands.md").read_text(encoding="utf-8")
    assert [verb for verb in verbs.VERBS if f"| `python -m lib {verb} " not in text] == []


@pytest.mark.parametrize("name", ["generate", "option_tables", "effect_tables"])
def test_examples_hold(generate, name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed
