"""The documentation builds without a warning, needs no network, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# A script, picture or style with an address on a server; links that a reader may follow are none.
FETCHED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*(?:src|href)=["']?(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    # Not `--quiet`: what is not printed is not counted by `--strict` either.
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(site):
    pages = [page.relative_to(ROOT / "docs").with_suffix(".html") for page in PAGES[1:]]
    assert [page for page in pages if not (site / page).is_file()] == []


def test_the_site_fetches_nothing(site):
    """A page that was opened from a disk shows text, style and search without a network."""
    pages = list(site.rglob("*.html"))
    assert pages and [page.name for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))] == []
    assert "assets/iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "search/search_index.js").is_file()


def test_what_is_fetched_is_found():
    assert FETCHED.search('<script src="https://unpkg.com/x.js"></script>')
    assert FETCHED.search('<link rel="stylesheet" href="//fonts.example/css">')
    assert not FETCHED.search('<a href="https://arxiv.org/abs/1">paper</a><script src="assets/x.js"></script>')


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Über `a.b`, c\n[x](other.md) [y](#über-ab-c) [z](#gone) [w](page.md#gone) [v](https://a.b)\n")
    assert broken_links(page) == ["other.md", "#gone", "page.md#gone"]


def broken_links(page: Path) -> list[str]:
    """Relative links of a page to files that are not there, or to headings that no such page has."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]
    return [link for link in links if not resolves(page, *link.partition("#")[::2])]


def resolves(page: Path, path: str, heading: str) -> bool:
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not heading or heading in headings(target)


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
