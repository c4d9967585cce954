"""04: learning from images without labels."""

from typing import Annotated, Literal

from annotated_types import Ge, Interval

from lib.config.section import Section

Share = Annotated[float, Interval(ge=0, le=1)]


class Pseudo(Section):
    """Pseudo-label rounds."""

    rounds: Annotated[int, Ge(0)] = 1
    """Rounds that `run_all.sh` runs; 0 for none."""
    patience: Annotated[int, Ge(0)] = 1
    """Rounds without a better mean OOF score after which `run_all.sh` makes no more; 05 takes the members of the best
    round. 0 for all rounds and the last one's members, as always with `source: ensemble`, whose scores flatter."""
    source: Literal["per_fold", "ensemble"] = "per_fold"
    """Whose predictions become labels: `per_fold` (for a fold, only members that never saw its
    validation groups: the OOF score stays honest) or `ensemble` (all members)."""
    sure: Annotated[float, Interval(gt=0.5, lt=1)] = 0.9
    """Probability above which (or, for its complement, below which) a pixel is sure."""
    min_sure: Share = 0.9
    """Share of sure pixels that makes a tile a confident one."""
    background_keep: Share = 0.3
    """Share of the confident tiles without object that is kept."""
    max_tiles: Annotated[int, Ge(0)] = 2000
    """At most this many tiles per fold, the most confident first; 0 for no limit."""
    share: Share = 0.3
    """Share of each epoch's samples that are pseudo-labeled tiles."""
    weight: Share = 1.0
    """Weight of a pseudo-labeled sample in the loss."""
    hard: bool = False
    """Round the labels to 0 and 1 (else soft probabilities, stored at 8 bits)."""
