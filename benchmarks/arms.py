"""The arms that rounds.py compares: how a member is trained, and which members label for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from benchmarks.settings import Options

COMMON = {"train.threads": "1", "infer.checkpoints": "[swa]"}
SOFT = {"pseudo.source": "per_fold", "pseudo.hard": "false"}
REFERENCES = "round0", "round0_longer", "round1"


@dataclass(frozen=True)
class Arm:
    """How a member is trained."""

    round: int = 0
    teacher: str = ""  # the arm whose members label
    options: Options = field(default_factory=dict)
    length: int = 1  # of its training, as a multiple of `--seconds` or of the epochs
    labeling: Options = field(default_factory=dict)  # further options of 04


def first_round(**pseudo: str) -> Arm:
    """An arm with soft labels by round 0's members, and with options of the section `pseudo`."""
    return Arm(1, "round0", {**SOFT, **{f"pseudo.{key}": value for key, value in pseudo.items()}})


ROUNDS = {
    "round0": Arm(),
    "round0_longer": Arm(length=2),
    "round1": first_round(),
    "round1_hard": first_round(hard="true"),
    "round2": Arm(2, "round1", SOFT),
    "round1_ensemble": first_round(source="ensemble"),
}
ARMS = ROUNDS | {
    "round1_agreement": replace(first_round(confidence="agreement"), labeling={"infer.tta": "flips"}),
    "round1_objects": first_round(background_keep="0"),
    "round1_quota": first_round(class_quota="20"),
    "round1_shifted": first_round(shift="0.5"),
    "round1_center": first_round(center_only="true"),
    "round1_sharp": first_round(temperature="0.5"),
    "round1_half_weight": first_round(weight="0.5"),
    "round1_pretrain": first_round(mode="pretrain"),
}


class Trial(NamedTuple):
    """One member of an arm."""

    name: str
    seed: int
    fold: int

    @property
    def arm(self) -> Arm:
        """How the member is trained."""
        return ARMS[self.name]

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}, fold {self.fold}"
