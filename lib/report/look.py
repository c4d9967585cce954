"""One image at a glance: itself, its truth, what each member and the ensemble say, what is decided, and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from lib.competition import metrics
from lib.competition.scoring import count_classes
from lib.config import Config
from lib.decision.decision import Decision
from lib.decision.presence_gate import with_presence
from lib.errors import UserError
from lib.imaging.draw import error_map, heat, overlay, save_picture
from lib.imaging.grid import map_step
from lib.inference.members import Part, Session, chosen_parts, groups_of
from lib.inference.multi_scale import predict_together
from lib.inference.sliding_window import Block
from lib.inference.sources import limits_of
from lib.oof.evaluate import HALF, background_fill, quantised
from lib.predict.auto_views import settled
from lib.report.show import small_image, small_truth
from lib.system.text_table import text_table
from lib.workspace import Workspace, read_json

GAP, HEAD = 10, 30  # pixels between panels, and above each for its title
COLUMNS = 4
PANEL = 640  # longest side of a panel, pixels


def look(config: Config, image_id: str) -> tuple[Path, list[dict]]:
    """Predict one image with 05's members, windows and decision; (the picture, each one's score where truth is known).

    A training image only meets members that never saw it. Whatever the image's size, only small maps are held.
    Raises UserError for an image that is not in images.csv, or that no member may judge.
    """
    session = Session.open(config)
    competition, workspace, images = session.competition, session.workspace, session.images
    if image_id not in set(images["image_id"]):
        some = ", ".join(images["image_id"][:5])
        raise UserError(f"{workspace.images} has no image {image_id!r}; it has {some}, …")
    row = images.set_index("image_id").loc[image_id]
    judged, parts = chosen_parts(session)
    session, _ = settled(session, judged, measure=False)
    if row["split"] == "train":
        fold = int(session.folds.set_index("image_id").loc[image_id, "fold"])
        parts = [part for part in judged if part.member.fold == fold]
        if not parts:
            raise UserError(f"image {image_id!r} is in fold {fold}, of which no member is trained; all others saw it")
    binary = competition.channels == 1
    decision, parts = decision_of(workspace, parts, binary)
    # Networks are asked for presence where the decision looks at it.
    session = session.with_infer(gate="fit" if decision.gates is not None else 0.0)
    config = session.config
    groups = groups_of(parts, session, session.engine(parts), each=True)
    fill = background_fill(competition.channels, len(competition.label_names), config.infer.gated)
    sources = session.sources([image_id])
    blocks = predict_together(sources, groups, fill, limits_of(config), f"look at {image_id}")
    maps, start = small_maps(blocks, decision)
    systems = Counter(part.system for part in parts)
    alone = {part.system: part.name for part in parts if systems[part.system] == 1}
    names = [*(alone.get(system, f"{system}, mean of folds") for system in systems), "ensemble"]
    truth = small_truth(image_id, row, competition) if row["split"] == "train" else None

    background = config.competition.background
    image = small_image(row, maps.shape[1:], competition)
    step = map_step(int(row["height"]), int(row["width"]))
    guess = np.concatenate(list(decision.shrunken(step).bands([start])))
    panels = {image_id + (f", one of {step} x {step} pixels" if step > 1 else ""): image}
    if truth is not None:
        panels["truth"] = overlay(image, truth, background)
    panels["decision"] = overlay(image, guess, background)
    if truth is not None:
        panels["right, invented (red), missed (blue)"] = error_map(image, truth, guess, background)[0]
    order = list(zip(names[-1:] + names[:-1], [maps[-1], *maps[:-1]], strict=True))
    for name, map_ in order[: 1 if len(parts) == 1 else None]:  # of a single member the ensemble is itself
        panels[name] = heat(map_) if binary else overlay(image, map_, background)
    path = workspace.root / "look" / f"{image_id}.jpg"
    save_picture(path, mosaic(panels))
    rows = []
    for name, map_ in zip([*names, "decision"], [*maps, None], strict=True) if truth is not None else []:
        labels = guess if map_ is None else (map_ >= HALF).astype(np.uint8) if binary else map_
        counts = count_classes(truth, labels, len(competition.label_names))
        rows.append({"": name, "score on the small map": metrics.image_scores(config.competition, counts[None])[0]})
    return path, rows


def decision_of(workspace: Workspace, parts: list[Part], binary: bool) -> tuple[Decision, list[Part]]:
    """What 05 decided by, and the parts that count; one half (argmax) and all of them where 05 has not run yet.

    Raises UserError when 05 gave weights to other members.
    """
    if not workspace.decision.is_file():
        return Decision(HALF if binary else None), parts
    decision, weights = Decision.load(workspace.decision), read_json(workspace.decision, {})["weights"]
    if decision.mix is None:
        return decision, parts
    counting = [part for part in parts if part.system in weights]
    if {part.system for part in counting} != set(weights):
        raise UserError(
            f"{workspace.decision} weighs {', '.join(weights)}; run 05_infer_ensemble.py with these options"
        )
    return decision, counting


def small_maps(blocks: Iterable[Block], decision: Decision) -> tuple[np.ndarray, np.ndarray]:
    """Of one image's blocks, every so many pixels (`map_step`): each system's bins or argmax, and last the ensemble's,
    (S + 1, h, w) uint8; and what the decision starts from, (…, h, w)."""
    rows: dict[int, list[list[np.ndarray]]] = {}
    for block in blocks:
        step = map_step(block.height, block.width)
        probs = block.probs[..., -block.y % step :: step, -block.x % step :: step]
        start = decision.quantised(probs)
        whole = np.where(start[2] >= HALF, start[0], start[1]) if start.ndim == 3 else start
        masks, _ = with_presence(probs[:-1], decision.gates is not None)
        maps = np.stack([*(quantised(system) for system in masks), whole])
        rows.setdefault(block.y, []).append([maps, start])
    both = ([np.concatenate([pair[i] for pair in row], axis=-1) for row in rows.values()] for i in range(2))
    maps, start = (np.concatenate(bands, axis=-2) for bands in both)
    return maps, start


def mosaic(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Panels of one size (h, w, 3) with their titles, `COLUMNS` beside each other, (H, W, 3)."""
    height, width = next(iter(panels.values())).shape[:2]
    shrink = PANEL / max(height, width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    cells = []
    for title, panel in panels.items():
        cell = np.full((size[1] + HEAD, size[0] + GAP, 3), 255, np.uint8)
        how = cv2.INTER_AREA if shrink < 1 else cv2.INTER_NEAREST
        cell[HEAD:, :-GAP] = cv2.resize(panel, size, interpolation=how)
        cv2.putText(cell, title, (2, HEAD - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 45, 60), 1, cv2.LINE_AA)
        cells.append(cell)
    columns = min(COLUMNS, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def look_at(config: Config, image_id: str) -> None:
    """`look`, and say where the picture is."""
    path, rows = look(config, image_id)
    if rows:
        print(text_table(rows))
    print(path)
