"""Which values the pixels of an answer's files may hold (`competition.submission.palette`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.config.competition import CompetitionSettings


def check_answer_palette(competition: CompetitionSettings) -> None:
    """Raises ValueError unless the palette gives each label a number, or each a colour, of its own."""
    palette, start = competition.submission.palette, "competition.submission.palette"
    if not isinstance(palette, dict) or not palette:
        return
    names, values = competition.label_names, list(palette.values())
    if set(palette) != set(names):
        missing, strange = sorted(set(names) - set(palette)), sorted(set(palette) - set(names))
        fault = f"has no value for {missing[0]!r}" if missing else f"names {strange[0]!r}, which is not a class"
        raise ValueError(f"{start} {fault}; a value is expected for each of {', '.join(names)}")
    if len({isinstance(value, tuple) for value in values}) > 1:
        raise ValueError(f"{start} holds numbers and colours; use one of them")
    if len(set(values)) < len(values):
        raise ValueError(f"{start} gives two classes the same value; give each its own")
