"""The report, work/<name>/report/index.html: what the stages have made so far, on a page that needs no network."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from lib.config import Config
from lib.config.load import workspace_of
from lib.report.sections import costs, data, ensemble, folds, oof, overview, pseudo, submissions, training
from lib.workspace import Workspace, write_text

SECTIONS = (
    overview.section, data.section, folds.section, training.section, oof.section, oof.galleries, pseudo.rounds,
    pseudo.suspects, ensemble.section, submissions.section, costs.section,
)  # fmt: skip


def update_report(config: Config) -> None:
    """Draw the page anew after a stage. A fault in it is said, and stops nothing: the stage's work is done."""
    try:
        render_page(config)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        print(f"warning: the report could not be drawn ({reason}); `python -m lib report` tries again, and shows why")


def render_page(config: Config) -> Path:
    """Write the page where it changed, and return its path."""
    workspace = Workspace(workspace_of(config))
    sections = [section for make in SECTIONS if (section := make(workspace, config)) is not None]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    name = config.competition.name + (" (debug)" if config.debug else "")
    text = environment.get_template("page.html").render(name=name, sections=sections)
    path = workspace.report / "index.html"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path
