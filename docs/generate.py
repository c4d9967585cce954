"""Fill in the generated parts of the documentation, from the code and from the measured figures.

    python docs/generate.py            # rewrite the pages that are out of date
    python docs/generate.py --check    # only name them; exit code 1 when there are any

A page is prose with blocks in it:

    <!-- generated: csv demo.csv -->
    …
    <!-- end -->

A block's first word is one of `BLOCKS`, the others are its arguments. Figures stand in docs/results/data/, and
docs/plots.py draws some of them, together with the single trials in benchmarks/results/.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import effect_tables
import option_tables
import plots
from plots import DATA, read_rows

from lib import tables
from lib.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: list[str]) -> int:
    stale = [path for path in sorted(DOCS.rglob("*.md")) if filled(path) != path.read_text(encoding="utf-8")]
    for path in stale:
        print(f"{path.relative_to(ROOT)} is out of date")
        if "--check" not in argv:
            path.write_text(filled(path), encoding="utf-8")
    undrawn = plots.stale_plots()
    for path in undrawn:
        print(f"{path.relative_to(plots.ROOT)} is out of date")
        if "--check" not in argv:
            plots.draw_plot(path)
    return int("--check" in argv and bool(stale or undrawn))


def filled(path: Path) -> str:
    """The page with all of its blocks made anew."""

    def block(found: re.Match) -> str:
        kind, *arguments = found[2].split()
        return f"{found[1]}\n{BLOCKS[kind](path, *arguments).strip()}\n\n{found[3]}"

    return BLOCK.sub(block, path.read_text(encoding="utf-8"))


def markdown_table(rows: list[dict[str, str]]) -> str:
    """Rows with the same keys, which are the heads.

    >>> print(markdown_table([{"a": "1", "b": "x|y"}]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    cells = [[cell.replace("|", "\\|") for cell in row.values()] for row in rows]
    lines = [f"| {' | '.join(line)} |" for line in [list(rows[0]), *cells]]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


# ---- the blocks: each gets the page and the words after its name ----------------------------------------------------


def csv_block(page: Path, name: str) -> str:
    """A file of docs/results/data, cell by cell."""
    return markdown_table(read_rows(DATA / name))


def columns_block(page: Path, name: str) -> str:
    """A table of lib/tables.py."""
    return markdown_table(
        [
            {"column": f"`{column}`", "type": kind, "meaning": meaning}
            for column, (kind, meaning) in getattr(tables, name).items()
        ]
    )


def commands_block(page: Path) -> str:
    """Every command of `python -m lib`."""
    return markdown_table(
        [
            {"command": f"`python -m lib {name} {command.words}`", "what it does": command.about}
            for name, command in COMMANDS.items()
        ]
    )


def scripts_block(page: Path) -> str:
    """The docstrings of the numbered scripts."""
    parts = []
    for path in sorted(ROOT.glob("0*.py")):
        first, *rest = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n\n")
        parts.append("\n\n".join([f"### {path.name}", first, *rest]))
    return "\n\n".join(parts)


def option_block(page: Path, *names: str) -> str:
    """Some options: default and first sentence. A section's name stands for all of its options."""
    return markdown_table(option_tables.summary(names, "../" * (len(page.relative_to(DOCS).parts) - 1)))


def reference_block(page: Path) -> str:
    return option_tables.reference()


def effects_block(page: Path) -> str:
    """What was measured of the technique that the page is about."""
    return markdown_table(effect_tables.of_technique(page.stem, read_rows(DATA / "techniques.csv"), settings()))


def all_effects_block(page: Path) -> str:
    return markdown_table(effect_tables.in_full(read_rows(DATA / "techniques.csv"), settings(), titles()))


def effect_plots_block(page: Path) -> str:
    """The pictures of docs/plots.py of each setting's effects, with machine and pairing."""
    parts = []
    for name in plots.EFFECT_SETTINGS:
        row = settings()[name]
        about = f"{row['metric']}; {row['members and data']}. Seeds: {row['seeds']}. Machine: {row['machine']}."
        parts.append(f"### {row['name']}: effects\n\n{about}\n\n![effects in this setting](effects_{name}.svg)")
    return "\n\n".join(parts)


def ranking_block(page: Path) -> str:
    return markdown_table(effect_tables.ranking(read_rows(DATA / "techniques.csv"), settings(), titles()))


def settings() -> dict[str, dict[str, str]]:
    return {row["setting"]: row for row in read_rows(DATA / "settings.csv")}


def titles() -> dict[str, str]:
    """Name of a technique's page -> its heading."""
    pages = [page for page in sorted((DOCS / "techniques").glob("*.md")) if page.stem != "index"]
    return {page.stem: page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in pages}


BLOCKS = {
    "csv": csv_block, "columns": columns_block, "commands": commands_block, "scripts": scripts_block,
    "options": option_block, "option-reference": reference_block, "effects": effects_block,
    "all-effects": all_effects_block, "effect-plots": effect_plots_block, "ranking": ranking_block,
}  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
