"""The report, work/<name>/report/index.html: all results so far, on a page that needs no network."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from lib.config import Config
from lib.report.charts import LIBRARY, put_library
from lib.report.sections import costs, data, ensemble, folds, oof, overview, pseudo, submissions, training
from lib.report.sections.export import export
from lib.report.stale import outdated
from lib.workspace import Workspace, write_text

SECTIONS = (
    overview.section, data.section, folds.section, training.section, oof.section, oof.galleries, pseudo.rounds,
    pseudo.suspects, ensemble.section, submissions.section, costs.section,
)  # fmt: skip


def update_report(config: Config) -> None:
    """Write the page again after a stage. An error in it is printed and stops nothing, since the stage is done."""
    try:
        render_page(config)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        print(f"warning: the report could not be drawn ({reason}); `python -m lib report` tries again, and shows why")


def why_stale(made_by: str, done: list[str], old: dict[str, str]) -> str:
    """The note above a section: empty where all manifests that match `made_by` are up to date.

    >>> why_stale("03_*", ["03_a", "03_b", "05"], {"03_b": "folds.csv changed", "05": "03_b is outdated"})
    '1 of 2 are outdated. 03_b: folds.csv changed'
    >>> why_stale("05", ["05"], {"05": "infer.tta changed from none to flips"})
    'Outdated: infer.tta changed from none to flips'
    >>> why_stale("02_make_folds", [], {})
    'Of an earlier run: 02_make_folds was begun anew and has not finished.'
    """
    shown = fnmatch.filter(done, made_by)
    if made_by and not shown and "*" not in made_by:
        return f"Of an earlier run: {made_by} was begun anew and has not finished."
    first, *more = [name for name in shown if name in old] or [""]
    if not first or len(shown) == 1:
        return f"Outdated: {old[first]}" if first else ""
    return f"{1 + len(more)} of {len(shown)} are outdated. {first}: {old[first]}"


def render_page(config: Config) -> Path:
    """Write the page and the files beside it, where they changed; returns the page's path."""
    workspace = Workspace.of(config)
    made = [section for make in SECTIONS if (section := make(workspace, config)) is not None]
    old = outdated(workspace, config)
    done = sorted(path.stem for path in (workspace.root / "manifests").glob("*.json"))
    sections = [replace(section, stale=why_stale(section.made_by, done, old)) for section in made]
    sections = export(sections, workspace.report)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    name = config.competition.name + (" (debug)" if config.debug else "")
    layered = any(getattr(block, "layers", ()) for section in sections for block in section.shown)
    values = {"name": name, "sections": sections, "layered": layered, "library": LIBRARY}
    text = environment.get_template("page.html").render(values)
    path = workspace.report / "index.html"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    put_library(workspace.report)
    return path


def print_page(config: Config) -> None:
    """Write the page, and print where it is."""
    print(render_page(config))
