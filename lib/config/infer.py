"""05: from members to one decision."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import AfterValidator

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import FileName, Seconds, Side, tta_words


class Infer(Section):
    """Windows, test-time augmentation, ensemble, post-processing and time limit of 05."""

    affects = ("answer",)

    experiments: list[FileName] = []
    """Experiments whose members are averaged; empty for those of the best pseudo-label round."""
    checkpoints: Annotated[
        list[Literal["swa", "ema", "best", "last", "epochs", "mean", "soup"]],
        Affects("score", "answer"),
    ] = ["swa"]
    """Which weights of each member take part in the ensemble; several kinds are averaged. `swa` is `last` where SWA was
    off. `best` scored best among `train.evaluations` and the end; it is `last` where nothing was scored (`evaluations`
    0, or a member of all images). `epochs` are all checkpoints that `train.checkpoints` kept, `mean` is the average of
    their weights, and `soup` is explained at `train.soup`."""
    folds: Literal["each", "all"] = "each"
    """Who predicts test images: the members of `each` fold together, or the members that trained on `all` labeled
    images, one per seed. With one seed `all` is a single network, for competitions that forbid ensembles. Train such
    members with `03_train.py --train.folds all` (run_all.sh trains them last, in the best round); they train as long as
    a fold's member, under `train.time_limit` too. No out-of-fold map can judge them: decision and scores are those of
    the folds' members of the same experiment and seed, which trained alike on fewer images."""
    ensemble_weights: Literal["equal", "greedy"] = "equal"
    """How the weights of the models are chosen: `equal`, or `greedy`, which adds models one by one, with replacement. A
    model is an experiment, a seed and a kind of checkpoint; its weight is the same in all folds. Weights are searched
    on a sample of out-of-fold pixels and decided on whole maps."""
    averaging: Literal["arithmetic", "geometric"] = "arithmetic"
    """Mean of the models' probabilities: `arithmetic` or `geometric`. The folds of one model are always averaged
    arithmetically."""
    window: Annotated[Side | Literal["auto"], Affects("score", "pseudo", "clean", "answer")] = 0
    """Side of the inference window in pixels after `scale`; a larger one sees more context. 0 for the size that was
    trained on. `auto`: 05 tries 1, 1.5 and 2 times that size, as far as the images reach, and keeps what gains
    `min_gain`; 03 and 04 take 0."""
    overlap: Annotated[float, Interval(ge=0, lt=1), Affects("score", "pseudo", "clean", "answer")] = 0.5
    """Share of a window that the next window covers again; 0 for none."""
    scale: Annotated[float, Ge(0), Affects("score", "pseudo", "clean", "answer")] = 0
    """Scale at which images are read; 0 for the scale that was trained on. Above 1, images are enlarged, and
    predictions are averaged back to their pixels."""
    blend: Annotated[
        Literal["gaussian", "constant", "linear", "center"],
        Affects("score", "pseudo", "clean", "answer"),
    ] = "gaussian"
    """Weight of a window's pixels where windows overlap: `gaussian`, `constant`, `linear`, or `center`, which uses only
    pixels that are `margin` away from the rim."""
    margin: Annotated[float, Interval(ge=0, lt=0.5), Affects("score", "pseudo", "clean", "answer")] = 0.25
    """Rim that `blend: center` leaves out on each side, as a share of the window."""
    roi: Annotated[str, Affects("score", "pseudo", "clean", "answer")] = "content"
    """Where windows are computed: `none` (everywhere), `content` (not on blank areas), a CSV of boxes with columns
    `image_id,y,x,height,width` in original pixels, or, in 05 only, `coarse`: where the members of the experiment
    `coarse` find objects. With `competition.background: false` blank areas have a class, too, and `content` means
    `none`. It also does where 01 finds more than 2 % of the object pixels in tiles that count as blank. Boxes are not
    cut by a grid: each has a window around it, together with neighbours that fit into it, and a box larger than a
    window gets a grid of windows. With `preprocess.mode resize` each box of a CSV is shrunk to one window."""
    coarse: Annotated[str, Affects("answer", when=lambda config: config.infer.roi == "coarse")] = ""
    """Experiment whose members find the regions of `roi: coarse`, or the objects of `python -m lib boxes`. Train it
    before, on images that are shrunk further (`03_train.py --train.experiment coarse --train.scale 0.25`); run_all.sh
    does not train it."""
    coarse_above: Annotated[
        float,
        Interval(gt=0, lt=1),
        Affects("answer", when=lambda config: config.infer.roi == "coarse"),
    ] = 0.2
    """Probability of being no background above which a pixel belongs to a region; for objects of `python -m lib boxes`
    rather 0.5."""
    coarse_margin: Annotated[float, Ge(0), Affects("answer", when=lambda config: config.infer.roi == "coarse")] = 0.125
    """Margin that is predicted around a region, as a share of a window's side; around an object, as a share of its
    longer side."""
    tta: Annotated[str, AfterValidator(tta_words), Affects("score", "pseudo", "clean", "answer")] = "none"
    """Test-time augmentation, in words that multiply the views: `hflip`, `vflip`, `rotate=0,90,180,270`,
    `scale=1,1.5,2`, `brightness=0.9,1,1.1`, `flips` (4 views), `d4` (all 8 of the square). Equal views count once.
    `merge=gmean` (or `max`, `min`, `tsharpen`) replaces their mean. `free` predicts each window once, but flips its
    neighbours differently, so that overlaps average views. `auto`: 05 tries none, free, hflip, vflip, flips and d4, and
    keeps what gains `min_gain`; 04 takes none."""
    min_gain: Annotated[float, Ge(0), Affects()] = 0.001
    """Out-of-fold score that `auto` of `window` and `tta` must gain for each doubling of the seconds: the choice with
    the highest score after this is subtracted is kept. With images of one group alone nothing is decided."""
    trial_limit: Annotated[Seconds, Gt(0), Affects()] = 180
    """Time for each `auto` of `window` and `tta`: as many out-of-fold images, or parts of large ones, are tried as fit
    into it. The result is stored, and measured again when members or relevant options change."""
    batch_size: Annotated[int, Interval(ge=1, le=65_536)] = 8
    """Windows that are predicted together; lower it where memory is short. A batch that does not fit into memory is
    computed in parts. With many classes that overlap, fewer windows are predicted together, so that their maps take
    about 128 MiB."""
    precision: Annotated[Literal["auto", "fp32", "fp16", "bf16"], Affects("pseudo", "clean", "answer")] = "auto"
    """Number format of inference: `auto` takes, together with the backend, the fastest one whose maps agree with
    fp32."""
    backend: Annotated[str, Affects("pseudo", "clean", "answer")] = "auto"
    """What runs the networks: `eager` (PyTorch), `compile`, `openvino` (an optional package), or `auto`, which tries
    the installed ones on a few windows where the work takes at least half a minute (`compile`: five minutes) and takes
    the fastest one whose maps agree for every network of the ensemble. A backend that fails later is replaced by
    `eager`, with a message."""
    gate: Annotated[float, Interval(ge=0, lt=1)] | Literal["fit"] = 0.0
    """Leave a class out of an image where the classification heads (`model.classifier`) find it less likely than this,
    blended over windows and averaged over members. 0 for never; `fit` for the value that scores best on out-of-fold
    maps, class by class. The table of 05 says what it gains on folds that it was not fitted on."""
    threshold: Literal["fit", "half"] = "fit"
    """Threshold of one class: `half` is 0.5, and `fit` fits it on out-of-fold maps; it leaves 0.5 only as far as groups
    of images agree that this gains. Classes that overlap (`competition.multilabel`) have one each. Other classes with a
    background: argmax, and `fit` never answers a class where groups of images agree that this gains. Where empty
    answers score best on out-of-fold maps, `fit` leaves all answers empty."""
    postprocess: list[Literal["objects", "largest", "holes", "priors"]] = []
    """Post-processing steps to fit on out-of-fold maps. `objects` is a hysteresis threshold: objects are drawn from a
    low threshold on where they reach a high one and a minimal area (each of several classes has its own, against
    background or, without one, the next likely class). `largest` keeps only the largest object of an image and class.
    `holes`, for one class or for classes that overlap, fills small holes. `priors`, for classes that do not overlap,
    multiplies each class by a factor before argmax. The table of 05 says what it gains on folds that it was not fitted
    on."""
    maps_gib: Annotated[float, Gt(0), Affects()] = 64.0
    """Disk space for out-of-fold maps in GiB, before compression, when `ensemble_weights`, `averaging` or `postprocess`
    needs them whole."""
    time_limit: Seconds = 0
    """Time for all of 05 (`9h`, `25m`, `90s`); 0 for no limit. First every test window gets one pass of the best
    network that there is time for. Then windows get more networks, the most worthwhile first, and then views, as far as
    the time allows; windows overlap less before a network is left out. Missing out-of-fold maps are made of fewer
    images. `window auto` and `tta auto` first measure, each in a twentieth of the limit, which windows and views are
    worth their seconds. Windows that get no pass are background, or the most frequent class of training, and the last
    line says how many there are. A run that goes on after it was killed keeps the choices that were made."""
    tag: FileName = "ensemble"
    """Word that goes into the submission's file name."""
    max_gib: Annotated[float, Gt(0), Affects()] = 0.25
    """Memory in GiB for the rows of an image that are in work; more rows wait in a file."""

    @property
    def gated(self) -> bool:
        """Whether presence of classes is asked of the networks."""
        return self.gate != 0


class Report(Section):
    """What the report shows, and where else it goes."""

    affects = ()

    pictures: Annotated[int, Ge(0), Affects("report")] = 6
    """How many of the worst, of the best and of the most uncertain images are drawn; also how many of the most and the
    least confident pseudo-labels of a round."""
    tracker: str = "none"
    """Where numbers and pictures go besides the workspace: `none`, `wandb`, `tensorboard` (optional packages), or the
    name of one that a plugin registers. It gets the numbers of 03 with the masks of the worst images, and the scores of
    05 with the ledger."""
    tracker_mode: Literal["online", "offline", "disabled"] = "online"
    """Mode of Weights & Biases; `wandb sync` sends later what `offline` wrote."""
