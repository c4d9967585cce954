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
from lib.imaging.roi import Box, read_boxes, windows_around
from lib.inference.evaluate import background_fill
from lib.inference.members import Part, Session, groups_of, limits_of, parts_of
from lib.inference.predictor import Block, Windows, count_windows, predict
from lib.workspace import file_fingerprint, short_hash, write_table

CELLS = 2048  # along an image's longest side, in which regions are noted
COLUMNS = ["image_id", "y", "x", "height", "width"]


def coarse_members(session: Session) -> list[Part]:
    """The members that find regions; none where `infer.roi` is not `coarse`."""
    config = session.config
    if config.infer.roi != "coarse":
        return []
    if not config.infer.coarse:
        raise UserError(
            "infer.roi coarse needs infer.coarse, the experiment whose members find the regions: train one on shrunken "
            "images, 03_train.py --train.experiment coarse --train.scale 0.25"
        )
    if not config.competition.background:
        raise UserError(
            "infer.roi coarse looks for what is no background, and this competition has none; take another roi"
        )
    return parts_of(session.workspace.members([config.infer.coarse]), config.infer.weights[:1])


def check_finders(config: Config, finders: list[Part], parts: list[Part]) -> None:
    """Raises UserError when images of a fold would be judged that no member of `infer.coarse` may look at."""
    unfound = {part.member.fold for part in parts} - {part.member.fold for part in finders} if finders else set()
    if unfound:
        raise UserError(
            f"infer.coarse: {config.infer.coarse} has no member of fold {min(unfound)}; train it for all folds of the "
            "ensemble"
        )


def with_boxes(session: Session, finders: list[Part], fine: Windows) -> Session:
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
        [file_fingerprint(part.member.path / "done.json") for part in finders], config.infer.weights[0],
        file_fingerprint(session.workspace.folds), file_fingerprint(session.workspace.images),
        repr(finding.windows(finders[0])), margin,
        config.infer.coarse_above, config.infer.tta, config.preprocess.blank_tolerance,
    ]  # fmt: skip
    path = session.workspace.oof_dir / f"coarse_{short_hash(made_from)}.csv"
    if not path.is_file():
        _write(path, finding, finders, lambda cells, share, size: boxes_of(cells, share, size, margin))
    return session.with_infer(roi=str(path))


def write_objects(session: Session, path: Path) -> int:
    """Write a CSV of boxes, one around each object that the members of `infer.coarse` find, with `infer.coarse_margin`
    of the object's longer side around it; returns how many. Training images by their own fold's members only.

    Raises UserError as `coarse_members`, and where a fold has no member.
    """
    config = session.config
    finders = coarse_members(session.with_infer(roi="coarse"))
    unfound = set(session.folds["fold"]) - {-1} - {part.member.fold for part in finders}
    if unfound:
        raise UserError(f"infer.coarse: {config.infer.coarse} has no member of fold {min(unfound)}; train it for all")
    finding = session.with_infer(window=0, scale=0, gate=0.0, roi="content")
    margin = config.infer.coarse_margin
    return _write(path, finding, finders, lambda cells, share, size: objects_of(cells, share, size, margin))


def _write(path: Path, finding: Session, finders: list[Part], boxed: Callable[..., list[Box]]) -> int:
    """Boxes of all labeled and test images as a CSV; returns how many. `boxed`: as `boxes_of`, but for the margin."""
    config, folds, rows = finding.config, finding.folds, finding.images.set_index("image_id")
    engine = finding.engine(finders)
    work = [
        (list(folds.loc[folds["fold"] == fold, "image_id"]), [part for part in finders if part.member.fold == fold])
        for fold in sorted({part.member.fold for part in finders})
    ]
    work.append((list(rows.index[rows["split"] == "test"]), finders))
    found = []
    for ids, parts in work:
        (group,) = groups_of(parts, finding, engine)
        fill = background_fill(finding.competition.channels, len(finding.competition.label_names))
        found_blocks = predict(
            finding.sources(ids), group.forward, group.windows, fill, 1, limits_of(config), "05 regions", False
        )
        for image_id, blocks in groupby(found_blocks, key=lambda block: block.image_id):
            size = int(rows.loc[image_id, "height"]), int(rows.loc[image_id, "width"])
            found += [(image_id, *box) for box in boxed(*_cells(blocks, config.infer.coarse_above), size)]
    write_table(path, pd.DataFrame(found, columns=COLUMNS))
    return len(found)


def _cells(blocks: Iterable[Block], above: float) -> tuple[np.ndarray, float]:
    """Which cells of an image (rows, columns) hold a pixel whose probability of being no background reaches `above`,
    and a cell's side as a share of the map's height."""
    cells = None
    for block in blocks:
        if cells is None:
            side = -(-max(block.height, block.width) // CELLS)
            cells = np.zeros((-(-block.height // side), -(-block.width // side)), bool)
            share = side / block.height
        probs = block.probs[-1]
        seen = probs[0] if len(probs) == 1 else 1 - probs[0]
        ys, xs = np.nonzero(seen >= above)
        cells[(ys + block.y) // side, (xs + block.x) // side] = True
    return cells, share


def boxes_of(cells: np.ndarray, share: float, size: tuple[int, int], margin: float) -> list[Box]:
    """Boxes (y, x, height, width) in pixels of an image of `size` that cover its marked cells and `margin` around.

    `share`: a cell's side, of the image's height. Runs of cells below one another that are alike are one box.

    >>> boxes_of(np.array([[0, 1, 1], [0, 1, 1], [1, 0, 0]], bool), 1 / 3, (30, 30), 0)
    [(0, 10, 20, 20), (20, 0, 10, 10)]
    """
    height, width = size
    side = share * height
    reach = int(np.ceil(margin / side))
    wide = cv2.dilate(cells.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    boxes, open_ = [], {}
    for row in range(len(wide) + 1):
        line = wide[row] if row < len(wide) else np.zeros_like(wide[0])
        edges = np.flatnonzero(np.diff(line, prepend=0, append=0)).reshape(-1, 2)
        runs = {(int(left), int(right)) for left, right in edges}
        boxes += [(top, left, row, right) for (left, right), top in open_.items() if (left, right) not in runs]
        open_ = {run: open_.get(run, row) for run in sorted(runs)}
    return _in_pixels(sorted(boxes), side, size)


def objects_of(cells: np.ndarray, share: float, size: tuple[int, int], margin: float) -> list[Box]:
    """A box (y, x, height, width) in pixels of an image of `size` around each object: marked cells that touch, if only
    at a corner. `margin`: how much wider it is on every side, as a share of its longer one. `share` as in `boxes_of`.

    >>> objects_of(np.array([[0, 1, 1], [0, 0, 1], [1, 0, 0]], bool), 1 / 3, (30, 30), 0)
    [(0, 10, 20, 20), (20, 0, 10, 10)]
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8))
    wider = [margin * max(width, height) for _, _, width, height, _ in stats[1:]]
    edges = [
        (max(0, top - more), max(0, left - more), top + height + more, left + width + more)
        for (left, top, width, height, _), more in zip(stats[1:].tolist(), wider, strict=True)
    ]
    return _in_pixels(sorted(edges), share * size[0], size)


def _in_pixels(edges: list[tuple], side: float, size: tuple[int, int]) -> list[Box]:
    """Boxes (y, x, height, width) of an image of `size` that hold cells (top, left, bottom, right) of `side` pixels."""
    found = []
    for box in edges:
        top, left = (int(edge * side) for edge in box[:2])
        bottom, right = (min(most, int(np.ceil(edge * side))) for edge, most in zip(box[2:], size, strict=True))
        if bottom > top and right > left:
            found.append((top, left, bottom - top, right - left))
    return found


def share_looked_at(path: Path, images: pd.DataFrame, windows: Windows) -> float:
    """The windows around boxes as a share of all windows of some images, blank ones among them; boxes for each image,
    where each is shrunk whole."""
    boxes, kept, total = read_boxes(path), 0, 0
    for image in images.itertuples():
        if windows.whole:
            kept, total = kept + len(boxes.get(image.image_id, [])), total + 1
            continue
        size = round(image.height * windows.scale), round(image.width * windows.scale)
        scale = size[0] / image.height, size[1] / image.width
        kept += len(windows_around(boxes.get(image.image_id, []), scale, size, windows.size, windows.stride))
        total += count_windows(image.height, image.width, windows)
    return kept / max(1, total)
