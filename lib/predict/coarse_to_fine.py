"""Find, then look: members on shrunken images find objects, and other members' windows are computed only there.

What is found becomes a CSV of boxes, as any detector could have written it (lib/imaging/roi.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.config import Config
from lib.errors import UserError
from lib.imaging.geometry import Box
from lib.imaging.roi import BOX_COLUMNS, read_boxes
from lib.imaging.roi_windows import edges_of, grid_on, windows_around
from lib.inference.checkpoints import Checkpoint, checkpoints_of
from lib.inference.members import choose_engine, image_sources, scale_groups, trained_windows
from lib.inference.sliding_window import count_windows, predict_windows
from lib.inference.sources import limits_of
from lib.inference.windows import Block, Windows
from lib.oof.evaluate import outside_values
from lib.plugins import load_plugins
from lib.session import Session
from lib.tables import NOT_VALIDATED, validation_folds
from lib.workspace import file_fingerprint, read_json, short_hash, write_table

CELLS = 2048  # along an image's longest side, in which regions are noted
SPECK = 3  # cells that are no object


def coarse_members(session: Session) -> list[Checkpoint]:
    """The members that find regions; none where `infer.roi` is not `coarse`."""
    return finders_of(session) if session.config.infer.roi == "coarse" else []


def finders_of(session: Session) -> list[Checkpoint]:
    """The members of `infer.coarse`. Raises UserError where they cannot find, or may have seen what they look at."""
    config, folds = session.config, session.workspace.folds
    if not config.infer.coarse:
        raise UserError(
            "infer.coarse is needed, the experiment whose members find the regions: train one on shrunken images, "
            "03_train.py --train.experiment coarse --train.scale 0.25"
        )
    if not config.competition.background:
        raise UserError("infer.coarse finds what is no background, and this competition has none; take another roi")
    finders = checkpoints_of(session.workspace.members([config.infer.coarse]), config.infer.checkpoints[:1])
    now = file_fingerprint(folds)
    for part in finders:
        if read_json(part.member.path / "begun.json", {}).get(f"file {folds}", now) != now:
            raise UserError(
                f"infer.coarse: {part.member.name} was trained with other folds than {folds} has now, and may have "
                "seen the images that it would look at; train it again"
            )
    return finders


def check_finders(config: Config, finders: list[Checkpoint], parts: list[Checkpoint]) -> None:
    """Raises UserError when images of a fold would be judged that no member of `infer.coarse` may look at."""
    unfound = {part.member.fold for part in parts} - {part.member.fold for part in finders} if finders else set()
    if unfound:
        raise UserError(
            f"infer.coarse: {config.infer.coarse} has no member of fold {min(unfound)}; train it for all folds of the "
            "ensemble"
        )


def with_boxes(session: Session, finders: list[Checkpoint], fine: Windows) -> Session:
    """`session` with the CSV of the regions that `finders` find in place of `infer.roi coarse`.

    A training image meets only its own fold's finders, a test image all of them. `fine`: the windows that regions are
    for, of which `infer.coarse_margin` is left around what is found. Cached by what it is made from.
    """
    if not finders:
        return session
    # Window and scale are the fine members'; finders look as they were trained, and nothing is kept from being found.
    finding = session.with_infer(window=0, scale=0, gate=0.0)
    config = session.config
    margin = config.infer.coarse_margin * fine.size / fine.scale
    made_from = [
        [file_fingerprint(part.member.trained) for part in finders], config.infer.checkpoints[0],
        file_fingerprint(session.workspace.folds), file_fingerprint(session.workspace.images),
        repr(trained_windows(finding, finders[0])), repr(fine), margin,
        config.infer.coarse_above, config.infer.tta, config.preprocess.blank_tolerance,
    ]  # fmt: skip
    path = session.workspace.oof_dir / f"coarse_{short_hash(made_from)}.csv"
    if not path.is_file():
        _write(path, finding, finders, lambda cells, shares, size: looks_of(cells, shares, size, margin, fine))
    return session.with_infer(roi=str(path))


def write_boxes(config: Config, csv: str) -> None:
    """Write `csv` as `write_objects` does, and print how many boxes it holds."""
    load_plugins(config.plugins)
    print(f"{write_objects(Session(config), Path(csv))} boxes: {csv}")


def write_objects(session: Session, path: Path) -> int:
    """Write a CSV of boxes, one around each object that the members of `infer.coarse` find, with `infer.coarse_margin`
    of the object's longer side around it; returns how many. Training images by their own fold's members only.

    Raises UserError where there are no such members, for images without fold, and rather than overwrite another file.
    """
    config, rows = session.config, session.images
    if path.exists():
        read_boxes(path)
    finders = finders_of(session)
    judged = set(session.folds.loc[session.folds["fold"] != NOT_VALIDATED, "image_id"])
    lost = rows[(rows["split"] == "train") & ~rows["image_id"].isin(judged)]
    external = lost["source"].isin({source.name for source in config.competition.external})
    if not external.all():
        raise UserError(
            f"training image {lost.loc[~external, 'image_id'].iloc[0]} is in no fold, so that every member has seen "
            "it; folds.scheme kfold gives each image to one"
        )
    if unfound := set(validation_folds(session.folds["fold"])) - {part.member.fold for part in finders}:
        raise UserError(f"infer.coarse: {config.infer.coarse} has no member of fold {min(unfound)}; train it for all")
    if len(lost):
        print(f"warning: no boxes are written of {len(lost)} external images, which no member may look at; add theirs")
    finding = session.with_infer(window=0, scale=0, gate=0.0, roi="content")
    margin = config.infer.coarse_margin
    return _write(path, finding, finders, lambda cells, shares, size: objects_of(cells, shares, size, margin))


def _write(path: Path, finding: Session, finders: list[Checkpoint], boxed: Callable[..., list[Box]]) -> int:
    """Boxes of all labeled and test images as a CSV; returns how many. `boxed`: as `boxes_of`, but for the margin."""
    config, folds, rows = finding.config, finding.folds, finding.images.set_index("image_id")
    engine = choose_engine(finding, finders)
    work = [
        (list(folds.loc[folds["fold"] == fold, "image_id"]), [part for part in finders if part.member.fold == fold])
        for fold in sorted({part.member.fold for part in finders})
    ]
    work.append((list(rows.index[rows["split"] == "test"]), finders))
    found = []
    for ids, parts in work:
        (group,) = scale_groups(finding, parts, engine)
        fill = outside_values(config.competition)
        found_blocks = predict_windows(
            image_sources(finding, ids), group, fill, limits_of(config), "regions", restore=False
        )
        for image_id, blocks in groupby(found_blocks, key=lambda block: block.image_id):
            size = int(rows.loc[image_id, "height"]), int(rows.loc[image_id, "width"])
            found += [(image_id, *box) for box in boxed(*_cells(blocks, config), size)]
    write_table(path, pd.DataFrame(found, columns=BOX_COLUMNS))
    return len(found)


def _cells(blocks: Iterable[Block], config: Config) -> tuple[np.ndarray, tuple[float, float]]:
    """Which cells of an image (rows, columns) hold a pixel whose probability of being no background (of classes that
    overlap, of any of them) reaches `infer.coarse_above`, and a cell's sides as shares of the map's height and width.
    """
    cells = None
    for block in blocks:
        if cells is None:
            side = -(-max(block.height, block.width) // CELLS)
            cells = np.zeros((-(-block.height // side), -(-block.width // side)), bool)
            shares = side / block.height, side / block.width
        probs = block.probs[-1]
        seen = probs.max(0) if config.competition.binary else 1 - probs[0]
        ys, xs = np.nonzero(seen >= config.infer.coarse_above)
        cells[(ys + block.y) // side, (xs + block.x) // side] = True
    return cells, shares


def boxes_of(cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int], margin: float) -> list[Box]:
    """Boxes (y, x, height, width) in pixels of an image of `size` that cover its marked cells and `margin` around.

    `shares`: a cell's sides, of the image's. Runs of cells below one another that are alike are one box.

    >>> boxes_of(np.array([[0, 1, 1], [0, 1, 1], [1, 0, 0]], bool), (1 / 3, 1 / 3), (30, 60), 0)
    [(0, 20, 20, 40), (20, 0, 10, 20)]
    """
    sides = shares[0] * size[0], shares[1] * size[1]
    down, across = (2 * int(np.ceil(margin / side)) + 1 for side in sides)
    wide = cv2.dilate(cells.astype(np.uint8), np.ones((down, across), np.uint8))
    boxes, open_ = [], {}
    for row in range(len(wide) + 1):
        line = wide[row] if row < len(wide) else np.zeros_like(wide[0])
        edges = np.flatnonzero(np.diff(line, prepend=0, append=0)).reshape(-1, 2)
        runs = {(int(left), int(right)) for left, right in edges}
        boxes += [(top, left, row, right) for (left, right), top in open_.items() if (left, right) not in runs]
        open_ = {run: open_.get(run, row) for run in sorted(runs)}
    return _inside(np.array(sorted(boxes), np.float64).reshape(-1, 4) * [*sides, *sides], size)


def looks_of(
    cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int], margin: float, windows: Windows
) -> list[Box]:
    """Boxes (y, x, height, width) in pixels of an image of `size` to be looked at by `windows`.

    One around each object, marked cells that touch, if only at a corner, with `margin` around it; specks stay, the
    windows will tell. Of an object for which a window is too small, the grid's windows that it and its margin touch, a
    box for each, whose overlap a time limit cannot lessen. `shares` as in `boxes_of`.
    """
    labels, edges, _ = _components(cells, shares, size)
    boxes = np.array(_inside(edges + margin * np.array([-1, -1, 1, 1]), size)).reshape(-1, 4)
    shrunken = round(size[0] * windows.scale), round(size[1] * windows.scale)
    scale = shrunken[0] / size[0], shrunken[1] / size[1]
    top, left, bottom, right = edges_of(boxes, scale, shrunken).T
    large = (bottom - top > windows.size) | (right - left > windows.size)
    found = boxes[~large].tolist()
    if large.any():
        parts = edges_of(boxes_of(np.append(False, large)[labels], shares, size, margin), scale, shrunken)
        corners = np.array(grid_on(parts, shrunken, windows.size, windows.stride))
        rim = max(1, *scale)  # less, or by rounding the box would be larger than the window
        inner = np.concatenate([corners + rim, corners + windows.size - rim], 1) / [*scale, *scale]
        found += _inside(inner, size)
    return sorted(map(tuple, found))


def objects_of(cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int], margin: float) -> list[Box]:
    """A box (y, x, height, width) in pixels of an image of `size` around each object: marked cells that touch, if only
    at a corner, more than `SPECK` of them. `margin`: how much wider it is on every side, as a share of its longer one.
    `shares` as in `boxes_of`.

    >>> objects_of(np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0]], bool), (1 / 3, 1 / 3), (30, 60), 0.1)
    [(0, 0, 30, 44)]
    """
    _, edges, count = _components(cells, shares, size)
    wider = margin * (edges[:, 2:] - edges[:, :2]).max(1, keepdims=True)
    return sorted(_inside((edges + wider * [-1, -1, 1, 1])[count > SPECK], size))


def _components(
    cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Marked cells that touch: each cell's number, from 1; and of each number (N, 4) top, left, bottom, right in pixels
    of an image of `size`, and (N,) how many cells."""
    labels, stats = cv2.connectedComponentsWithStats(cells.astype(np.uint8))[1:3]
    left, top, width, height, count = stats[1:].T
    edges = np.stack([top, left, top + height, left + width], 1)
    return labels, edges * ([shares[0] * size[0], shares[1] * size[1]] * 2), count


def _inside(edges: np.ndarray, size: tuple[int, int]) -> list[Box]:
    """Boxes (y, x, height, width) of whole pixels of an image of `size` that hold (N, 4) top, left, bottom, right."""
    found = []
    for box in edges:
        top, left = (int(max(0, edge)) for edge in box[:2])
        bottom, right = (min(most, int(np.ceil(edge))) for edge, most in zip(box[2:], size, strict=True))
        if bottom > top and right > left:
            found.append((top, left, bottom - top, right - left))
    return found


def share_looked_at(path: Path, images: pd.DataFrame, windows: Windows) -> float:
    """The windows around boxes as a share of all windows of some images, blank ones among them; boxes for each image,
    where each is shrunk whole."""
    boxes, kept, total = read_boxes(path), 0, 0
    for image in images.itertuples():
        if windows.resized:
            kept, total = kept + len(boxes.get(image.image_id, [])), total + 1
            continue
        size = round(image.height * windows.scale), round(image.width * windows.scale)
        scale = size[0] / image.height, size[1] / image.width
        kept += len(windows_around(boxes.get(image.image_id, []), scale, size, windows.size, windows.stride))
        total += count_windows(image.height, image.width, windows)
    return kept / max(1, total)
