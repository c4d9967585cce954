"""The generated parts of the documentation are those of today's code and figures."""

import doctest
import importlib
import re
import sys
from pathlib import Path

import pytest

from benchmarks import ablation
from lib.__main__ import COMMANDS
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


def test_a_stale_picture_is_found_and_drawn_again(generate, tmp_path, monkeypatch):
    plots = generate.plots
    monkeypatch.setattr(plots, "RESULTS", tmp_path)
    path = tmp_path / "cheap_experiments.svg"
    assert path in plots.stale_plots()
    pytest.importorskip("matplotlib")
    plots.draw_plot(path)
    assert path not in plots.stale_plots()
    text = path.read_text(encoding="utf-8")
    assert all(row["label"] in text for row in plots.proxies())
    path.write_text(text.replace(plots.digest_of(plots.proxies()), "0" * 16), encoding="utf-8")
    assert path in plots.stale_plots()


def test_every_picture_is_shown(generate):
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert [name for name in generate.plots.PLOTS if f"{name})" not in pages] == []


def test_every_option_has_a_heading():
    lines = set((DOCS / "reference/options.md").read_text(encoding="utf-8").splitlines())
    assert [name for name in flat(Config()) if f"### `{name}`" not in lines] == []


def test_every_command_has_a_row():
    text = (DOCS / "reference/commands.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"| `python -m lib {name} " not in text] == []


@pytest.mark.parametrize("name", ["generate", "option_tables", "effect_tables", "plots"])
def test_examples_hold(generate, name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed


def test_figures_are_those_of_the_log(generate):
    """techniques.csv copies what `benchmarks/ablation.py --table` tells."""
    logged = [row for row in generate.read_rows(generate.DATA / "techniques.csv") if row["log"]]
    assert len(logged) > 40
    for row in logged:
        competition, seconds = generate.plots.LOGGED[row["setting"]]
        lines = ablation.newest(ablation.LOG.lines(seconds=seconds))
        found = ablation.effect_of(row["log"], [line for line in lines if line["competition"] == competition])
        assert (float(row["change"]), int(row["pairs"])) == (found["effect"], found["pairs"]), row
        assert (float(row["error"]) if row["error"] else None) == found["se"], row


def test_every_figure_has_a_page_and_a_setting(generate):
    rows, settings = generate.read_rows(generate.DATA / "techniques.csv"), generate.settings()
    assert [row for row in rows if row["technique"] not in generate.titles()] == []
    assert {row["setting"] for row in rows} == set(settings)


@pytest.mark.parametrize("page", sorted((DOCS / "techniques").glob("*.md")), ids=lambda page: page.stem)
def test_a_technique_says_what_it_is_and_what_it_is_worth(page):
    text = page.read_text(encoding="utf-8")
    assert "±" not in text, "errors belong in docs/results/"
    if page.stem != "index":
        wanted = ["When to use it", "Options", "What was measured", "Advice"]
        assert [head for head in wanted if f"\n## {head}\n" not in text] == []
        assert f"({page.name})" in (page.parent / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_figures_have_leading_zeros(page):
    assert re.findall(r"(?<![\w./*-])-?\.\d+", page.read_text(encoding="utf-8")) == []
