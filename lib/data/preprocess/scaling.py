"""Fits the ranges of channels on the training images, before any of them is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.competition.dataset import ImageInfo
from lib.config.channels import Channel
from lib.config.fitted import channels_to_fit, save_fitted, with_channels
from lib.config.pixels import Pixels
from lib.errors import UserError
from lib.imaging.channels.files import channel_path
from lib.imaging.channels.planes import is_deep
from lib.imaging.channels.ranges import WHOLE_8_BITS, evenly_thinned, range_of
from lib.imaging.channels.reader import sampled_values
from lib.session import Session
from lib.system.parallel import parallel

FITTED_VALUES = 2**20  # of each channel, over all images

Sample = tuple[dict[str, np.ndarray], dict[str, str]]


def fit_scaling(session: Session, images: Sequence[ImageInfo]) -> tuple[Session, list[Path]]:
    """The session with the ranges of its channels, fitted on its training images and written to the workspace.

    Also returns the file; none where no channel needs it. Raises UserError where a channel was measured nowhere, or
    where files have different depths.
    """
    config, pixels = session.config, session.config.competition.pixels
    channels = channels_to_fit(pixels)
    paths = [image.path for image in images if image.split == "train"]
    if not channels or not paths:
        return session, []
    most = max(1, FITTED_VALUES // len(paths))
    samples: list[Sample] = parallel(
        sample_image, [(path, pixels, most) for path in paths], config.jobs, "01 fit", "image"
    )
    fitted = {channel.name: fitted_channel(channel, pixels, paths, samples) for channel in channels}
    config = with_channels(config, [fitted.get(channel.name, channel) for channel in pixels.channels])
    save_fitted(config, session.workspace.root)
    return session.with_config(config), [session.workspace.scaling]


def sample_image(path: Path, pixels: Pixels, most: int) -> Sample:
    """Up to `most` values of each channel of an image, and the types of its files, by the channel's name."""
    unfitted = [channel.model_copy(update={"fitted": (), "fitted_bits": 0}) for channel in pixels.channels]
    values, depths = sampled_values(path, pixels.model_copy(update={"channels": tuple(unfitted), "slices": ()}))
    return {name: evenly_thinned(one, most) for name, one in values.items()}, depths


def fitted_channel(channel: Channel, pixels: Pixels, paths: Sequence[Path], samples: Sequence[Sample]) -> Channel:
    """A channel with its range, from the samples of all images, in their order."""
    deep = [is_deep(depths[channel.name]) for _, depths in samples]
    where = f"competition.pixels.channels {channel.name}"
    if any(deep) and not all(deep):
        one, other = (channel_path(channel, paths[deep.index(kind)], 0, pixels) for kind in (False, True))
        raise UserError(
            f"{where}: {one} has 8 bits a value and {other} has more, so that one range cannot fit both; convert them "
            "to one depth, or set the channel's scaling to image or type"
        )
    scaling, bits = pixels.scaling_of(channel), 16 if all(deep) else 8
    if bits == 8 and scaling == "quantiles":
        return channel.model_copy(update={"fitted": WHOLE_8_BITS, "fitted_bits": 8})
    try:
        limits = range_of(np.concatenate([values[channel.name] for values, _ in samples]), scaling)
    except ValueError:
        raise UserError(
            f"{where}: it was measured in no sampled pixel of the {len(paths)} training images; check "
            "competition.pixels.nodata and the channel's file, band or formula"
        ) from None
    return channel.model_copy(update={"fitted": limits, "fitted_bits": bits})
