"""Derives the options of preprocessing, folds, training and inference from measurements, each with its reason."""

from __future__ import annotations

import os

import torch

from lib.config.competition import CompetitionSettings
from lib.propose.found import OptionChoice, choice_if
from lib.propose.pixels.measure import ObjectSizes, PictureSizes

MIN_SIDE = 384  # pixels of the shorter side after shrinking, at least
MIN_OBJECT = 48  # pixels of most objects after shrinking, at least
MIN_THICKNESS = 7  # pixels of the thinnest class after shrinking, at least
MIN_BACKGROUND_KEEP = 0.05  # of the tiles without object
MANY_TILES = 20_000  # with more tiles than this, they need not overlap
WHOLE_ON_GPU, WHOLE_ON_CPU = 640, 256  # pixels of an image's longer side up to which a network may see the whole image
UNCOMPRESSED_GIB = 4  # up to this size, tiles are stored uncompressed
FILLED = 0.3  # a larger share of object pixels means that regions fill the image
SPARSE = 0.03  # with a smaller share of object pixels, tiles with objects are sampled more often


def scale_of(sizes: PictureSizes, objects: ObjectSizes, answer: int) -> tuple[float, str]:
    """The factor by which images are shrunk, a power of one half, and the reason.

    `answer`: the shorter side of the answer's masks in pixels; 0 where they are as large as the image.

    >>> scale_of(PictureSizes(9, [2336], [3504], 3, ()), ObjectSizes(2000, 16, 0.1), 0)[0]
    0.5
    """
    scale = 1.0
    while (
        sizes.short * scale / 2 >= max(MIN_SIDE, answer)
        and objects.thickness * scale / 2 >= MIN_THICKNESS
        and objects.side * scale / 2 >= MIN_OBJECT
    ):
        scale /= 2
    if objects.placed and sizes.long * scale > whole_side():
        while sizes.long * scale > whole_side() and objects.thickness * scale / 2 >= MIN_THICKNESS:
            scale /= 2
        return scale, "the place of an object tells its class, so a network must see most of the image"
    if scale == 1:
        if sizes.short / 2 < max(MIN_SIDE, answer):
            return scale, "the images are not large"
        return scale, f"objects are thin or small: {objects.thickness:.0f} and {objects.side:.0f} pixels"
    return scale, f"objects are still {objects.thickness * scale:.0f} pixels thick, and a window shows more"


def whole_side() -> int:
    """The longer side of an image, in pixels, up to which this machine can train on whole images."""
    return WHOLE_ON_GPU if torch.cuda.is_available() else WHOLE_ON_CPU


def windows(sizes: PictureSizes, objects: ObjectSizes, scale: float, coloured: bool) -> list[OptionChoice]:
    """Sizes of crops, tiles and windows: multiples of 32, no larger than most images.

    `coloured`: networks see red, green and blue. Tiles of other channels are arrays.
    """
    largest = -(-int(sizes.long * scale) // 32) * 32
    small = 1.5 * objects.side * scale <= 128  # an object and its surroundings
    why = f"most objects have {objects.side * scale:.0f} pixels at this scale"
    crop = min(largest, 128 if small else 256)
    if objects.placed and largest <= whole_side():
        crop, why = largest, "the whole image: the place of an object tells its class"
    tile, window = min(largest, crop * 3 // 2), min(max(largest, crop), 2 * crop)
    stride = tile if tile >= largest or sizes.tiles(scale, tile) > MANY_TILES else tile * 3 // 4
    whole = window >= max(*sizes.heights, *sizes.widths) * scale
    gib = sizes.tiles(scale, stride) * tile**2 * 3 / 2**30
    return [
        OptionChoice(
            "preprocess.tile_size", tile, "room to crop at random" if tile > crop else "as large as the images"
        ),
        OptionChoice(
            "preprocess.stride",
            stride,
            "tiles do not overlap" if stride == tile else "an object that one tile cuts is whole in the next",
        ),
        *choice_if(
            coloured and gib <= UNCOMPRESSED_GIB,
            "preprocess.image_format",
            "bmp",
            f"{gib:.1g} GiB if all tiles are kept; read faster than png",
        ),
        OptionChoice("train.crop", crop, why),
        OptionChoice("infer.window", window, "more context than in training" if window > crop else "whole images"),
        OptionChoice(
            "infer.overlap",
            0.0 if whole else 0.25,
            "one window shows the whole image" if whole else "two windows see each window's edge",
        ),
    ]


def background_keep(object_share: float) -> OptionChoice:
    """Keep about as many tiles without object as with one. `object_share`: of all tiles, those with an object.

    >>> [background_keep(share).value for share in (1.0, 0.6, 0.2, 0.01)]
    [1.0, 1.0, 0.25, 0.05]
    """
    reason = f"{object_share:.0%} of the tiles hold an object: "
    if object_share >= 0.5:
        return OptionChoice("preprocess.background_keep", 1.0, f"{reason}all others are kept")
    keep = round(max(MIN_BACKGROUND_KEEP, object_share / (1 - object_share)), 2)
    return OptionChoice("preprocess.background_keep", keep, f"{reason}about as many others are kept")


def folds(groups: int, images: int) -> list[OptionChoice]:
    """As many folds as groups and machine allow; none where there is only one group, which cannot be validated."""
    if groups < 2:
        why = f"{images} labeled image(s) in one group cannot be validated, so there is no out-of-fold score"
        return [OptionChoice("train.folds", ["all"], why), OptionChoice("infer.folds", "all", why)]
    k = min(groups, 3 if images < 100 or not torch.cuda.is_available() else 5)
    return [OptionChoice("folds.k", k, f"{groups} groups, {images} images")]


def training(
    settings: CompetitionSettings, sizes: PictureSizes, objects: ObjectSizes, crop: int, coloured: bool
) -> list[OptionChoice]:
    """Network, batch, time and loss, for the machine that this runs on.

    `coloured`: networks see red, green and blue. Frozen first blocks would never learn other channels.
    """
    gpu = torch.cuda.is_available()
    fills = len(settings.classes) > 1 and objects.share > FILLED
    why = "classes may overlap" if settings.multilabel else "classes exclude one another"
    return [
        *(_fpn(freeze=coloured and not gpu) if fills else _unet()),
        *(_on_gpu() if gpu else _on_cpu(crop)),
        OptionChoice("train.lr", 1.0e-3, "usual for AdamW"),
        OptionChoice("train.evaluations", 0, "members are scored at their end"),
        *_sampling(sizes, objects),
        OptionChoice(
            "train.loss.terms",
            {"bce" if settings.binary else "ce": 1, "dice": 1},
            "one class" if len(settings.classes) == 1 else why,
        ),
        OptionChoice("pseudo.rounds", 0, "1 also trains on the test images, and doubles the time"),
    ]


def _fpn(freeze: bool) -> list[OptionChoice]:
    pyramid = {"decoder_pyramid_channels": 96, "decoder_segmentation_channels": 64}
    start = [f"encoder.model.{part}" for part in ("conv_stem", "bn1", "blocks.0", "blocks.1")]
    return [
        OptionChoice("model.architecture", "fpn", "regions that fill the image"),
        OptionChoice("model.options", pyramid, "half the usual channels or less: more steps in the same time"),
        *choice_if(freeze, "train.frozen", start, "the first blocks keep ImageNet's weights: faster steps"),
        OptionChoice("train.swa.start", 1, "off: on such images it helped in about half of the trials"),
    ]


def _unet() -> list[OptionChoice]:
    return [
        OptionChoice("model.architecture", "unet", "keeps fine outlines"),
        OptionChoice("model.decoder_channels", [96, 64, 48, 32, 16], "half the usual: more steps in the same time"),
        OptionChoice("train.swa.start", 1, "off: in trials the last weights scored as high as their average"),
    ]


def _on_gpu() -> list[OptionChoice]:
    return [
        OptionChoice("train.batch_size", 16, "0 finds the largest that fits"),
        OptionChoice("train.epochs", 40, "a guess"),
    ]


def _on_cpu(crop: int) -> list[OptionChoice]:
    return [
        OptionChoice("train.batch_size", 8 if crop <= 128 else 4, "without GPU, more steps beat larger batches"),
        OptionChoice("train.member_limit", 300, f"seconds per member, on {os.cpu_count()} cores without GPU"),
    ]


def _sampling(sizes: PictureSizes, objects: ObjectSizes) -> list[OptionChoice]:
    few = f"only {objects.share:.1%} of the pixels are object"
    return [
        *choice_if(objects.share < SPARSE, "train.sampling.foreground_share", 0.5, few),
        *choice_if(sizes.uneven, "train.sampling.balance", "images", "small images count as much as large ones"),
    ]
