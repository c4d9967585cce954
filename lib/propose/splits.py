"""Finds training, test and unlabeled images, and the patterns that match them."""

from __future__ import annotations

import re
from pathlib import Path

from lib.errors import UserError
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, abbreviated
from lib.propose.globs import glob_of
from lib.propose.labels import found as labels
from lib.propose.submission import Wanted


def training_images(paths: dict[str, str], labeled: set[str], test: set[str]) -> tuple[set[str], set[str]]:
    """(all training images, those of them without a label).

    Every image in a folder with a labeled image is a training image, unless it is a test image. `paths`: by image id.
    """
    labeled = (labeled & set(paths)) - test
    depth = _shared_depth([Path(paths[i]).parent.parts for i in labeled])
    folders = {Path(paths[i]).parent.parts[:depth] for i in labeled}
    unlabeled = {i for i, name in paths.items() if Path(name).parent.parts[:depth] in folders} - test - labeled
    return labeled | unlabeled, unlabeled


def _shared_depth(parents: list[tuple[str, ...]]) -> int | None:
    """How many folders from the root on images share: all, unless each image has folders of its own (None: all).

    >>> _shared_depth([("train", "a"), ("train", "b"), ("train", "c")]), _shared_depth([("train",), ("train",)])
    (1, None)
    """
    if len(set(parents)) < len(parents):
        return None
    depths = range(min(map(len, parents), default=0), 0, -1)
    return next((depth for depth in depths if 2 * len({p[:depth] for p in parents}) <= len(parents)), None)


def unlabeled_choices(unlabeled: set[str], found: labels.FoundLabels, notes: Notes) -> list[OptionChoice]:
    """The choice of `competition.labels.missing` for training images without a label."""
    if not unlabeled:
        return []
    fact = f"{len(unlabeled)} images beside the labeled ones have no label ({abbreviated(unlabeled, 2)})"
    if found.whole:
        notes.unsure.append(
            f"{fact}: they are left to pseudo-labeling; if they hold no object, set labels.missing to empty"
        )
        return [OptionChoice("competition.labels.missing", "unlabeled", fact)]
    notes.unsure.append(f"{fact}: they are taken for images without object")
    return [OptionChoice("competition.labels.missing", "empty", fact)]


def split_choices(
    folder: Folder, paths: dict[str, str], train: set[str], wanted: Wanted, masks: set[str], notes: Notes
) -> list[OptionChoice]:
    """Patterns of training, test and unlabeled images.

    One pattern serves for both where training and test images share a folder and the sample tells them apart.
    `paths`: by image id. `masks`: files that the patterns may match too. Raises UserError.
    """
    test = wanted.ids
    if not train:
        raise UserError(
            f"{folder.root} holds no training image: the sample submission asks for every image that has a label; add "
            "the training images and their labels"
        )
    splits = {"train": train, "test": test, "unlabeled": set(paths) - train - test}
    # Only a sample or a list tells images apart that one pattern matches.
    separated = wanted.sample or any(choice.key.endswith(".test_list") for choice in wanted.choices)
    both = glob_of(folder.root, sorted(paths[i] for i in train | test), masks) if separated else None
    out = []
    if not test:
        out.append(_hidden(folder, [paths[i] for i in sorted(train)]))
    for split, names in ((split, [paths[i] for i in sorted(ids)]) for split, ids in splits.items() if ids):
        pattern = glob_of(folder.root, names, masks) or (both if split != "unlabeled" else None)
        if pattern:
            why = f"{len(names)} images" + (
                ", told apart by the sample submission or a list" if pattern == both else ""
            )
            out.append(OptionChoice(f"competition.{split}_images", pattern, why))
            notes.found.append(f"{split} images: {pattern} ({why})")
        elif split == "unlabeled":
            notes.unsure.append(f"what {len(names)} more images are for ({abbreviated(names, 2)}); they are left out")
        else:
            raise UserError(
                f"{folder.root}: no pattern matches the {len(names)} {split} images and no others "
                f"({abbreviated(names, 2)}); put them into a folder of their own"
            )
    return out


def _hidden(folder: Folder, train: list[str]) -> OptionChoice:
    """The likely place of hidden test images: the pattern of the training images with `test` for `train`."""
    train_pattern = glob_of(folder.root, train, set()) or ""
    pattern = re.sub(r"(?i)train(ing)?", "test", train_pattern) if "[" not in train_pattern else ""
    if pattern == train_pattern:
        pattern = ""
    return OptionChoice("competition.test_images", pattern, "a guess: hidden until a notebook is scored")
