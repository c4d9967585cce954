"""Registries: the named families (models, losses, codecs, …) and how a user's file adds to them.

# mine.py, named in the YAML as `plugins: [mine.py]`
from lib.plugins import register

@register("loss", "squared")
def squared(logits, target, valid, weight): ...  # lib/training/losses.py

@register("metric", "recall")
def recall(counts, classes, rules): ...  # counts (N, C, 3); lib/competition/metrics.py
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from lib.errors import UserError

_REGISTRY: dict[str, dict[str, Callable]] = {}


def register(kind: str, name: str) -> Callable[[Callable], Callable]:
    """Decorator that puts a function or class into a family under a name; a later one wins."""

    def put(entry: Callable) -> Callable:
        _REGISTRY.setdefault(kind, {})[name] = entry
        return entry

    return put


def find(kind: str, name: str, key: str) -> Callable:
    """The entry of a family; a UserError that names the option `key` when there is none."""
    family = _REGISTRY.get(kind, {})
    if name in family:
        return family[name]
    close = difflib.get_close_matches(name, family, n=1, cutoff=0.0)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserError(f"{key}: no {kind} is called {name!r}; {hint}Known: {', '.join(sorted(family))}")


def names(kind: str) -> list[str]:
    """Names in a family."""
    return sorted(_REGISTRY.get(kind, {}))


def load_plugins(paths: list[str]) -> None:
    """Run the user's files. Raises UserError, with the line, when one cannot be run."""
    for path in paths:
        file = Path(path)
        if not file.is_file():
            raise UserError(f"plugins: there is no file {file}")
        spec = importlib.util.spec_from_file_location(f"plugin_{file.stem}", file)
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except Exception as error:  # whatever a user's file raises is the user's to see
            trace, line = error.__traceback__, 0
            while trace:
                if trace.tb_frame.f_code.co_filename == str(file):
                    line = trace.tb_lineno
                trace = trace.tb_next
            raise UserError(f"plugins: {file}, line {line}: {error}") from error
