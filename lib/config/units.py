"""Quantities as people write them."""

import re

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def seconds(value: object) -> object:
    """A duration in seconds; what is none is handed on, for the field's own check to refuse.

    >>> seconds("25m"), seconds("1.5h"), seconds("90 s"), seconds(300)
    (1500.0, 5400.0, 90.0, 300)
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", value)
    if not found or found[2] not in _SECONDS:
        raise ValueError(f"expected seconds or a duration such as 90s, 25m or 1.5h, found {value!r}")
    return float(found[1]) * _SECONDS[found[2]]


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose.

    >>> duration(40), duration(720), duration(9000)
    ('40 s', '12 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
