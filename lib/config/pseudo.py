"""04: learning from images without labels."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.section import Section

Share = Annotated[float, Interval(ge=0, le=1)]


class Pseudo(Section):
    """Pseudo-label rounds."""

    affects = ("pseudo",)

    rounds: Annotated[int, Ge(0), Affects()] = 0
    """Rounds that `run_all.sh` runs; 0 for none."""
    patience: Annotated[int, Ge(0), Affects()] = 1
    """Rounds without a better mean OOF score after which `run_all.sh` makes no more; 05 takes the members of the best
    round. 0 for all rounds and the last one's members, as always with `source: ensemble`, whose scores flatter."""
    source: Literal["per_fold", "ensemble"] = "per_fold"
    """Whose predictions become labels: `per_fold` (for a fold, only members that never saw its
    validation groups: the OOF score stays honest) or `ensemble` (all members)."""
    confidence: Literal["sure", "agreement"] = "sure"
    """How confident a tile is, 0 to 1: its share of pixels above `pixel_confidence`; 1 less the mean entropy of its
    pixels, in units of the largest; or 1 less twice the standard deviation of the votes of members and TTA views, mean
    over its pixels."""
    pixel_confidence: Annotated[float, Interval(gt=0.5, lt=1)] = 0.9
    """Probability above which (or, for its complement, below which) a pixel is sure."""
    min_confidence: Share = 0.9
    """Confidence from which a tile is kept."""
    background_keep: Share = 0.3
    """Share of the confident tiles without object that is kept; 0 for tiles with object only."""
    max_tiles: Annotated[int, Ge(0)] = 2000
    """At most this many tiles per fold, the most confident first; 0 for no limit."""
    class_quota: Annotated[int, Ge(0)] = 0
    """So many tiles of every class, the most confident that hold it, are kept besides, whatever the bounds above say:
    rare classes are seldom sure."""
    shift: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of a tile by which the grid of tiles is moved down and right: what one grid cuts is whole in another."""
    center_only: bool = False
    """Labels come from the middle of windows alone, `infer.margin` off their rim; windows overlap enough for that."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Below 1 soft labels are sharpened, above 1 softened: probabilities to the power 1 / `temperature`."""
    mode: Annotated[Literal["mix", "pretrain"], Affects("member", when=lambda config: config.train.round > 0)] = "mix"
    """`mix`: pseudo-labeled tiles among the true ones; `pretrain`: first a training on them alone, then one on the
    true labels that starts from its weights, each with a schedule of its own."""
    share: Annotated[Share, Affects("member", when=lambda config: config.train.round > 0)] = 0.3
    """Share of every batch that is pseudo-labeled tiles; mode pretrain: of the whole training that is the first."""
    weight: Annotated[Share, Affects("member", when=lambda config: config.train.round > 0)] = 1.0
    """Weight of a pseudo-labeled sample in the loss."""
    hard: Annotated[bool, Affects("pseudo", "clean")] = False
    """Round the labels to 0 and 1 (else soft probabilities, stored at 8 bits)."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.mode == "pretrain" and self.share == 1:
            raise ValueError("pseudo.share 1 leaves nothing of the training for the true labels; lower it")
        return self
