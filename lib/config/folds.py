"""02: splitting without leaks."""

from typing import Annotated, Literal

from annotated_types import Ge, Interval

from lib.config.section import Section


class Folds(Section):
    """How images are split into folds."""

    scheme: Literal["kfold", "holdout", "column"] = "kfold"
    """`kfold`; `holdout` (one fold, `holdout_share` of the images); `column` (a metadata column
    holds the fold's number)."""
    k: Annotated[int, Ge(2)] = 5
    """Number of folds of `kfold`."""
    holdout_share: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    """Share of images that `holdout` validates on."""
    column: str = "fold"
    """Metadata column of scheme `column`."""
    group_column: str = ""
    """Metadata column whose images must stay in one fold (patient, place, …); empty for none."""
    group_regex: str = ""
    """Regular expression on the image id; its first group (or whole match) names the group."""
    stratify_column: str = ""
    """Metadata column to balance over folds beside the classes' content; empty for none."""
    seed: int = 42
    leak_check: bool = True
    """Look for copies and overlaps between images by content, and merge them into one group."""
