"""Stage 2's leaks: what each one changes, written as a table and drawn as pairs of thumbnails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.dataset import HOME
from lib.config.competition import Pixels
from lib.data.leaks.find import find_leaks
from lib.files import remove_folder, write_json, write_table
from lib.imaging.draw import as_picture
from lib.imaging.reader import open_image
from lib.imaging.save import save_image
from lib.session import Session

MAX_DRAWN = 200  # leaks that are printed and drawn; leaks.csv lists all
LEAK_COLUMNS = ["a", "b", "kind", "agreement", "what", "picture"]
PAIR_SIDE = 512  # longest side of each thumbnail of a pair, pixels


@dataclass(frozen=True)
class Roles:
    """What the images of the leak check are used for.

    `group_of`: image id → group, of the competition's training images, which are in folds. `external`: ids of images
    that are trained on, but never validated on. All others are only predicted.
    """

    group_of: dict[str, str]
    external: frozenset[str]

    def effect(self, a: str, b: str) -> str | None:
        """What a leak between two images means for the folds; None if neither of them has to change.

        `b` is the external image, if one of both is.
        """
        if a in self.external or (a in self.group_of and self.group_of[a] == self.group_of.get(b)):
            return None
        if a in self.group_of and b in self.group_of:
            return "merged into one group"
        if a in self.group_of and b in self.external:
            return f"{b} is not trained on where {a} is validated on"
        return "not both training images: only reported"

    def both_trained_on(self, a: str, b: str) -> bool:
        return a in self.group_of and (b in self.group_of or b in self.external)


def report_leaks(session: Session, group_of: dict[str, str]) -> list[tuple[str, str]]:
    """Find leaks among all images; write leaks.csv, leaks.json and pictures of the first `MAX_DRAWN`.

    `group_of`: image id → group, of the competition's own training images. Returns the pairs of training images that
    folds must respect: (image id, image id), of which the second may be an external image.
    """
    folder, images = session.workspace.leaks_dir, session.images
    remove_folder(folder)
    if not session.config.folds.leak_check:
        return []
    folder.mkdir(parents=True)
    trained_on = images["split"] == "train"
    roles = Roles(group_of, frozenset(images.loc[trained_on & (images["source"] != HOME), "image_id"]))
    paths, ids = [Path(path) for path in images["path"]], list(images["image_id"])
    pixels, jobs = session.config.competition.pixels, session.config.jobs
    ungrouped = frozenset(i for i, image_id in enumerate(ids) if image_id not in group_of)
    rows, pairs = [], []
    for leak in find_leaks(paths, pixels, jobs, folder=folder, ungrouped=ungrouped):
        a, b = sorted((ids[leak.a], ids[leak.b]), key=roles.external.__contains__)
        effect = roles.effect(a, b)
        if effect is None:
            continue
        pairs += [(a, b)] if roles.both_trained_on(a, b) else []
        picture = folder / f"{a}__{b}.jpg" if len(rows) < MAX_DRAWN else None
        row = {"a": a, "b": b, "kind": leak.kind, "agreement": leak.agreement, "what": effect}
        rows.append({**row, "picture": picture.name if picture else ""})
        if picture:
            save_pair(paths[leak.a], paths[leak.b], picture, pixels)
            print(f"leak: {a} and {b}: {leak.kind} (agreement {leak.agreement:.2f}); {effect}; {picture}")
    if len(rows) > MAX_DRAWN:
        print(f"02: {len(rows) - MAX_DRAWN} more leaks are listed in {folder / 'leaks.csv'}")
    write_json(folder / "leaks.json", rows[:MAX_DRAWN])  # for the report
    write_table(folder / "leaks.csv", pd.DataFrame(rows, columns=LEAK_COLUMNS))
    return pairs


def save_pair(a: Path, b: Path, path: Path, pixels: Pixels) -> None:
    """Draw two images side by side."""
    pictures = []
    for file in (a, b):
        with open_image(file, pixels) as reader:
            small = as_picture(reader.thumbnail(PAIR_SIDE), pixels)
        pictures.append(np.pad(small, ((0, PAIR_SIDE - small.shape[0]), (0, PAIR_SIDE - small.shape[1]), (0, 0))))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, np.concatenate(pictures, axis=1)[:, :, ::-1])
