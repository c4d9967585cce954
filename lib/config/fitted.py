"""Ranges of channels that 01 fitted: kept in the workspace, and filled into the configuration wherever it is loaded."""

from __future__ import annotations

from pathlib import Path

from lib.artifacts.read import read_json
from lib.config.channels import Channel
from lib.config.config import Config
from lib.config.pixels import FITTED, Pixels
from lib.files import write_json

SCALING = "scaling.json"  # in the workspace


def channels_to_fit(pixels: Pixels) -> list[Channel]:
    """The channels that networks see whose range 01 fits on the training images."""
    return [channel for channel in pixels.inputs if pixels.scaling_of(channel) in FITTED]


def with_fitted(config: Config, workspace: Path) -> Config:
    """The configuration with the ranges that a workspace keeps, of channels that have not changed since.

    Raises UserError where the file is damaged.
    """
    pixels = config.competition.pixels
    known = read_json(workspace / SCALING, {}) if channels_to_fit(pixels) else {}
    channels = [_filled(channel, known.get(channel.name), pixels) for channel in pixels.channels]
    return with_channels(config, channels) if known else config


def save_fitted(config: Config, workspace: Path) -> None:
    """Write the fitted ranges of a configuration."""
    pixels = config.competition.pixels
    record = {
        channel.name: {"range": channel.fitted, "bits": channel.fitted_bits, "of": _source_of(channel, pixels)}
        for channel in channels_to_fit(pixels)
    }
    write_json(workspace / SCALING, record)


def with_channels(config: Config, channels: list[Channel]) -> Config:
    """The configuration with other channels."""
    pixels = config.competition.pixels.model_copy(update={"channels": tuple(channels)})
    return config.model_copy(update={"competition": config.competition.model_copy(update={"pixels": pixels})})


def _filled(channel: Channel, known: dict | None, pixels: Pixels) -> Channel:
    if known is None or known["of"] != _source_of(channel, pixels):
        return channel
    return channel.model_copy(update={"fitted": tuple(known["range"]), "fitted_bits": known["bits"]})


def _source_of(channel: Channel, pixels: Pixels) -> dict[str, object]:
    """What a channel's values are read from, and how its range is found."""
    about = channel.model_dump(mode="json", exclude={"fitted", "fitted_bits", "range", "input"})
    return {**about, "scaling": pixels.scaling_of(channel)}
