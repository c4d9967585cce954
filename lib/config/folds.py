"""02: splitting without leaks."""

from typing import Annotated, Literal

from annotated_types import Ge, Interval

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import Seed


class Folds(Section):
    """How images are split into folds."""

    affects = ("folds",)

    scheme: Literal["kfold", "holdout", "column"] = "kfold"
    """How images are split: `kfold`, `holdout` (one fold with `holdout_share` of the images), or `column` (a metadata
    column holds the number of the fold)."""
    k: Annotated[int, Ge(2)] = 5
    """Number of folds of `kfold`."""
    holdout_share: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    """Share of the images that `holdout` validates on."""
    column: str = "fold"
    """Metadata column of scheme `column`: 0, 1, 2, …, or -1 for images that are always trained on."""
    group_column: str = ""
    """Metadata column whose images must stay in one fold (patient, place, …), so that validation is honest; empty for
    none. An image whose cell is blank is a group of its own."""
    group_regex: str = ""
    """Regular expression on the image id: its first group (or the whole match) names the group of images that must stay
    in one fold. It must fit every id. One with a `/` is searched in the image's path below `competition.root`:
    `([^/]+)/[^/]+$` is the folder of the image."""
    stratify_column: str = ""
    """Metadata column to balance over the folds, besides the content of the classes; empty for none."""
    seed: Annotated[Seed, Affects("folds", "member")] = 42
    """Random seed of the split; another one gives other folds. A whole number from 0 to 4294967295."""
    leak_check: bool = True
    """Look for copies and overlaps between images, mirrored and rotated ones too, and put them into one group. The more
    images there are, the coarser they are compared: at 512 pixels a side up to 1,000 images, at 80 beyond 60,000."""
