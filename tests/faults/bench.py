"""The table of faults and what runs it: one small finished workspace, broken in one way at a time.

A row of the table is a `Fault`: its name, a function that breaks something in the finished workspace, the command that
is then run, and what is expected:

    Fault("an empty done.json", put("work/runs/base/fold0_seed42/done.json", b""), "03_train",
          says="done.json is damaged .* delete it and run 03_train.py again", mend=delete("work/runs/…/done.json"))

`says`: the command ends with exit code 2 and one sentence that the regular expression finds.
`does`: the command ends with exit code 0, and the expression is found in what it printed. One of the two must be given.
`mend`: what the sentence tells the user to do, other than commands. `then`: the commands that the sentence names, in
order. After them the command must succeed, so that every remedy is tried. `flags`: options of the command.
`same`: files that must have the bytes of the finished workspace afterwards. `during`: gives a context in which the
first run happens, for faults that are no damage on the disk: a disk that becomes read-only, memory that runs out.

To add rows, append them to the `FAULTS` of a file tests/faults/test_*.py with these three lines at its end:

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    def test_faults(bench, fault):
        bench.check(fault)

Whatever the fault, `check` asserts that there is no traceback, that the sentence is one line, that the organiser's
folder is untouched, and that nothing beside the workspace was changed. The functions that break things (`put`, `edit`,
`delete`, …) take paths relative to the folder of the competition, which holds raw/, work/ and tiny.yaml.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.__main__ import main as side_command
from lib.errors import exit_code
from lib.locks import release_all

ROOT = Path(__file__).resolve().parents[2]
Change = Callable[[Path], object]
"""Breaks or mends something in the competition's folder."""
STAGES = (
    "01_preprocess", "02_make_folds", "03_train", "04_pseudo_label --train.round 1", "04_pseudo_label --clean",
    "05_infer_ensemble",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A row of the table; see the module's docstring. `run`: a script's stem and options, or `lib COMMAND …`."""

    name: str
    breaks: Change
    run: str
    says: str = ""
    does: str = ""
    mend: Change | None = None
    then: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    during: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    errors: str


def run(folder: Path, command: str, flags: Iterable[str] = ()) -> Ended:
    """Run a stage, or a side command, on tiny.yaml as its script would, in this process."""
    words = command.split()
    if words[0] == "lib":
        main, argv = side_command, [words[1], *[word.replace("CONFIG", "tiny.yaml") for word in words[2:]], *flags]
    else:
        main, argv = runpy.run_path(str(ROOT / f"{words[0]}.py"))["main"], ["tiny.yaml", *words[1:], *flags]
    out, errors = io.StringIO(), io.StringIO()
    streams = sys.stdout, sys.stderr
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = exit_code(main, argv)
    sys.stdout, sys.stderr = streams  # `open_log` may have replaced them
    _forget()
    return Ended(code, out.getvalue(), errors.getvalue())


def _forget() -> None:
    """Forget what a new process would not know: cached results, and claims on work that failed."""
    for name, module in list(sys.modules.items()):
        if name.startswith("lib."):
            for value in list(vars(module).values()):
                getattr(value, "cache_clear", int)()
    release_all()


class Bench:
    """A finished workspace, made once, and its copy, which each fault gets anew."""

    def __init__(self, folder: Path, make: Callable[[Path], Path]):
        """`make`: writes the competition and tiny.yaml, all of whose paths are relative, into a folder."""
        self.finished, self.folder = folder / "finished", folder / "copy" / "competition"
        self.folder.mkdir(parents=True)
        make(self.folder)
        for stage in STAGES:
            ended = run(self.folder, stage)
            assert ended.code == 0, ended.errors
        shutil.copytree(self.folder, self.finished, symlinks=True)
        self._unchanged = True

    def fresh(self) -> Path:
        """The folder of the competition as it was when all stages were finished. A file `victim` lies beside it."""
        if not self._unchanged:
            shutil.rmtree(self.folder.parent)
            shutil.copytree(self.finished, self.folder, symlinks=True)
        (self.folder.parent / "victim").mkdir(exist_ok=True)
        (self.folder.parent / "victim" / "mine.txt").write_text("mine", encoding="utf-8")
        self._unchanged = False
        return self.folder

    def check(self, fault: Fault) -> Ended:
        """Break, run, compare with what is expected, mend, and run again. Returns how the first run ended."""
        folder = self.fresh()
        fault.breaks(folder)
        outside = self._outside()
        with fault.during():
            ended = run(folder, fault.run, fault.flags)
        self._compare(fault, ended)
        if fault.mend or fault.then:
            if fault.mend:
                fault.mend(folder)
                outside = self._outside()
            for command in (*fault.then, fault.run):
                again = run(folder, command, fault.flags)
                assert again.code == 0, f"after the remedy, {command} says: {again.errors}"
        for name in fault.same:
            assert (folder / name).read_bytes() == (self.finished / name).read_bytes(), f"{name} differs"
        assert self._outside() == outside, "something beside the workspace was changed"
        return ended

    def _compare(self, fault: Fault, ended: Ended) -> None:
        assert bool(fault.says) != bool(fault.does), "a row says what is expected: `says` or `does`"
        assert "Traceback" not in ended.out + ended.errors
        if fault.does:
            assert ended.code == 0, ended.errors
            assert re.search(fault.does, ended.out + ended.errors, re.DOTALL), ended.out + ended.errors
            return
        sentences = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
        assert ended.code == 2 and len(sentences) == 1, f"exit code {ended.code}: {ended.out}{ended.errors}"
        assert ended.errors.rstrip().endswith(sentences[0]), f"more than one line: {ended.errors}"
        assert re.search(fault.says, sentences[0]), sentences[0]

    def _outside(self) -> dict[str, str]:
        """Path -> hash of all files that no command may change: the organiser's, and those beside the competition."""
        beside = [path for path in self.folder.parent.iterdir() if path != self.folder]
        found = [path for folder in (self.folder / "raw", *beside) for path in (folder, *folder.rglob("*"))]
        return {str(path): _digest(path) for path in sorted(found) if path.is_symlink() or not path.is_dir()}


def _digest(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()


# What breaks things. Each returns a `Change`. A `*` in a path stands for the first file that fits.


def at(folder: Path, name: str) -> Path:
    """The path of a name, in which `*` stands for the first that fits."""
    return sorted(folder.glob(name))[0] if "*" in name else folder / name


def put(name: str, content: bytes | str) -> Change:
    """Replace a file's content, or make the file."""
    data = content.encode() if isinstance(content, str) else content

    def change(folder: Path) -> None:
        path = at(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return change


def edit(name: str, change_bytes: Callable[[bytes], bytes]) -> Change:
    """Replace a file's content by what a function makes of it."""
    return lambda folder: at(folder, name).write_bytes(change_bytes(at(folder, name).read_bytes()))


def replace(name: str, old: str, new: str) -> Change:
    """Replace a text in a file, which must be there."""

    def change(content: bytes) -> bytes:
        assert old.encode() in content, f"{name} has no {old}: {content[:500]}"
        return content.replace(old.encode(), new.encode())

    return edit(name, change)


def halve(name: str) -> Change:
    """Cut a file in half, as a full disk or a broken copy does."""
    return edit(name, lambda content: content[: len(content) // 2])


def half_the_rows(name: str) -> Change:
    """Leave out the second half of a table's lines."""

    def change(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        return b"".join(lines[: (len(lines) + 1) // 2])

    return edit(name, change)


def flip(name: str) -> Change:
    """Change a byte in the middle of a file. Its size stays."""

    def change(content: bytes) -> bytes:
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]

    return edit(name, change)


def delete(*names: str) -> Change:
    """Delete files, links or folders."""

    def change(folder: Path) -> None:
        for path in [at(folder, name) for name in names]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    return change


def folder_in_place_of(name: str) -> Change:
    """A folder with a file in it, where a file was."""

    def change(folder: Path) -> None:
        path = at(folder, name)
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)
        (path / "something.txt").write_text("something", encoding="utf-8")

    return change


def file_in_place_of(name: str) -> Change:
    """A file, where a folder was."""

    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.write_text("something", encoding="utf-8")

    return change


def link_circle(name: str) -> Change:
    """A link to itself."""

    def change(folder: Path) -> None:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(path.name)

    return change


def copy(source: str, target: str) -> Change:
    """Copy a file or folder."""

    def change(folder: Path) -> None:
        path = at(folder, source)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, folder / target)

    return change


def nothing(folder: Path) -> None:
    """No damage: the options, or what happens `during` the run, are the fault."""


def both(*changes: Change) -> Change:
    """Several changes, one after another."""
    return lambda folder: [change(folder) for change in changes]
