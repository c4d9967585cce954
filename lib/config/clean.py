"""04 --clean: labels that are wrong."""

from typing import Annotated, Literal

from annotated_types import Ge, Interval

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import Share


class Clean(Section):
    """Find noisy labels by the predictions of members on training images, and correct them.

    Labels on disk are never overwritten. Only tiles that 01 kept are judged: set `preprocess.background_keep` to 1 to
    find objects that no label has.
    """

    affects = ("clean",)

    list_below: Annotated[float, Interval(ge=-1, le=1)] = 0.3
    """List a tile or image whose mean IoU with its label is lower, by more than this, than the calibrated probabilities
    of the members that judge it promise; -1 lists all of them."""
    in_sample_weight: Share = 0.75
    """Weight, from 0 to 1, of members that trained on the label when its doubt is computed; members of its own
    validation fold get the rest. Members that trained on it know the stain, place or annotator, and a short training
    learns no single wrong label by heart; a long one may. With 0, or where only one fold has members, out-of-fold
    members judge alone; else every image is predicted twice."""
    min_foreground: Annotated[int, Ge(0)] = 100
    """Do not judge a tile in which label and members together have fewer object pixels than this, as stored. The same
    number of pixels is assumed to agree, because a few wrong pixels prove little."""
    use: Annotated[bool, Affects("member")] = False
    """Let 03 train without dropped tiles and with corrected ones. The bounds below apply when
    `04_pseudo_label.py --clean` is run."""
    drop_below: Share = 0.1
    """Drop a suspect whose mean IoU is below this."""
    relabel_below: Share = 0.3
    """Treat a suspect whose mean IoU is below this as `on_bad_label` says."""
    on_bad_label: Literal["relabel", "weigh"] = "relabel"
    """What happens to tiles with bad labels: `relabel` gives them the out-of-fold probabilities as their label, and
    `weigh` gives them the weight `weight`."""
    weight: Annotated[Share, Affects("member", when=lambda config: config.clean.use)] = 0.3
    """Weight in the loss of bad tiles when `on_bad_label` is `weigh`."""
    pictures: Annotated[int, Ge(0)] = 24
    """Number of suspects to draw, the worst first: image, label and out-of-fold prediction."""
