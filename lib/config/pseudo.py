"""04: learning from images without labels."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import Share


class Pseudo(Section):
    """Pseudo-label rounds."""

    affects = ("pseudo",)

    rounds: Annotated[int, Ge(0), Affects()] = 0
    """Pseudo-label rounds that `run_all.sh` runs; 0 for none."""
    patience: Annotated[int, Ge(0), Affects()] = 1
    """Stop after this many rounds without a better mean out-of-fold score, and let 05 take the members of the best
    round. With 0, and always with `source: ensemble`, whose scores flatter, `run_all.sh` runs all rounds, and 05 takes
    the members of the last one."""
    source: Literal["per_fold", "ensemble"] = "per_fold"
    """Whose predictions become labels: `per_fold` keeps the out-of-fold score honest, because the labels of a fold come
    only from members that never saw its validation groups. `ensemble` uses all members."""
    confidence: Literal["sure", "agreement"] = "sure"
    """How the confidence of a tile is measured, from 0 to 1: `sure` is the share of its pixels above
    `pixel_confidence`. `agreement` is 1 minus twice the standard deviation of the votes of members and TTA views,
    averaged over its pixels; it needs two members of a fold, or two views."""
    pixel_confidence: Annotated[float, Interval(gt=0.5, lt=1)] = 0.9
    """Probability above which a pixel counts as sure; a pixel whose complement exceeds it is sure, too."""
    min_confidence: Share = 0.9
    """Keep tiles whose confidence is at least this."""
    background_keep: Share = 0.3
    """Share of the confident tiles without object that is kept; 0 for tiles with object only."""
    max_tiles: Annotated[int, Ge(0)] = 2000
    """Keep at most this many tiles per fold, the most confident first; 0 for no limit."""
    class_quota: Annotated[int, Ge(0)] = 0
    """Keep this many tiles of every class besides, the most confident ones that hold it, whatever the bounds above say.
    Use it where rare classes are seldom sure."""
    shift: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Move the grid of tiles down and right by this share of a tile: objects that one grid cuts are whole in
    another."""
    center_only: bool = False
    """Take labels from the middle of windows only, `infer.margin` away from their rim. Windows then overlap enough to
    cover everything."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Sharpen soft labels with a value below 1, or soften them with a value above 1: probabilities are raised to the
    power 1 / `temperature`."""
    mode: Annotated[Literal["mix", "pretrain"], Affects("member", when=lambda config: config.train.round > 0)] = "mix"
    """`mix` trains on pseudo-labeled and labeled tiles together. `pretrain` trains on pseudo-labeled tiles first; a
    second training on the true labels starts from its weights. Each of the two has a schedule of its own."""
    share: Annotated[Share, Affects("member", when=lambda config: config.train.round > 0)] = 0.3
    """Share of every batch that is pseudo-labeled tiles; with mode pretrain, share of the whole training that
    pretraining takes."""
    weight: Annotated[Share, Affects("member", when=lambda config: config.train.round > 0)] = 1.0
    """Weight of a pseudo-labeled sample in the loss."""
    hard: Annotated[bool, Affects("pseudo", "clean")] = False
    """Round the labels to 0 and 1; else they are probabilities, stored with 8 bits."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.mode == "pretrain" and self.share == 1:
            raise ValueError("pseudo.share 1 leaves nothing of the training for the true labels; lower it")
        return self
