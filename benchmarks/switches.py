"""The tricks that ablation.py turns on and off, and what they become for a competition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks.settings import Options, Setting, Values, cross_entropy, trained_side, values_for
from lib.config import Config
from lib.errors import UserError
from lib.system.device import pick_device
from lib.system.precision import candidates

Need = tuple[str, Callable[[Config], bool]]


@dataclass(frozen=True)
class Switch:
    """A trick: options that turn it on, and options that turn it off where a YAML may have it already."""

    kind: str  # data, train or infer
    on: Values
    off: Values = field(default_factory=dict)
    score: str = "swa"  # the score: of weights (swa, ema, last), of 05's pass (05), or with a fitted threshold (fitted)
    against: str = "baseline"  # a switch, or `own`; with weights if needed: `own last`
    infer: Values = field(default_factory=dict)  # after the training, predict as 05 does with these options
    with_baseline: bool = False  # that prediction is averaged with the baseline's member
    need: Need = ("", lambda c: True)


ONE_CLASS: Need = ("one class", lambda c: len(c.competition.classes) == 1)
BACKGROUND: Need = ("a background", lambda c: c.competition.background)
BF16: Need = ("a machine with bf16", lambda c: "bf16" in candidates(pick_device(c.train.device)))


SWITCHES = {
    # These two always run, because others are compared with them.
    "baseline": Switch("train", {}),
    "baseline_05": Switch("infer", {}, score="05"),
    # Tiles.
    "overlapping_tiles": Switch(
        "data", {"preprocess.stride": lambda c: f"{c.preprocess.tile_size * 3 // 4}"}, {"preprocess.stride": "0"}
    ),
    "background_dropped": Switch(
        "data", {"preprocess.background_keep": "0.3"}, {"preprocess.background_keep": "1"}, need=BACKGROUND
    ),
    "half_scale": Switch("data", {"preprocess.scale": lambda c: f"{c.preprocess.scale / 2:g}"}),
    "double_scale": Switch("data", {"preprocess.scale": lambda c: f"{min(1, c.preprocess.scale * 2):g}"}),
    "whole_images": Switch(
        "data",
        {"preprocess.mode": "resize", "preprocess.tile_size": "512", "preprocess.stride": "0", "train.crop": "0",
         "infer.window": "0"},
    ),
    # Windows and views, on the baseline's members.
    "larger_window": Switch(
        "infer", {"infer.window": lambda c: f"{2 * trained_side(c)}"}, {"infer.window": "0"}, "05", "baseline_05"
    ),
    "half_overlap": Switch("infer", {"infer.overlap": "0.5"}, {}, "05", "baseline_05"),
    # With a margin of 0.25, windows must overlap by half so that every pixel lies in some window's centre.
    "center_only": Switch("infer", {"infer.blend": "center", "infer.overlap": "0.5"}, {}, "05", "half_overlap"),
    "flips_tta": Switch("infer", {"infer.tta": "flips"}, {"infer.tta": "none"}, "05", "baseline_05"),
    "free_tta": Switch("infer", {"infer.tta": "free", "infer.overlap": "0.5"}, {}, "05", "half_overlap"),
    "fitted_threshold": Switch("infer", {}, {}, "fitted", "baseline_05", need=ONE_CLASS),
    # Averages of weights, and ensembles.
    "ema": Switch("train", {"train.ema": "0.99"}, {}, "ema", "own last"),
    "swa_annealed": Switch(
        "train", {"train.swa.start": "0.75", "train.swa.every": "0.25", "train.swa.schedule": "anneal"}, {}, "swa",
        "own last",
    ),
    "swa_constant": Switch(
        "train", {"train.swa.start": "0.75", "train.swa.every": "0.25", "train.swa.schedule": "constant"}, {}, "swa",
        "swa_annealed last",
    ),
    "swa_cyclic": Switch(
        "train", {"train.swa.start": "0.75", "train.swa.every": "1", "train.swa.schedule": "cyclic"}, {}, "swa",
        "swa_annealed last",
    ),
    "epoch_ensemble": Switch(
        "train", {"train.checkpoints": "4"}, {}, "05", "baseline", {"infer.checkpoints": "[epochs]"}
    ),
    "resize_ensemble": Switch(
        "train", {"train.scale": "0.75"}, {"train.scale": "1"}, "05", with_baseline=True
    ),
    # The network.
    "classification_head": Switch("train", {"model.classifier": "true"}, {"model.classifier": "false"}),
    "learned_stem": Switch("train", {"model.stem": "down"}),
    "deep_supervision": Switch("train", {"model.deep_supervision": "true"}, {"model.deep_supervision": "false"}),
    # The training.
    "label_smoothing": Switch("train", {"train.loss.label_smoothing": "0.1"}, {"train.loss.label_smoothing": "0"}),
    "dice_loss": Switch(
        "train",
        {"train.loss.terms": lambda c: f"{{{cross_entropy(c)}: 1, dice: 1}}"},
        {"train.loss.terms": lambda c: f"{{{cross_entropy(c)}: 1}}"},
    ),
    "lovasz_end": Switch("train", {"train.loss.then": "{0.7: {lovasz: 1}}"}, {"train.loss.then": "{}"}),
    "soft_edges": Switch("train", {"train.loss.soft_edges": "1"}, {"train.loss.soft_edges": "0"}),
    "foreground_share": Switch(
        "train", {"train.sampling.foreground_share": "0.5"}, {"train.sampling.foreground_share": "0"}, need=BACKGROUND
    ),
    "alike_images": Switch("train", {"train.sampling.balance": "images"}, {"train.sampling.balance": "tiles"}),
    "color": Switch("train", {"augment.color": "1"}, {"augment.color": "0"}),
    "heavy_augmentation": Switch("train", {"augment.preset": "heavy"}, {"augment.preset": "medium"}),
    "copy_paste": Switch("train", {"augment.mix": "copypaste"}, {"augment.mix": "none"}),
    "rotation": Switch("train", {"augment.rotate": "45"}, {"augment.rotate": "0"}),
    "onecycle": Switch("train", {"train.schedule": "onecycle"}, {"train.schedule": "cosine"}),
    "restarts": Switch("train", {"train.schedule": "restarts"}, {"train.schedule": "cosine"}),
    "slower_encoder": Switch("train", {"train.encoder_lr": "0.3"}, {"train.encoder_lr": "1"}),
    "layer_decay": Switch("train", {"train.layer_decay": "0.8"}, {"train.layer_decay": "1"}),
    "smaller_batches": Switch("train", {"train.batch_size": lambda c: f"{max(2, c.train.batch_size // 2)}"}),
    # The YAML's `auto` may choose either of them.
    "fp32": Switch("train", {"train.precision": "fp32"}, need=BF16),
    "bf16": Switch("train", {"train.precision": "bf16"}, against="fp32", need=BF16),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A switch for one setting: options of the training, and `infer` options of the prediction after it."""

    switch: Switch
    trick: str  # `on` or `off`: whether the options turn the trick on or off
    options: Options
    infer: Options
    against: str


class AlreadySet(UserError):
    """The configuration already has the options of a switch."""


def plan(setting: Setting, wanted: list[str]) -> dict[str, Variant]:
    """The variants to run, and those that they are compared with. Prints which switches are skipped, and why."""
    needed = {"baseline", "baseline_05", *wanted}
    needed |= {SWITCHES[name].against.split()[0] for name in wanted} - {"own"}
    variants, as_baseline = {}, {}
    for name in SWITCHES:
        if name in needed:
            try:
                variants[name] = resolve(SWITCHES[name], setting)
            except UserError as error:
                print(f"-- {name} is skipped: {error}", flush=True)
                if isinstance(error, AlreadySet):  # then its score is the baseline's
                    as_baseline[name] = "baseline_05" if SWITCHES[name].kind == "infer" else "baseline"
    return {name: replace(v, against=as_baseline.get(v.against, v.against)) for name, v in variants.items()}


def resolve(switch: Switch, setting: Setting) -> Variant:
    """The variant of a switch. Raises UserError where the setting cannot have it."""
    base = setting.config()
    requirement, is_met = switch.need
    if not is_met(base):
        raise UserError(f"it needs {requirement}")
    on, off, infer = (values_for(base, values) for values in (switch.on, switch.off, switch.infer))
    setting.config({**on, **infer})
    trick, options = "on", on
    if off and setting.changes(off):  # the YAML has the trick, in whatever strength
        trick, options = "off", off
    elif on and not setting.changes(on):
        # Only other weights of the baseline's own training can still be compared.
        if not switch.against.startswith("own") or switch.score == "ema":
            raise AlreadySet("the configuration does it already")
        options = {}
    return Variant(switch, trick, options, infer, switch.against)
