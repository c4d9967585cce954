"""Finds training, test and unlabeled images, and the patterns that match them."""

from __future__ import annotations

import re
from pathlib import Path

from lib.errors import UserError
from lib.propose.folder import Folder, glob_of
from lib.propose.found import Notes, OptionChoice, some
from lib.propose.labels import found as labels
from lib.propose.submission import Wanted


def training_images(stems: dict[str, str], labeled: set[str], test: set[str]) -> tuple[set[str], set[str]]:
    """(training images, those among them without label): whatever lies beside a labeled image, unless asked for."""
    labeled = (labeled & set(stems)) - test
    places = {Path(stems[i]).parent for i in labeled}
    beside = {i for i, name in stems.items() if Path(name).parent in places} - test - labeled
    return labeled | beside, beside


def unlabeled_choices(unnamed: set[str], found: labels.FoundLabels, notes: Notes) -> list[OptionChoice]:
    if not unnamed:
        return []
    what = f"{len(unnamed)} images beside the labeled ones have no label ({some(unnamed, 2)})"
    if found.whole:
        notes.unsure.append(
            f"{what}: they are left to pseudo-labeling; where they hold no object, set missing to empty"
        )
        return [OptionChoice("competition.labels.missing", "unlabeled", what)]
    notes.unsure.append(f"{what}: they are taken for images without object")
    return [OptionChoice("competition.labels.missing", "empty", what)]


def split_choices(
    folder: Folder, stems: dict[str, str], train: set[str], wanted: Wanted, masks: set[str], notes: Notes
) -> list[OptionChoice]:
    """Patterns of the images; one for both where training and test images share a folder, as the sample parts them."""
    test = wanted.ids
    if not train:
        raise UserError(f"{folder.root} holds no labeled image that the sample submission does not ask for")
    names = {split: [stems[i] for i in sorted(ids)] for split, ids in (
        ("train", train), ("test", test), ("unlabeled", set(stems) - train - test)
    )}  # fmt: skip
    # Only a sample or a list tells images apart that one pattern matches.
    parted = wanted.sample or any(choice.key.endswith(".test_list") for choice in wanted.choices)
    together = glob_of(folder.root, sorted(names["train"] + names["test"]), masks) if parted else None
    out = []
    if not test:
        out.append(_hidden(folder, names["train"]))
    for split, own in ((split, own) for split, own in names.items() if own):
        pattern = glob_of(folder.root, own, masks) or (together if split != "unlabeled" else None)
        if pattern:
            why = f"{len(own)} images" + (", parted by the sample submission or list" if pattern == together else "")
            out.append(OptionChoice(f"competition.{split}_images", pattern, why))
            notes.found.append(f"{split} images: {pattern} ({why})")
        elif own and split == "unlabeled":
            notes.unsure.append(f"what {len(own)} more images are for ({some(own, 2)}); they are left out")
        elif own:
            raise UserError(
                f"{folder.root}: no pattern matches the {len(own)} {split} images alone ({some(own, 2)}); put them "
                "into a folder of their own"
            )
    return out


def _hidden(folder: Folder, train: list[str]) -> OptionChoice:
    """Where test images will be that are hidden: where those for training are, as far as names tell."""
    pattern = glob_of(folder.root, train, set()) or ""
    there = re.sub(r"(?i)train(ing)?", "test", pattern) if "[" not in pattern else ""
    there = there if there != pattern else ""
    return OptionChoice("competition.test_images", there, "a guess: hidden until a notebook is scored")
