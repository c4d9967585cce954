"""04 --clean: labels that are wrong."""

from typing import Annotated, Literal

from annotated_types import Ge, Interval

from lib.config.affects import Affects
from lib.config.section import Section

Share = Annotated[float, Interval(ge=0, le=1)]


class Clean(Section):
    """Finding noisy labels by what members say of training images, and mending them.

    Labels on disk are never overwritten. Only tiles that 01 kept are judged: `preprocess.background_keep` 1 shows
    objects that no label has.
    """

    affects = ("clean",)

    list_below: Annotated[float, Interval(ge=-1, le=1)] = 0.3
    """Tiles and images are suspects whose mean IoU with their label is lower, by more than this, than the calibrated
    probabilities of the members that judge let expect; -1 lists all."""
    in_sample_weight: Share = 0.75
    """Of how far agreement falls short, the share that members of another fold say, which trained on the label; the
    rest those say that never saw it. The former know the stain, place or annotator, and a short training learns no
    single wrong label by heart; a long one may. With 0, or where only one fold has members, the latter judge alone;
    else every image is predicted twice."""
    min_foreground: Annotated[int, Ge(0)] = 100
    """Pixels of a stored tile that label or members take for object, below which a tile is not judged. So many more are
    taken to agree: little that is wrong proves little."""
    use: Annotated[bool, Affects("member")] = False
    """03 trains without the hopeless tiles and with the bad ones mended, as the bounds below say when
    `04_pseudo_label.py --clean` is run."""
    drop_below: Share = 0.1
    """Mean IoU below which a suspect is hopeless and dropped."""
    relabel_below: Share = 0.3
    """Mean IoU below which a suspect is bad, and treated as `on_bad_label` says."""
    on_bad_label: Literal["relabel", "weigh"] = "relabel"
    """Bad tiles get the out-of-fold probabilities as their label, or the weight `weight`."""
    weight: Annotated[Share, Affects("member", when=lambda config: config.clean.use)] = 0.3
    """Weight in the loss of bad tiles that are weighed."""
    pictures: Annotated[int, Ge(0)] = 24
    """Suspects of which a picture (image, label, out-of-fold prediction) is drawn, the worst first."""
