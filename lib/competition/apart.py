"""Keeps the workspace apart from the images: what stages write is never taken for images, and images are never lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePath

from lib.config.competition import CompetitionSettings
from lib.errors import UserError, reading, shown
from lib.organiser_text import alternatives

OWN_FOLDERS = (
    "tiles", "leaks", "runs", "pseudo", "clean", "oof", "submissions", "answers", "choices", "locks", "manifests",
    "report", "look", "spool",
)  # fmt: skip
"""Folders of a workspace whose files stages replace and delete."""


def check_workspace(workspace: Path, settings: CompetitionSettings) -> None:
    """Raises UserError where a glob of images reaches into the workspace, or images lie in one of its own folders."""
    check_out_of_reach("workspace", workspace, settings)
    place = Path(os.path.realpath(workspace))
    for key, folder, _ in _globs(settings):
        root = Path(os.path.realpath(folder))
        inside = root.relative_to(place).parts if root.is_relative_to(place) else ()
        if inside and inside[0] in OWN_FOLDERS:
            raise UserError(
                f"{key}: the images lie in {place / inside[0]}, which stages replace; set workspace ({workspace}) to "
                "another folder, or move the images"
            )


def check_out_of_reach(option: str, target: Path, settings: CompetitionSettings) -> None:
    """Raises UserError where a glob of images reaches into the folder `target`, which an option names."""
    place = Path(os.path.realpath(target))  # resolve() raises where links lead in a circle
    for key, folder, pattern in _globs(settings):
        root = Path(os.path.realpath(folder))
        with reading(f"{key}: {shown(pattern)}", "not a pattern of files", "write one such as images/*.png"):
            reached = place.is_relative_to(root) and reaches(pattern, place.relative_to(root).parts)
        if reached:
            raise UserError(
                f"{option}: {target} lies where {key} ({pattern}) looks for images, so that what is written there "
                f"would be taken for images; give a folder that is not in {folder}"
            )


def _globs(settings: CompetitionSettings) -> Iterator[tuple[str, str, str]]:
    """(option, folder, glob) of all images."""
    for name in ("train_images", "test_images", "unlabeled_images"):
        if settings.root:  # a package has none
            yield f"competition.{name}", settings.root, getattr(settings, name)
    for source in settings.external:
        yield f"competition.external {source.name}", source.root, source.images


def reaches(pattern: str, folder: tuple[str, ...]) -> bool:
    """Whether a glob may match files in a folder or below it. `folder`: its path from where the glob starts.

    >>> reaches("train/*", ("train",)), reaches("train/*", ("work",)), reaches("**/*.png", ("work", "tiles"))
    (True, False, True)
    >>> reaches("{a,b}/*/*", ("b",)), reaches("train/*", ("train", "work")), reaches("*", ())
    (True, False, True)
    """
    return any(_reaches(PurePath(one).parts, folder) for one in alternatives(pattern))


def _reaches(parts: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    for part, name in zip(parts, folder, strict=False):
        if part == "**":
            return True
        if not fnmatch(name, part):
            return False
    return len(parts) > len(folder)
