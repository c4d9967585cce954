"""The result of recognising labels, for all formats."""

from __future__ import annotations

from dataclasses import dataclass, field

from lib.propose.found import Notes, OptionChoice, abbreviated
from lib.propose.names import Form


@dataclass(frozen=True)
class FoundLabels:
    """Labels of one format.

    `kind`: one phrase for the user. `choices`: options of `competition.labels`, and related ones of `competition`.
    `ids`: of the labeled images. `files`: the masks. `whole`: whether each file is the complete label of an image, so
    that an image without a file is unlabeled. `painted`: whether classes are painted one over another.
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
    """What has its own row or mask: `image`, `class` or `object`."""
    answer: dict[str, object] = field(default_factory=dict)
    """Options of `competition.submission` for answers in the form of the labels; empty where there is no such form."""


def file_choice(form: Form) -> OptionChoice:
    """The choice of `competition.labels.suffix`, or of `labels.files` where the id is not all that precedes it."""
    suffix = form.template.removeprefix("{id}")
    if form.template.startswith("{id}") and not set(suffix) & set("/*{"):
        return OptionChoice("competition.labels.suffix", suffix)
    return OptionChoice("competition.labels.files", form.template)


def surplus(strangers: list[str], notes: Notes) -> list[OptionChoice]:
    """The choice of `competition.labels.surplus`. `strangers`: labels whose images are not in the folder."""
    if not strangers:
        return []
    fact = f"{len(strangers)} labels have no image here ({abbreviated(strangers, 2)})"
    notes.found.append(f"{fact}; they are left out")
    return [OptionChoice("competition.labels.surplus", "skip", fact)]
