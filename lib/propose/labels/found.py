"""The result of recognising labels, for all formats."""

from __future__ import annotations

from dataclasses import dataclass, field

from lib.propose.found import Notes, OptionChoice, some


@dataclass(frozen=True)
class FoundLabels:
    """`choices`: of `competition.labels`, and of `competition` what comes with it; `ids` of the labeled images.

    `files`: masks. `whole`: whether each file is all of an image's label, so that an image without one is unlabeled.
    `painted`: whether classes are painted one over another.
    """

    kind: str
    choices: list[OptionChoice]
    ids: set[str]
    classes: list[str]
    background: bool = True
    files: frozenset[str] = frozenset()
    whole: bool = False
    painted: bool = False
    rows: str = ""
    """What has a row, or a mask, of its own: `image`, `class` or `object`."""
    answer: dict[str, object] = field(default_factory=dict)
    """Options of `competition.submission` for answers in the form of the labels, as far as these tell."""


def surplus(strangers: list[str], notes: Notes) -> list[OptionChoice]:
    """The choice for labels whose images are not in the folder."""
    if not strangers:
        return []
    what = f"{len(strangers)} labels have no image here ({some(strangers, 2)})"
    notes.found.append(f"{what}; they are left out")
    return [OptionChoice("competition.labels.surplus", "skip", what)]
