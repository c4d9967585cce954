"""Which files an image is made of, where channels lie in files and slices of their own."""

from __future__ import annotations

from pathlib import Path

from lib.config.channels import Channel
from lib.config.pixels import Pixels
from lib.digests import files_inside
from lib.errors import UserError
from lib.imaging.channels.stack import slice_at
from lib.imaging.readers.registry import file_and_slice, stem_of, suffix_of


def files_of(path: Path, pixels: Pixels) -> list[Path]:
    """All files of the image whose own one is `path`; of a folder that counts as one, the files in it.

    Raises UserError where that is not named as the first channel's file is.
    """
    images = planes_of(path, pixels) if pixels.files else [path]
    if pixels.channels:
        read = [channel for channel in pixels.channels if not channel.formula]
        images = [channel_path(channel, path, offset, pixels) for offset in pixels.slices or (0,) for channel in read]
    files = list(dict.fromkeys(file_and_slice(image)[0] for image in images))
    return [one for file in files for one in (files_inside(file) if file.is_dir() else [file])]


def planes_of(path: Path, pixels: Pixels) -> list[Path]:
    """The files of red, green and blue, by `pixels.files`."""
    first = pixels.files[0]
    if not path.stem.endswith(first):
        raise UserError(f"{path} does not end in {first}, the first of competition.pixels.files; correct the globs")
    return [path.with_name(path.stem.removesuffix(first) + end + path.suffix) for end in pixels.files]


def channel_path(channel: Channel, path: Path, offset: int, pixels: Pixels) -> Path:
    """The image, or slice of a volume, that a channel is read from, `offset` slices after the image of `path`."""
    own = slice_at(path, offset + channel.slice, pixels)
    if not channel.file:
        return own
    file, number = file_and_slice(own)
    stem = stem_of(file)
    suffix = file.name.removeprefix(stem)
    if "->" in channel.file:
        found = _replaced(channel, file)
    elif "/" in channel.file or "{" in channel.file:
        found = file.parent / channel.file.replace("{stem}", stem)
        found = found if suffix_of(found) else found.with_name(found.name + suffix)
    else:
        if not stem.endswith(pixels.ending):
            raise UserError(
                f"{file} does not end in {pixels.ending}, the first file of competition.pixels.channels; correct the "
                "globs of images, or give paths such as ../nir/{stem}.png"
            )
        name = stem.removesuffix(pixels.ending) + channel.file
        found = file.with_name(name if suffix_of(name) else name + suffix)
    if not found.exists():
        raise UserError(
            f"{path} lacks the channel {channel.name}: there is no image {found}; restore it, or correct "
            "competition.pixels.channels"
        )
    return found if number is None else found / own.name


def _replaced(channel: Channel, path: Path) -> Path:
    """The path with another text in its name, and in as many of its folders as lead to a file; at first in none."""
    old, new = (text.strip() for text in channel.file.split("->"))
    parts = list(path.parts)
    tries = []
    for first in range(len(parts) - 1, -1, -1):
        if old in parts[first]:
            parts[first] = parts[first].replace(old, new)
            tries.append(Path(*parts))
            if tries[-1].exists():
                return tries[-1]
    if not tries:
        raise UserError(
            f"{path} does not hold {old!r}, which the file of the channel {channel.name} replaces ({channel.file}); "
            "correct competition.pixels.channels"
        )
    return tries[0]
