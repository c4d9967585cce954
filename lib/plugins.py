"""Registries: the named families (models, losses, codecs, …) and how a user's file adds to them.

A file `mine.py`, which the YAML names as `plugins: [mine.py]`, and which `train.loss.terms: {squared: 1}` then uses:

    from lib.plugins import register
    from lib.training.distributed import summed

    @register("loss", "squared")
    def squared(logits, target, valid, weight):
        wrong = ((logits.sigmoid() - target) ** 2 * valid).mean((1, 2, 3))
        return summed((wrong * weight).sum()) / summed(weight.sum()).clamp_min(1e-6)

    @register("metric", "recall")
    def recall(counts, classes, rules):  # counts (N, C, 3): lib/competition/metrics/pixels.py
        return counts[:, classes, 0].sum() / counts[:, classes, 1].sum()

What each family's entries are called with is said where the built-in ones are: `grep -rn "@register" lib`.
A loss puts every sum over a batch through `summed`, because several processes (torchrun) may hold a part of it each.

Worker processes have registries of their own. They inherit the names of the files in an environment variable and
load them when they first look something up, whatever way they were started (fork, spawn, forkserver).
"""

from __future__ import annotations

import difflib
import importlib.abc
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from lib.errors import UserError, reason_of

_REGISTRY: dict[str, dict[str, Callable]] = {}
_FILES = "SEGMENTATION_PLUGINS"  # environment variable: the user's files, for child processes
_KINDS_OF: dict[str, set[str]] = {}  # file -> kinds that it registers

READ_BY = {
    "tiles": ("labels", "reader"),
    "member": ("model", "loss", "optimizer", "schedule", "sampler", "augmentation"),
    "score": ("metric",),
    "pseudo": ("backend",),
    "clean": ("backend",),
    "answer": ("metric", "codec", "answer_file", "backend"),
    "": ("tracker",),
}
"""Stage (lib/config/affects.py) -> kinds that it looks up; a kind that stands nowhere here concerns all stages."""


def register(kind: str, name: str) -> Callable[[Callable], Callable]:
    """Decorator that puts a function or class into a family under a name; a later one wins."""
    _KINDS_OF.setdefault(sys._getframe(1).f_code.co_filename, set()).add(kind)

    def put(entry: Callable) -> Callable:
        _REGISTRY.setdefault(kind, {})[name] = entry
        return entry

    return put


def find(kind: str, name: str, key: str) -> Callable:
    """The entry of a family; a UserError that names the option `key` when there is none."""
    _load_inherited()
    family = _REGISTRY.get(kind, {})
    if name in family:
        return family[name]
    close = difflib.get_close_matches(name, family, n=1, cutoff=0.0)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserError(f"{key}: no {kind} is called {name!r}; {hint}Known: {', '.join(sorted(family))}")


def names(kind: str) -> list[str]:
    """Names in a family."""
    _load_inherited()
    return sorted(_REGISTRY.get(kind, {}))


def load_plugins(paths: list[str]) -> None:
    """Run the user's files, here and, when they first look something up, in all child processes.

    Raises UserError, with the line, when one cannot be run.
    """
    files = [Path(path).resolve() for path in paths]
    for file, path in zip(files, paths, strict=True):
        if not file.is_file() or file.suffix != ".py":
            raise UserError(
                f"plugins: there is no Python file {path}; expected the path of one, as in plugins: [mine.py]"
            )
    os.environ[_FILES] = os.pathsep.join(map(str, files))
    for file in files:
        sys.modules.pop(module_name(file), None)  # an edited file is run again
        _KINDS_OF.pop(str(file), None)
    _load(files)


def module_name(file: Path) -> str:
    """Name of the module that a user's file becomes; files of one name in two folders are two modules.

    >>> module_name(Path("/a/my loss.py")) == module_name(Path("/b/my loss.py"))
    False
    """
    return f"plugin_{re.sub(r'[^0-9A-Za-z_]', '_', file.stem)}_{crc32(str(file).encode()):08x}"


def _inherited() -> list[Path]:
    return [Path(path) for path in os.environ.get(_FILES, "").split(os.pathsep) if path]


def _load_inherited() -> None:
    missing = [file for file in _inherited() if module_name(file) not in sys.modules]
    if missing:
        _load(missing)


def _load(files: list[Path]) -> None:
    for file in files:
        try:
            importlib.import_module(module_name(file))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a user's file raises is the user's to see; it may also call sys.exit
            trace, line = error.__traceback__, getattr(error, "lineno", None) or 0
            while trace:
                if trace.tb_frame.f_code.co_filename == str(file):
                    line = trace.tb_lineno
                trace = trace.tb_next
            reason = "it ends the program" if isinstance(error, SystemExit) else reason_of(error)
            raise UserError(f"plugins: {file}{f', line {line}' if line else ''}: {reason}; correct the file") from error


class _Finder(importlib.abc.MetaPathFinder):
    """Lets a child process import the module of a user's file, as pickle does for objects that the file defines."""

    def find_spec(self, name: str, path: object = None, target: object = None):
        if not name.startswith("plugin_"):
            return None
        file = next((file for file in _inherited() if module_name(file) == name), None)
        return importlib.util.spec_from_file_location(name, file) if file else None


sys.meta_path.append(_Finder())


def plugins_of(paths: list[str], stage: str) -> list[Path]:
    """Those of the user's loaded files that a stage depends on: by the kinds they register; all, if they register none.

    What such a file imports is not looked at.
    """
    known, read = {kind for kinds in READ_BY.values() for kind in kinds}, set(READ_BY.get(stage, ()))
    own = {path: _KINDS_OF.get(str(Path(path).resolve()), set()) for path in paths}
    return [Path(path) for path, kinds in own.items() if not kinds or kinds - known or kinds & read]
