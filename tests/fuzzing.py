"""Property tests on files that are broken at random: only a UserError of one sentence may come out.

By default a test tries some 20 examples. The long mode tries as many as FUZZ_EXAMPLES says:

    FUZZ_EXAMPLES=10000 python -m pytest tests/fuzz
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.errors import UserError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
SECONDS_EACH = 0.5  # allowed for an example, on a busy machine
MOST_GROWTH = 600  # MB that the process may grow by during a test
NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63]
HEAD = 600  # bytes at the start and end of a file that hold its header
ODD_VALUES = [
    None, True, False, 0, 1, -1, -5, 0.5, 1e300, math.nan, math.inf, -math.inf, 2**31, 2**63, 10**30, 10**400, "", " ",
    "x", "1", "1_0", "１２", "-1", "nan", "a\0b", "\ud800", "é" * 300, [], [[]], [None], [1, 2, 3], {}, {"a": 1},
]  # fmt: skip


def fuzzed(*strategies: st.SearchStrategy, **named: st.SearchStrategy) -> Callable:
    """Decorator of a property test that runs `EXAMPLES` examples; its fixtures are shared by all of them."""
    limits = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

    def decorate(test: Callable) -> Callable:
        timed = pytest.mark.timeout(int(300 + EXAMPLES * SECONDS_EACH))
        return timed(limits(given(*strategies, **named)(test)))

    return decorate


@contextlib.contextmanager
def only_sentences() -> Iterator[None]:
    """Lets a UserError of one line pass, and nothing else."""
    try:
        yield
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) > 20, f"no sentence: {error!r}"


def broken(whole: bytes) -> st.SearchStrategy[bytes]:
    """Bytes like `whole`, of which some were changed, lost, doubled or cut off; more often those of the header."""
    last = len(whole) - 1
    head, tail = st.integers(0, min(HEAD, last)), st.integers(max(0, last - HEAD), last)
    place = head | tail | st.integers(0, last)
    kind = st.sampled_from(["byte", "byte", "short", "short", "word", "word", "long", "cut", "lose", "double"])
    number = st.sampled_from(NUMBERS) | st.integers(0, 2**64 - 1)
    edits = st.lists(st.tuples(place, kind, number, st.booleans()), min_size=1, max_size=4)
    return edits.map(lambda some: _edited(whole, some))


def _edited(whole: bytes, edits: list[tuple[int, str, int, bool]]) -> bytes:
    data = bytearray(whole)
    for place, kind, number, big in edits:
        size = {"byte": 1, "short": 2, "word": 4, "long": 8}.get(kind)
        if size:
            value = (number % 256**size).to_bytes(size, "big" if big else "little")
            data[place : place + size] = value[: len(data[place : place + size])]
        elif kind == "cut":
            del data[place:]
        elif kind == "lose":
            del data[place : place + 1 + number % 64]
        else:
            data[place:place] = data[place : place + 1 + number % 64]
    return bytes(data)


def changed(document: object, more: list[object] = ()) -> st.SearchStrategy[object]:
    """Nested lists and dictionaries like `document`, of which some values are odd (or of `more`), lost or doubled."""
    values = st.sampled_from([*ODD_VALUES, *more]) | st.integers() | st.floats() | st.text(max_size=5)
    kind = st.sampled_from(["set", "set", "set", "lose", "double"])
    edits = st.lists(st.tuples(st.integers(0, 10_000), kind, values), min_size=1, max_size=3)
    return edits.map(lambda some: _changed(document, some))


def _changed(document: object, edits: list[tuple[int, str, object]]) -> object:
    document = _copied(document)
    for number, kind, value in edits:
        places = list(_places(document))
        if not places:
            return value
        container, key = places[number % len(places)]
        if kind == "set":
            container[key] = _copied(value)  # a later edit must not change the odd value itself
        elif kind == "lose":
            del container[key]
        elif isinstance(container, list):
            container.append(_copied(container[key]))
        else:
            container[f"{key}2"] = _copied(container[key])
    return document


def _places(value: object) -> Iterator[tuple[dict | list, object]]:
    """(container, key) of every value in a document."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _copied(value: object) -> object:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Fails where a test made the process grow by far: a reader believed a header."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MOST_GROWTH, f"the process grew by {grown:.0f} MB"
