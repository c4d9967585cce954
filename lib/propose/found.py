"""Results of the recognisers: options, each with its reason, and notes for the user."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class OptionChoice:
    """An option's dotted key, its value, and the reason for it."""

    key: str
    value: object
    why: str = ""


def choice_if(true: object, key: str, value: object, why: str = "") -> list[OptionChoice]:
    """The choice, in a list, or none."""
    return [OptionChoice(key, value, why)] if true else []


@dataclass
class Notes:
    """Sentences: what was found, what could not be determined from the folder, what does not fit together yet."""

    found: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    mend: list[str] = field(default_factory=list)


def some(names: list[str] | set[str], limit: int = 6) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    names = sorted(names) if isinstance(names, set) else list(names)
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def evenly(items: list, limit: int) -> list:
    """At most `limit` of the items, evenly spread.

    >>> evenly(list(range(10)), 3)
    [0, 4, 9]
    """
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
