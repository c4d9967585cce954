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
    """A list of one choice where `true` holds; an empty list otherwise."""
    return [OptionChoice(key, value, why)] if true else []


@dataclass
class Notes:
    """Sentences for the user. `found`: facts. `unsure`: what the folder does not tell. `problems`: errors."""

    found: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def abbreviated(names: list[str] | set[str], limit: int = 6) -> str:
    """The first names, and how many more there are.

    >>> abbreviated(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    names = sorted(names) if isinstance(names, set) else list(names)
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def evenly_spaced(items: list, limit: int) -> list:
    """At most `limit` of the items, evenly spread.

    >>> evenly_spaced(list(range(10)), 3)
    [0, 4, 9]
    """
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
