"""The layout of the code: imports go one way, and nothing grows too large to read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import ORDER

ROOT = Path(__file__).resolve().parent.parent
LIB = sorted((ROOT / "lib").rglob("*.py"))
SCRIPTS = sorted(ROOT.glob("0*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
MOST_FILES, MOST_LINES, MOST_IN_FUNCTION, MOST_PARAMETERS, MOST_IN_MAIN, MOST_IN_SCRIPT = 15, 300, 50, 6, 30, 60
ONE_FAMILY = {"main", "section"}  # one meaning in many files: a command line's entry, a section of the report
EXCEPTIONS: dict[str, str] = {}  # at most five: the place, and why it is right there


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(module: str) -> str:
    """
    >>> room_of("lib.imaging.readers.tiff")
    'imaging'
    """
    return module.split(".")[1] if "." in module else module


def imported(path: Path) -> Iterator[str]:
    """Modules of lib that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib":
            for name in node.names:
                yield f"{node.module}.{name.name}"
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "lib")


def upward(order: tuple[str, ...], room: str, modules: Iterator[str]) -> list[str]:
    return [
        module for module in modules
        if room_of(module) in order and order.index(room_of(module)) > order.index(room)
    ]  # fmt: skip


def too_large(path: Path) -> Iterator[tuple[str, int, int]]:
    """(place, number, the most it may be) for a file and its functions."""
    text = path.read_text(encoding="utf-8")
    yield name_of(path), len(text.splitlines()), MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            place, lines = f"{name_of(path)}:{node.name}", node.end_lineno - node.lineno + 1
            parameters = [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            named = [one for one in parameters if one is not None and one.arg not in ("self", "cls")]
            is_main = path in SCRIPTS and node.name == "main"
            yield place, lines, MOST_IN_MAIN if is_main else MOST_IN_FUNCTION
            yield f"{place}, parameters", len(named), MOST_PARAMETERS


def lines_of_code(text: str) -> int:
    """Lines that are neither blank nor a comment nor the file's docstring."""
    docstring = ast.parse(text).body[0]
    after = text.splitlines()[docstring.end_lineno :]
    return sum(1 for line in after if line.strip() and not line.strip().startswith("#"))


@pytest.mark.parametrize("path", LIB, ids=name_of)
def test_imports_go_one_way(path):
    room = path.relative_to(ROOT / "lib").parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    assert room in ORDER, f"lib/__init__.py does not say where {room} stands"
    assert upward(ORDER, room, imported(path)) == []


def test_an_upward_import_is_found(tmp_path):
    file = tmp_path / "below.py"
    file.write_text("def late():\n    from lib import workspace\n    from lib.report.page import update_report\n")
    assert upward(ORDER, "imaging", imported(file)) == ["lib.workspace", "lib.report.page.update_report"]
    assert upward(ORDER, "report", imported(file)) == []


def test_every_room_stands_in_the_order():
    rooms = {
        path.name.removesuffix(".py") for path in (ROOT / "lib").iterdir() if path.suffix == ".py" or path.is_dir()
    }
    assert rooms - {"__init__", "__main__", "__pycache__"} == set(ORDER)


def test_nothing_is_too_large():
    found = [one for path in [*LIB, *SCRIPTS, *BENCHMARKS] for one in too_large(path) if one[1] > one[2]]
    found += [
        (f"{name_of(path)}, code", lines, MOST_IN_SCRIPT) for path in SCRIPTS
        if (lines := lines_of_code(path.read_text(encoding="utf-8"))) > MOST_IN_SCRIPT
    ]  # fmt: skip
    assert [one for one in found if one[0] not in EXCEPTIONS] == []
    assert set(EXCEPTIONS) <= {place for place, *_ in found}, "an exception that is none any more"
    assert len(EXCEPTIONS) <= 5


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("\n" * (MOST_LINES + 1), ""),
        ("def f():\n" + "    1\n" * MOST_IN_FUNCTION, ":f"),
        (f"def f({', '.join('abcdef')}, *, g): ...\n", ":f, parameters"),
    ],
)
def test_what_is_too_large_is_found(text, place, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(text)
    assert [one[0] for one in too_large(tmp_path / "a.py") if one[1] > one[2]] == [f"a.py{place}"]


def test_every_room_is_small_and_says_what_it_knows():
    for folder in {path.parent for path in LIB}:
        files = list(folder.glob("*.py"))
        assert len(files) <= MOST_FILES or folder.name == "config", f"{name_of(folder)} holds {len(files)} files"
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


def public_names(path: Path) -> Iterator[str]:
    """Functions, classes and constants that a file defines at its top level, without those that begin with `_`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_a_public_name_has_one_meaning():
    places: dict[str, list[str]] = {}
    for path in LIB:
        for name in public_names(path):
            if not name.startswith("_") and name not in ONE_FAMILY:
                places.setdefault(name, []).append(name_of(path))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
