"""The tricks that ablation.py turns on and off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.trials import Values, cross_entropy, trained_side
from lib.config import Config
from lib.system.device import pick_device
from lib.system.precision import candidates

Need = tuple[str, Callable[[Config], bool]]


@dataclass(frozen=True)
class Switch:
    """A trick: options that turn it on and, where a YAML may have it on already, those that turn it off."""

    kind: str  # data, train or infer
    on: Values
    off: Values = field(default_factory=dict)
    score: str = "swa"  # which score: weights (swa falls back to last), 05 (of `infer`), or fitted (its threshold)
    against: str = "baseline"  # a switch or `own`, perhaps with weights: `own last`
    infer: Values = field(default_factory=dict)  # after the training, predict as 05 does with these options
    with_baseline: bool = False  # … and average with the baseline's member
    need: Need = ("", lambda c: True)


ONE_CLASS: Need = ("one class", lambda c: len(c.competition.classes) == 1)
BACKGROUND: Need = ("a background", lambda c: c.competition.background)
BF16: Need = ("a machine with bf16", lambda c: "bf16" in candidates(pick_device(c.train.device)))


SWITCHES = {
    # Always run; the two that others are compared with.
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
    # With a margin of .25, half overlapping windows are what covers every pixel by some window's centre.
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
    # The YAML's `auto` may take either of them.
    "fp32": Switch("train", {"train.precision": "fp32"}, need=BF16),
    "bf16": Switch("train", {"train.precision": "bf16"}, against="fp32", need=BF16),
}  # fmt: skip
