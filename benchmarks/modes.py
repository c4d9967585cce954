"""The configurations that proxy.py ranks, and the modes that train them more cheaply."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.settings import Options, Values, cross_entropy, trained_side
from lib.config import Config


def other_architecture(config: Config) -> str:
    """FPN for a YAML with a U-Net, and a U-Net for any other."""
    return "fpn" if config.model.architecture.startswith("unet") else "unet"


def larger_crop(config: Config) -> str:
    """The crop, larger by a half, up to the size of the tile. The YAML's crop where that is the whole tile already."""
    larger = min(config.preprocess.tile_size, trained_side(config) * 3 // 2)
    return f"{larger if larger > trained_side(config) else config.train.crop}"


CONFIGURATIONS: dict[str, Values] = {
    "as_configured": {},
    "lr_low": {"train.lr": "1e-4"},
    "lr_high": {"train.lr": "5e-3"},
    "no_augmentation": {"augment.preset": "none"},
    "heavy_augmentation": {"augment.preset": "heavy"},
    "cross_entropy_only": {"train.loss.terms": lambda c: f"{{{cross_entropy(c)}: 1}}"},
    "untrained_encoder": {"model.weights": "none", "train.frozen": "[]"},
    "smaller_crop": {"train.crop": lambda c: f"{trained_side(c) // 2}"},
    "larger_crop": {"train.crop": larger_crop},
    "encoder_lite1": {"model.encoder": "tu-tf_efficientnet_lite1"},
    "encoder_lite2": {"model.encoder": "tu-tf_efficientnet_lite2"},
    "other_architecture": {
        "model.architecture": other_architecture, "model.options": "{}", "model.decoder_channels": "[]",
    },
    "averaging": {  # on if the YAML has it off, and off if the YAML has it on
        "train.swa.start": lambda c: "1" if c.train.swa.start < 1 else "0.75",
        "train.swa.schedule": "anneal", "train.swa.every": "0.25",
    },
    "batch_of_16": {"train.batch_size": "16"},
    "sgd": {"train.optimizer": "sgd", "train.lr": "0.02"},
}  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """A way to train a configuration more cheaply. `share`: of the full mode's seconds."""

    options: Options = field(default_factory=dict)
    share: float = 1.0
    first_fold: bool = False


MODES = {
    "full": Mode(),
    "one_fold": Mode(first_fold=True),
    "short": Mode(share=0.25),
    "quarter_of_tiles": Mode({"train.sampling.fraction": "0.25"}, 0.25),  # as many epochs as the full mode
    "half_scale": Mode({"train.scale": "0.5"}, 0.35),
    "light_encoder": Mode(  # no package has its weights, so nothing may be frozen
        {"model.encoder": "tu-mobilenetv3_small_050", "model.weights": "none", "train.frozen": "[]"}, 0.5
    ),
    "learned_stem": Mode({"model.stem": "down"}, 0.5),
}
