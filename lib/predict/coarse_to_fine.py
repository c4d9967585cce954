"""Coarse-to-fine prediction: members on shrunken images find regions, and other members predict only these regions.

The regions become a CSV of boxes, the same file that any other detector could write (lib/imaging/roi.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition.metadata import pixel_size_files, zoom_of
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

CELLS = 2048  # along an image's longest side: the raster in which regions are noted
SPECK = 3  # an object has more cells than this


def coarse_members(session: Session) -> list[Checkpoint]:
    """The members that find regions; empty where `infer.roi` is not `coarse`."""
    return finders_of(session) if session.config.infer.roi == "coarse" else []


def finders_of(session: Session) -> list[Checkpoint]:
    """The members of `infer.coarse`.

    Raises UserError where there is no such experiment, where the competition has no background, and where the folds
    have changed since a member was trained, because it may have seen the images of its fold.
    """
    config, folds = session.config, session.workspace.folds
    if not config.infer.coarse:
        raise UserError(
            "infer.roi coarse needs infer.coarse, the experiment whose members find the regions: train one on shrunken "
            "images with 03_train.py --train.experiment coarse --train.scale 0.25"
        )
    if not config.competition.background:
        raise UserError(
            "infer.coarse finds everything that is not background, and this competition has no background; choose "
            "another infer.roi"
        )
    finders = checkpoints_of(session.workspace.members([config.infer.coarse]), config.infer.checkpoints[:1])
    key, now, named = "file {workspace}/folds.csv", file_fingerprint(folds), session.workspace.places.all_named
    for finder in finders:
        if named(read_json(finder.member.path / "begun.json", {})).get(key, now) != now:
            raise UserError(
                f"infer.coarse: {finder.member.name} was trained with other folds than {folds} holds now, so it may "
                "have seen the images of its fold; train it again"
            )
    return finders


def check_finders(config: Config, finders: list[Checkpoint], evaluated: list[Checkpoint]) -> None:
    """Raises UserError where an evaluated fold has no member of `infer.coarse`."""
    if finders:
        _check_folds(config, {checkpoint.member.fold for checkpoint in evaluated}, finders)


def _check_folds(config: Config, folds: set[int], finders: list[Checkpoint]) -> None:
    missing = folds - {finder.member.fold for finder in finders}
    if missing:
        raise UserError(
            f"infer.coarse: {config.infer.coarse} has no member of fold {min(missing)}; train it for folds "
            f"{', '.join(map(str, sorted(folds)))}"
        )


def with_boxes(session: Session, finders: list[Checkpoint], fine: Windows) -> Session:
    """`session` with the CSV of found regions in place of `infer.roi coarse`. The CSV is cached.

    Only the finders of its own fold see a training image; all finders see a test image. `fine`: the windows that will
    predict the regions; `infer.coarse_margin` of them is added around each region.
    """
    if not finders:
        return session
    # `infer.window` and `infer.scale` are meant for the fine members. The gate would hide regions.
    finding = session.with_infer(window=0, scale=0, gate=0.0)
    config = session.config
    margin = config.infer.coarse_margin * fine.size / fine.scale
    made_from = [
        [file_fingerprint(finder.member.trained) for finder in finders], config.infer.checkpoints[0],
        file_fingerprint(session.workspace.folds), file_fingerprint(session.workspace.images),
        repr(trained_windows(finding, finders[0])), repr(fine), margin,
        config.infer.coarse_above, config.infer.tta, config.preprocess.blank_tolerance,
        *map(file_fingerprint, pixel_size_files(config)),
    ]  # fmt: skip
    path = session.workspace.oof_dir / f"coarse_{short_hash(made_from)}.csv"
    if not path.is_file():
        _write(path, finding, finders, partial(_regions, margin, fine))
    return session.with_infer(roi=str(path))


def write_boxes(config: Config, csv: str) -> None:
    """`python -m lib boxes`: write the boxes of all objects to `csv`, and print how many there are."""
    load_plugins(config.plugins)
    print(f"{write_objects(Session(config), Path(csv))} boxes: {csv}")


def write_objects(session: Session, path: Path) -> int:
    """Write a CSV with one box around each object that the members of `infer.coarse` find. Returns how many.

    A box is wider than its object by `infer.coarse_margin` of the object's longer side. Only members of its own fold
    see a training image. Raises UserError where such members are missing, where a training image is in no fold, and
    where `path` is another kind of file.
    """
    config, rows = session.config, session.images
    if path.exists():
        read_boxes(path)
    finders = finders_of(session)
    validated = set(session.folds.loc[session.folds["fold"] != NOT_VALIDATED, "image_id"])
    left_out = rows[(rows["split"] == "train") & ~rows["image_id"].isin(validated)]
    external = left_out["source"].isin({source.name for source in config.competition.external})
    if not external.all():
        raise UserError(
            f"training image {left_out.loc[~external, 'image_id'].iloc[0]} is in no fold, so every member has seen it; "
            "set folds.scheme to kfold, which gives each image a fold"
        )
    _check_folds(config, set(validation_folds(session.folds["fold"])), finders)
    if len(left_out):
        print(
            f"warning: {len(left_out)} external images get no boxes, because every member has seen them; add their "
            "boxes to the CSV"
        )
    finding = session.with_infer(window=0, scale=0, gate=0.0, roi="content")
    margin = config.infer.coarse_margin
    return _write(path, finding, finders, lambda *found: objects_of(*found[:3], margin))


def _write(path: Path, finding: Session, finders: list[Checkpoint], boxes_in: Callable[..., list[Box]]) -> int:
    """Write the boxes of all labeled and test images to a CSV; returns how many.

    `boxes_in`: a function of cells, shares and size, as in `boxes_of`, and of the image's zoom.
    """
    config, folds, rows = finding.config, finding.folds, finding.images.set_index("image_id")
    engine = choose_engine(finding, finders)
    work = [
        (
            list(folds.loc[folds["fold"] == fold, "image_id"]),
            [finder for finder in finders if finder.member.fold == fold],
        )
        for fold in sorted({finder.member.fold for finder in finders})
    ]
    work.append((list(rows.index[rows["split"] == "test"]), finders))
    boxes = []
    for ids, checkpoints in work:
        (group,) = scale_groups(finding, checkpoints, engine)
        sources, outside = image_sources(finding, ids), outside_values(config.competition)
        predicted = predict_windows(sources, group, outside, limits_of(config), "regions", restore=False)
        for image_id, blocks in groupby(predicted, key=lambda block: block.image_id):
            size = int(rows.loc[image_id, "height"]), int(rows.loc[image_id, "width"])
            boxes += [(image_id, *box) for box in boxes_in(*_cells(blocks, config), size, zoom_of(config, image_id))]
    write_table(path, pd.DataFrame(boxes, columns=BOX_COLUMNS))
    return len(boxes)


def _cells(blocks: Iterable[Block], config: Config) -> tuple[np.ndarray, tuple[float, float]]:
    """The marked cells of an image, (rows, columns) bool, and a cell's sides as shares of the map's height and width.

    A cell is marked where the probability of some pixel in it to be not background is at least `infer.coarse_above`.
    Where classes overlap, that is the probability of its most likely class.
    """
    cells = None
    for block in blocks:
        if cells is None:
            side = -(-max(block.height, block.width) // CELLS)
            cells = np.zeros((-(-block.height // side), -(-block.width // side)), bool)
            shares = side / block.height, side / block.width
        probs = block.probs[-1]
        foreground = probs.max(0) if config.competition.binary else 1 - probs[0]
        ys, xs = np.nonzero(foreground >= config.infer.coarse_above)
        cells[(ys + block.y) // side, (xs + block.x) // side] = True
    return cells, shares


def boxes_of(cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int], margin: float) -> list[Box]:
    """Boxes (y, x, height, width) in pixels of an image of `size` that cover its marked cells and a margin around them.

    `shares`: a cell's sides as shares of the image's sides. `margin`: pixels. Equal runs of cells in successive rows
    become one box.

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


def regions_of(
    cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int], margin: float, windows: Windows
) -> list[Box]:
    """Boxes (y, x, height, width) in pixels of an image of `size` that `windows` should predict.

    An object is a group of marked cells that touch, also at a corner. It gets one box, with `margin` pixels around it.
    Single cells count, because the fine members will decide about them. An object that is larger than a window gets
    one box for each window of the grid that it and its margin touch. `shares` as in `boxes_of`.
    """
    labels, edges, _ = _components(cells, shares, size)
    boxes = np.array(_inside(edges + margin * np.array([-1, -1, 1, 1]), size)).reshape(-1, 4)
    shrunken = round(size[0] * windows.scale), round(size[1] * windows.scale)
    scale = shrunken[0] / size[0], shrunken[1] / size[1]
    top, left, bottom, right = edges_of(boxes, scale, shrunken).T
    large = (bottom - top > windows.size) | (right - left > windows.size)
    regions = boxes[~large].tolist()
    if large.any():
        parts = edges_of(boxes_of(np.append(False, large)[labels], shares, size, margin), scale, shrunken)
        corners = np.array(grid_on(parts, shrunken, windows.size, windows.stride))
        edge = max(1, *scale)  # without it, rounding could make the box larger than the window
        inner = np.concatenate([corners + edge, corners + windows.size - edge], 1) / [*scale, *scale]
        regions += _inside(inner, size)
    return sorted(map(tuple, regions))


def _regions(margin: float, fine: Windows, *found: object) -> list[Box]:
    """`regions_of`, by the fine windows of an image. `found`: its cells, shares, size and zoom."""
    *marked, zoom = found
    return regions_of(*marked, margin / zoom, fine.zoomed(zoom))


def objects_of(cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int], margin: float) -> list[Box]:
    """One box (y, x, height, width) in pixels of an image of `size` around each object.

    An object is a group of more than `SPECK` marked cells that touch, also at a corner. `margin`: how much wider the
    box is on every side, as a share of the object's longer side. `shares` as in `boxes_of`.

    >>> objects_of(np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0]], bool), (1 / 3, 1 / 3), (30, 60), 0.1)
    [(0, 0, 30, 44)]
    """
    _, edges, count = _components(cells, shares, size)
    wider = margin * (edges[:, 2:] - edges[:, :2]).max(1, keepdims=True)
    return sorted(_inside((edges + wider * [-1, -1, 1, 1])[count > SPECK], size))


def _components(
    cells: np.ndarray, shares: tuple[float, float], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connected components of marked cells.

    Returns the component of each cell (from 1; 0 is not marked), (N, 4) top, left, bottom and right of each component
    in pixels of an image of `size`, and (N,) its number of cells.
    """
    labels, stats = cv2.connectedComponentsWithStats(cells.astype(np.uint8))[1:3]
    left, top, width, height, count = stats[1:].T
    edges = np.stack([top, left, top + height, left + width], 1)
    return labels, edges * ([shares[0] * size[0], shares[1] * size[1]] * 2), count


def _inside(edges: np.ndarray, size: tuple[int, int]) -> list[Box]:
    """The smallest boxes of whole pixels around (N, 4) top, left, bottom, right, cut at an image's `size`."""
    boxes = []
    for box in edges:
        top, left = (int(max(0, edge)) for edge in box[:2])
        bottom, right = (min(side, int(np.ceil(edge))) for edge, side in zip(box[2:], size, strict=True))
        if bottom > top and right > left:
            boxes.append((top, left, bottom - top, right - left))
    return boxes


def share_in_boxes(path: Path, images: pd.DataFrame, windows: Windows) -> float:
    """The share of some images' windows that lie around the boxes of a CSV. Blank windows count.

    Where windows are resized boxes, the number of boxes for each image.
    """
    boxes, inside, total = read_boxes(path), 0, 0
    for image in images.itertuples():
        total += count_windows(image.height, image.width, windows)
        image_boxes = boxes.get(image.image_id, [])
        if windows.resized:
            inside += len(image_boxes)
            continue
        size = round(image.height * windows.scale), round(image.width * windows.scale)
        scale = size[0] / image.height, size[1] / image.width
        inside += len(windows_around(image_boxes, scale, size, windows.size, windows.stride))
    return inside / max(1, total)
