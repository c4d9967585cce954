"""Derives options from what was found, each with its reason."""

from __future__ import annotations

import os

import torch

from lib.config.competition import CompetitionSettings
from lib.propose.found import OptionChoice, choice_if
from lib.propose.pixels.measure import ObjectSizes, PictureSizes

SEEN_SIDE = 384  # pixels that the shorter side keeps when images are shrunk
SEEN_OBJECT = 48  # pixels that most objects keep
SEEN_THICKNESS = 7  # pixels that the thinnest class keeps
LEAST_KEPT = 0.05  # of the tiles without object
MANY_TILES = 20_000  # tiles beyond which they need not overlap
WHOLE_ON_GPU, WHOLE_ON_CPU = 640, 256  # pixels of an image's longer side up to which a network sees all of it at once
ROOM = 4  # GiB of tiles up to which they are stored uncompressed
FILLED, SPARSE = 0.3, 0.03  # share of object pixels from which, and up to which, sampling differs


def scale_of(sizes: PictureSizes, objects: ObjectSizes, answer: int) -> tuple[float, str]:
    """(power of one half, why). `answer`: the shorter side of the answers, 0 where it is the image's.

    >>> scale_of(PictureSizes(9, [2336], [3504], 3, ()), ObjectSizes(2000, 16, 0.1), 0)[0]
    0.5
    """
    scale = 1.0
    while (
        sizes.short * scale / 2 >= max(SEEN_SIDE, answer)
        and objects.thickness * scale / 2 >= SEEN_THICKNESS
        and objects.side * scale / 2 >= SEEN_OBJECT
    ):
        scale /= 2
    if objects.placed and sizes.long * scale > whole_side():
        while sizes.long * scale > whole_side() and objects.thickness * scale / 2 >= SEEN_THICKNESS:
            scale /= 2
        return scale, "the place of an object tells its class, so that a network must see most of the image"
    if scale == 1:
        if sizes.short / 2 < max(SEEN_SIDE, answer):
            return scale, "the images are not large"
        return scale, f"objects are thin or small: {objects.thickness:.0f} and {objects.side:.0f} pixels"
    return scale, f"objects keep {objects.thickness * scale:.0f} pixels of thickness, and a window shows more"


def whole_side() -> int:
    """The longer side of an image, in pixels, up to which a network can be trained on all of it here."""
    return WHOLE_ON_GPU if torch.cuda.is_available() else WHOLE_ON_CPU


def windows(sizes: PictureSizes, objects: ObjectSizes, scale: float) -> list[OptionChoice]:
    """Sizes of crops, tiles and windows: multiples of 32, no larger than most images."""
    most = -(-int(sizes.long * scale) // 32) * 32
    small = 1.5 * objects.side * scale <= 128  # an object and its surroundings
    why = f"most objects have {objects.side * scale:.0f} pixels at this scale"
    crop = min(most, 128 if small else 256)
    if objects.placed and most <= whole_side():
        crop, why = most, "the whole image: the place of an object tells its class"
    tile, window = min(most, crop * 3 // 2), min(max(most, crop), 2 * crop)
    stride = tile if tile >= most or sizes.tiles(scale, tile) > MANY_TILES else tile * 3 // 4
    whole = window >= max(*sizes.heights, *sizes.widths) * scale
    gib = sizes.tiles(scale, stride) * tile**2 * 3 / 2**30
    return [
        OptionChoice(
            "preprocess.tile_size", tile, "room to crop at random" if tile > crop else "as large as the images"
        ),
        OptionChoice(
            "preprocess.stride", stride, "side by side" if stride == tile else "what one tile cuts is whole in the next"
        ),
        *choice_if(
            gib <= ROOM, "preprocess.image_format", "bmp", f"{gib:.1g} GiB if all are kept; read faster than png"
        ),
        OptionChoice("train.crop", crop, why),
        OptionChoice("infer.window", window, "more to see than in training" if window > crop else "whole images"),
        OptionChoice(
            "infer.overlap", 0.0 if whole else 0.25, "one window shows all" if whole else "rims are seen twice"
        ),
    ]


def background_keep(held: float) -> OptionChoice:
    """About as many tiles without object as with one. `held`: the share of all tiles that holds one.

    >>> [background_keep(held).value for held in (1.0, 0.6, 0.2, 0.01)]
    [1.0, 1.0, 0.25, 0.05]
    """
    if held >= 0.5:
        return OptionChoice(
            "preprocess.background_keep", 1.0, f"{held:.0%} of the tiles hold an object: no room to drop"
        )
    keep = round(max(LEAST_KEPT, held / (1 - held)), 2)
    return OptionChoice(
        "preprocess.background_keep", keep, f"{held:.0%} of the tiles hold an object: about as many others"
    )


def folds(groups: int, images: int) -> list[OptionChoice]:
    """As many folds as groups and machine allow; none where there is only one group, which cannot be validated."""
    if groups < 2:
        why = f"{images} labeled image(s) in one group cannot be validated: no score will tell what is better"
        return [OptionChoice("train.folds", ["all"], why), OptionChoice("infer.folds", "all", why)]
    k = min(groups, 3 if images < 100 or not torch.cuda.is_available() else 5)
    return [OptionChoice("folds.k", k, f"{groups} groups, {images} images")]


def training(settings: CompetitionSettings, sizes: PictureSizes, objects: ObjectSizes, crop: int) -> list[OptionChoice]:
    """Network, batch, time and loss, for the machine that this runs on."""
    gpu = torch.cuda.is_available()
    fills = len(settings.classes) > 1 and objects.share > FILLED
    why = "classes may overlap" if settings.multilabel else "classes exclude one another"
    return [
        *(_fpn(gpu) if fills else _unet()),
        *(_on_gpu() if gpu else _on_cpu(crop)),
        OptionChoice("train.lr", 1.0e-3, "usual for AdamW"),
        OptionChoice("train.evaluations", 0, "members are scored at their end"),
        *_sampling(sizes, objects),
        OptionChoice(
            "train.loss.terms",
            {"bce" if settings.binary else "ce": 1, "dice": 1},
            "one class" if len(settings.classes) == 1 else why,
        ),
        OptionChoice("pseudo.rounds", 0, "1 learns from the test images too, and doubles the time"),
    ]


def _fpn(gpu: bool) -> list[OptionChoice]:
    pyramid = {"decoder_pyramid_channels": 96, "decoder_segmentation_channels": 64}
    start = [f"encoder.model.{part}" for part in ("conv_stem", "bn1", "blocks.0", "blocks.1")]
    return [
        OptionChoice("model.architecture", "fpn", "regions that fill the image"),
        OptionChoice("model.options", pyramid, "light"),
        *choice_if(not gpu, "train.frozen", start, "edges and colours as ImageNet has them: faster steps"),
        OptionChoice("train.swa.start", 1, "off: it helped such images no more often than not"),
    ]


def _unet() -> list[OptionChoice]:
    return [
        OptionChoice("model.architecture", "unet", "keeps fine outlines"),
        OptionChoice("model.decoder_channels", [96, 64, 48, 32, 16], "half the usual: more steps in the same time"),
        OptionChoice("train.swa.start", 1, "off: the last weights were as good as their average, or better"),
    ]


def _on_gpu() -> list[OptionChoice]:
    return [
        OptionChoice("train.batch_size", 16, "0 finds the largest that fits"),
        OptionChoice("train.epochs", 40, "a guess"),
    ]


def _on_cpu(crop: int) -> list[OptionChoice]:
    return [
        OptionChoice("train.batch_size", 8 if crop <= 128 else 4, "without GPU more steps beat larger ones"),
        OptionChoice("train.member_limit", 300, f"seconds per member, on {os.cpu_count()} cores without GPU"),
    ]


def _sampling(sizes: PictureSizes, objects: ObjectSizes) -> list[OptionChoice]:
    chosen = []
    if objects.share < SPARSE:
        chosen.append(
            OptionChoice("train.sampling.foreground_share", 0.5, f"only {objects.share:.1%} of the pixels are object")
        )
    if sizes.uneven:
        chosen.append(OptionChoice("train.sampling.balance", "images", "large images do not drown small ones"))
    return chosen
