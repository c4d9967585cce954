"""Texts that an organiser wrote: table cells, column names, file names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PureWindowsPath
from urllib.parse import SplitResult, unquote, urlsplit

LEFT_OUT = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN")  # what systems leave behind
BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
MOST_ALTERNATIVES = 10_000
LOCAL_FILE = "?d="  # Label Studio's addresses of local files: /data/local-files/?d=images/a.png


def same_form(text: str) -> str:
    """Text in Unicode's form NFC: macOS writes `é` as two characters, other systems as one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def tidy(text: str) -> str:
    """A cell without blanks around it, in Unicode's form NFC.

    >>> tidy(" EncodedPixels"), tidy("e\\u0301") == "\\u00e9"
    ('EncodedPixels', True)
    """
    return same_form(text.strip())


def readings(name: str) -> Iterator[str]:
    """Paths that a text may mean: as it stands, with slashes for backslashes, percent-decoded, the path of an address.

    >>> list(readings("images\\\\im%200.png"))
    ['images\\\\im%200.png', 'images/im%200.png', 'images/im 0.png']
    >>> list(readings("https://host/im%200.png?x=1"))[-1]
    'https://host/im 0.png'
    """
    address = _address(name)
    if address:  # what follows its path names nothing
        path = f"{address.scheme}://{address.netloc}{address.path}"
    else:
        yield name
        path = PureWindowsPath(name).as_posix() if "\\" in name else name
        path = path.split(LOCAL_FILE, 1)[-1]
    if path != name:
        yield path
    if "%" in path:
        yield unquote(path)


def _address(name: str) -> SplitResult | None:
    """The parts of an address; None of another text."""
    try:
        return urlsplit(name) if "://" in name else None
    except ValueError:  # brackets that are no IPv6 address
        return None


def is_hidden(path: PurePath, named: tuple[str, ...] = ()) -> bool:
    """Whether a relative path is hidden, as systems and tools hide files. `named`: folders that do not count as hidden.

    >>> [is_hidden(PurePath(text)) for text in (".ipynb_checkpoints/a.png", "../b/a.png", "b/._a.png")]
    [True, False, True]
    """
    parts = [part for part in path.parts if part not in (".", "..", *named)]
    return any(part.startswith(".") or part in LEFT_OUT for part in parts)


def visible_files(root: Path, pattern: str, is_one: Callable[[Path], bool] = Path.is_file) -> list[Path]:
    """The files below `root` that match a glob, sorted, without hidden ones and those in hidden folders.

    `{a,b}` in it matches `a` or `b`. `is_one`: whether a path counts as a file. Raises errors of several kinds for a
    text that pathlib takes for no glob.
    """
    found = set()
    for one in alternatives(pattern):
        named = PurePath(one).parts
        found |= {p for p in root.glob(one) if not is_hidden(p.relative_to(root), named) and is_one(p)}
    return sorted(found)


def alternatives(pattern: str) -> list[str]:
    """Globs without braces that together match what a glob with braces does.

    >>> alternatives("{Train,Val}/*/{a,b}.png")
    ['Train/*/a.png', 'Train/*/b.png', 'Val/*/a.png', 'Val/*/b.png']
    """
    patterns = [pattern]
    while any(map(BRACES.search, patterns)):
        patterns = [one for some in patterns for one in _first_braces_filled(some)]
        if len(patterns) > MOST_ALTERNATIVES:
            raise ValueError(f"its braces stand for more than {MOST_ALTERNATIVES} patterns")
    return patterns


def _first_braces_filled(pattern: str) -> list[str]:
    """The pattern with each of the words in its first braces; unchanged where there are none."""
    found = BRACES.search(pattern)
    if not found:
        return [pattern]
    return [f"{pattern[: found.start()]}{word}{pattern[found.end() :]}" for word in found[1].split(",")]
