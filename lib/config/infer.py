"""05: from members to one decision."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import AfterValidator

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import FileName, Seconds, tta_words


class Infer(Section):
    """Windows, test-time augmentation, ensemble, decision."""

    affects = ("answer",)

    experiments: list[str] = []
    """Experiments whose members are averaged; empty for the best pseudo-label round's."""
    checkpoints: Annotated[
        list[Literal["swa", "ema", "best", "last", "epochs", "mean", "soup"]],
        Affects("score", "answer"),
    ] = ["swa"]
    """Which weights of each member take part. `swa` falls back to `last` where SWA was off. `best` scored best among
    `train.evaluations` and the end; it is `last` where nothing was scored (`evaluations` 0, a member of all images).
    `epochs` are all the checkpoints that `train.checkpoints` kept, `mean` the average of their weights, `soup`
    as in `train.soup`."""
    folds: Literal["each", "all"] = "each"
    """Who predicts test images: `each` fold's members together, or those trained on `all` labeled images, one for each
    seed (`03_train.py --train.folds all`; run_all.sh trains them last, in the best round): with one seed a single
    network, for competitions that forbid ensembles. It trains as long as a fold's member, under
    `train.time_limit` too. No out-of-fold map can judge it: decision and scores are those of
    the folds' members of the same experiment and seed, trained alike but on fewer images."""
    ensemble_weights: Literal["equal", "greedy"] = "equal"
    """What each experiment's seed (and kind of weights) counts, the same in all folds: alike, selected one by one with
    replacement, or searched among all shares. Searched on a sample of out-of-fold pixels, decided on whole maps."""
    averaging: Literal["arithmetic", "geometric"] = "arithmetic"
    """How their maps are averaged; a seed's folds among themselves always arithmetically: no image has maps of two."""
    window: Annotated[Annotated[int, Ge(0)] | Literal["auto"], Affects("score", "pseudo", "clean", "answer")] = 0
    """Side of the inference window after `scale`; 0 for the size trained on. Larger sees more context. `auto`: 05 tries
    1, 1.5 and 2 times the size trained on, as far as the images reach, and keeps what gains `min_gain`; 03 and 04
    take 0."""
    overlap: Annotated[float, Interval(ge=0, lt=1), Affects("score", "pseudo", "clean", "answer")] = 0.5
    """Share of a window that the next one covers again; 0 for none."""
    scale: Annotated[float, Ge(0), Affects("score", "pseudo", "clean", "answer")] = 0
    """Scale at which images are read; 0 for the one trained on."""
    blend: Annotated[
        Literal["gaussian", "constant", "linear", "center"],
        Affects("score", "pseudo", "clean", "answer"),
    ] = "gaussian"
    """Weight of a window's pixels in the overlaps; `center` trusts only what is `margin` off the rim."""
    margin: Annotated[float, Interval(ge=0, lt=0.5), Affects("score", "pseudo", "clean", "answer")] = 0.25
    """Blend center: rim on each side, as a share of the window."""
    roi: Annotated[str, Affects("score", "pseudo", "clean", "answer")] = "content"
    """Where windows are computed: `none` (everywhere), `content` (not on blank areas), a CSV of boxes with columns
    `image_id,y,x,height,width` in original pixels, or, in 05, `coarse`: where the members of `coarse` find objects.
    With `competition.background: false` blank areas have a class, too, and `content` means `none`; so it does where 01
    says that more than 2 % of the object pixels lie in tiles that count as blank.
    Boxes are not cut by a grid: each has a window around it, with its neighbours where they fit into it; what is larger
    than a window gets the grid's. With `preprocess.mode resize` each box of a CSV is shrunk to one window."""
    coarse: Annotated[str, Affects("answer", when=lambda config: config.infer.roi == "coarse")] = ""
    """Experiment whose members find regions for `roi: coarse`, trained before on images shrunken further
    (`03_train.py --train.experiment coarse --train.scale 0.25`; run_all.sh trains none), or objects for
    `python -m lib boxes`."""
    coarse_above: Annotated[
        float,
        Interval(gt=0, lt=1),
        Affects("answer", when=lambda config: config.infer.roi == "coarse"),
    ] = 0.2
    """Probability of being no background from which a pixel belongs to a region (or to an object: rather 0.5)."""
    coarse_margin: Annotated[float, Ge(0), Affects("answer", when=lambda config: config.infer.roi == "coarse")] = 0.125
    """What is looked at around a region, as a share of a window's side; around an object, of its own longer side."""
    tta: Annotated[str, AfterValidator(tta_words), Affects("score", "pseudo", "clean", "answer")] = "none"
    """Test-time augmentation, in words that multiply the views, of which equal ones count once: `hflip`, `vflip`,
    `rotate=0,90,180,270`, `scale=1,1.5,2`, `brightness=0.9,1,1.1`; `flips` (4 views), `d4` (all 8 of the square).
    `merge=gmean` (or `max`, `min`, `tsharpen`) in place of their mean. `free`: each window is seen once, but its
    neighbours flipped otherwise, so that their overlaps average views. `auto`: 05 tries none, free, hflip, vflip, flips
    and d4, and keeps what gains `min_gain`; 04 takes none."""
    min_gain: Annotated[float, Ge(0), Affects()] = 0.001
    """`auto` of `window` and `tta` keeps what has the highest out-of-fold score after this is taken off for every
    doubling of the seconds; images of one group alone decide nothing."""
    trial_limit: Annotated[Seconds, Gt(0), Affects()] = 180
    """Time for each `auto` of `window` and `tta`, on as many out-of-fold images, or parts of large ones, as it is
    enough for. Measured once, and again when members or options that matter change."""
    batch_size: Annotated[int, Ge(1)] = 8
    precision: Annotated[Literal["auto", "fp32", "fp16", "bf16"], Affects("pseudo", "clean", "answer")] = "auto"
    """`auto` takes, together with the backend, what is fastest and agrees with fp32."""
    backend: Annotated[str, Affects("pseudo", "clean", "answer")] = "auto"
    """`eager` (PyTorch), `compile`, `openvino` (an optional package), or `auto`, which tries what is installed on a few
    windows, where the work takes half a minute (`compile`: five), and takes the fastest whose maps agree, for every
    network of the ensemble. A backend that fails later is replaced by `eager`, with a sentence."""
    gate: Annotated[float, Interval(ge=0, lt=1)] | Literal["fit"] = 0.0
    """A class is left out where the classification heads (`model.classifier`) find it less likely than this, blended
    over windows and averaged over members; 0 for never, `fit` for what scores best on out-of-fold maps, class by class.
    The table says what it gains on folds it was not fitted on."""
    threshold: Literal["fit", "half"] = "fit"
    """Threshold of one class: 0.5, or fitted on out-of-fold maps; it leaves 0.5 as far as groups of images agree that
    this gains. Several classes with a background: argmax, and `fit` never answers a class where groups of images agree
    that this gains. Where an empty answer scores best on out-of-fold maps, `fit` leaves all answers empty."""
    postprocess: list[Literal["objects", "largest", "holes", "priors"]] = []
    """What else is fitted on out-of-fold maps: `objects` (drawn from a low threshold on, where they reach a high one
    and an area; each of several classes has its own, against background or, without one, the next likely class),
    `largest` (only the largest object of an image and class), of one class `holes` (small ones are filled), of several
    `priors` (a factor for each, before argmax). The table says what it gains on folds it was not fitted on."""
    maps_gib: Annotated[float, Gt(0), Affects()] = 64.0
    """Disk for out-of-fold maps, before compression, when `ensemble_weights`, `averaging` or `postprocess` needs them
    whole."""
    time_limit: Seconds = 0
    """Time for all of 05 (`9h`, `25m`, `90s`); 0 for no limit. Every test window gets one pass of the best network that
    there is time for, before any gets a second. Then windows get more networks, the most worthwhile first, and then
    views, as the time that is left allows; windows overlap less before a network is left out. Out-of-fold maps that are
    not there yet are made of fewer images. `window auto` and `tta auto` first say, each in a twentieth of the limit,
    which windows and views are worth their seconds. Windows that get no pass all the same are background, or the most
    frequent class of training; the last line says how many. What is chosen once is kept to by a run that goes on after
    a kill."""
    tag: FileName = "ensemble"
    """Goes into the submission's file name."""
    max_gib: Annotated[float, Gt(0), Affects()] = 0.25
    """Memory for the rows of an image that are being worked on; what is more waits in a file."""

    @property
    def gated(self) -> bool:
        """Whether presence of classes is asked of the networks."""
        return self.gate != 0


class Report(Section):
    """What is shown."""

    affects = ()

    pictures: Annotated[int, Ge(0), Affects("report")] = 6
    """How many of the worst, best and most uncertain images are drawn each; and of the surest and least sure
    pseudo-labels of a round."""
    tracker: str = "none"
    """Where 03's numbers and the masks of the worst images, and 05's scores and the ledger, go besides the workspace:
    `none`, `wandb`, `tensorboard` (optional packages), or a plugin's."""
    tracker_mode: Literal["online", "offline", "disabled"] = "online"
    """Of Weights & Biases; what `offline` wrote is sent later by `wandb sync`."""
