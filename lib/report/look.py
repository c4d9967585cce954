"""One picture of an image: truth, decision, errors, and the maps of the ensemble and its models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.competition.scoring import count_classes
from lib.config import Config
from lib.config.competition import CompetitionSettings
from lib.decision.decision import Decision
from lib.decision.presence_gate import with_presence
from lib.errors import UserError
from lib.imaging.draw import error_map, heat, overlay, save_picture
from lib.imaging.grid import map_step
from lib.inference.checkpoints import Checkpoint, choose_checkpoints
from lib.inference.members import choose_engine, image_sources, scale_groups
from lib.inference.multi_scale import predict_multi_scale
from lib.inference.sources import limits_of
from lib.inference.windows import Block
from lib.oof.codes import HALF, from_planes, to_codes
from lib.oof.evaluate import outside_values
from lib.plugins import load_plugins
from lib.predict.auto_views import resolve_auto
from lib.report.show import small_image, small_truth
from lib.session import Session
from lib.system.text_table import text_table
from lib.workspace import Workspace, read_json

PANEL_GAP, TITLE_HEIGHT = 10, 30  # pixels between panels, and above each panel
PANELS_PER_ROW = 4
LOOK_PANEL_SIDE = 640  # longest side of a panel, pixels


@dataclass(frozen=True)
class ImagePrediction:
    """What is known of one image, on small maps (every `step`th pixel).

    `maps` (S + 1, C, h, w) uint8: each model's codes (lib/oof/codes.py), the ensemble's last, called `names`. `decided`
    and `truth` uint8: label indices (h, w), or planes (K, h, w); `truth` is None for a test image.
    """

    names: list[str]
    maps: np.ndarray
    decided: np.ndarray
    image: np.ndarray
    truth: np.ndarray | None
    step: int


def draw_look(config: Config, image_id: str) -> tuple[Path, list[dict]]:
    """Predict one image with 05's members, windows and decision, and draw it.

    A training image is predicted only by members that never saw it. Only small maps are held in memory, whatever the
    image's size. Returns the picture's path and, for a training image, a row with the score of each model, of the
    ensemble and of the decision. Raises UserError for an image that is not in images.csv, or that all members saw.
    """
    session = Session(config)
    if image_id not in set(session.images["image_id"]):
        examples = ", ".join(session.images["image_id"][:5])
        raise UserError(f"{session.workspace.images} has no image {image_id!r}; it has {examples}, …")
    predicted = _predict(session, image_id)
    path = session.workspace.root / "look" / f"{image_id}.jpg"
    save_picture(path, mosaic(_panels(predicted, image_id, session.competition)))
    return path, _score_rows(predicted, session.competition)


def _predict(session: Session, image_id: str) -> ImagePrediction:
    row = session.images.set_index("image_id").loc[image_id]
    judged, parts = choose_checkpoints(session)
    session, _ = resolve_auto(session, judged, measure=False)
    if row["split"] == "train":
        fold = int(session.folds.set_index("image_id").loc[image_id, "fold"])
        parts = [part for part in judged if part.member.fold == fold]
        if not parts:
            raise UserError(f"image {image_id!r} is in fold {fold}, of which no member is trained; all others saw it")
    competition = session.competition
    settings = session.config.competition
    decision, parts = decision_of(session.workspace, parts, settings)
    # Networks are asked for presence where the decision looks at it.
    session = session.with_infer(gate="fit" if decision.gates is not None else 0.0)
    groups = scale_groups(session, parts, choose_engine(session, parts), per_model=True)
    fill = outside_values(settings, session.config.infer.gated)
    sources = image_sources(session, [image_id])
    blocks = predict_multi_scale(sources, groups, fill, limits_of(session.config), f"look at {image_id}")
    maps, codes = small_maps(blocks, decision)
    step = map_step(int(row["height"]), int(row["width"]))
    decided = np.concatenate(list(decision.shrunken(step).bands([codes])), axis=1)
    return ImagePrediction(
        _names(parts), maps, from_planes(decided, settings.multilabel),
        small_image(row, maps.shape[-2:], competition),
        small_truth(image_id, row, competition) if row["split"] == "train" else None, step,
    )  # fmt: skip


def _names(parts: list[Checkpoint]) -> list[str]:
    """Of the models and, last, the ensemble."""
    networks = Counter(part.model for part in parts)
    alone = {part.model: part.name for part in parts if networks[part.model] == 1}
    return [*(alone.get(system, f"{system}, mean of folds") for system in networks), "ensemble"]


def _panels(predicted: ImagePrediction, image_id: str, competition: Competition) -> dict[str, np.ndarray]:
    """The pictures (h, w, 3) by their titles: image, truth, decision, errors, the ensemble and its models."""
    background, image, step = competition.settings.background, predicted.image, predicted.step
    panels = {image_id + (f", one of {step} x {step} pixels" if step > 1 else ""): image}
    if predicted.truth is not None:
        panels["truth"] = overlay(image, predicted.truth, background)
    panels["decision"] = overlay(image, predicted.decided, background)
    if predicted.truth is not None:
        errors = error_map(image, predicted.truth, predicted.decided, background)[0]
        panels["right, false positive (red), missed (blue)"] = errors
    *models, ensemble = zip(predicted.names, predicted.maps, strict=True)
    settings = competition.settings
    for name, codes in [ensemble, *(models if len(models) > 1 else [])]:
        one_class = settings.channels == 1
        panels[name] = heat(codes[0]) if one_class else overlay(image, _at_half(codes, settings), background)
    return panels


def _at_half(codes: np.ndarray, settings: CompetitionSettings) -> np.ndarray:
    """Codes (C, h, w) → labels at a threshold of one half, or of argmax."""
    planes = (codes >= HALF).astype(np.uint8) if settings.binary else codes
    return from_planes(planes, settings.multilabel)


def _score_rows(predicted: ImagePrediction, competition: Competition) -> list[dict]:
    if predicted.truth is None:
        return []
    maps, rows = [_at_half(codes, competition.settings) for codes in predicted.maps], []
    for name, labels in zip([*predicted.names, "decision"], [*maps, predicted.decided], strict=True):
        counts = count_classes(predicted.truth, labels, len(competition.label_names))
        score = metrics.image_scores(competition.settings, counts[None])[0]
        rows.append({"": name, "score on the small map": score})
    return rows


def decision_of(
    workspace: Workspace, parts: list[Checkpoint], settings: CompetitionSettings
) -> tuple[Decision, list[Checkpoint]]:
    """05's decision, and the networks that have a weight in it.

    Where 05 has not run yet: a threshold of one half (argmax), and all networks. Raises UserError where 05 gave weights
    to other members.
    """
    if not workspace.decision.is_file():
        return Decision((HALF,) * settings.channels if settings.binary else None), parts
    decision, weights = Decision.load(workspace.decision), read_json(workspace.decision, {})["weights"]
    if decision.mix is None:
        return decision, parts
    counting = [part for part in parts if part.model in weights]
    if {part.model for part in counting} != set(weights):
        raise UserError(
            f"{workspace.decision} weighs {', '.join(weights)}; run 05_infer_ensemble.py with these options"
        )
    return decision, counting


def small_maps(blocks: Iterable[Block], decision: Decision) -> tuple[np.ndarray, np.ndarray]:
    """One image's blocks, down-sampled by `map_step`: the maps (S + 1, C, h, w) uint8 of each model and, last, of the
    ensemble, as codes (lib/oof/codes.py); and the codes from which the decision follows."""
    rows: dict[int, list[list[np.ndarray]]] = {}
    for block in blocks:
        step = map_step(block.height, block.width)
        probs = block.probs[..., -block.y % step :: step, -block.x % step :: step]
        codes, binary = decision.to_codes(probs), decision.thresholds is not None
        candidates = not binary and len(codes) > 1
        whole = np.where(codes[2] >= HALF, codes[0], codes[1])[None] if candidates else codes
        masks, _ = with_presence(probs[:-1], decision.gates is not None)
        maps = np.stack([*(to_codes(system, binary) for system in masks), whole])
        rows.setdefault(block.y, []).append([maps, codes])
    both = ([np.concatenate([pair[i] for pair in row], axis=-1) for row in rows.values()] for i in range(2))
    maps, codes = (np.concatenate(bands, axis=-2) for bands in both)
    return maps, codes


def mosaic(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Panels of one size (h, w, 3) with their titles, `PANELS_PER_ROW` in a row, as one picture (H, W, 3)."""
    height, width = next(iter(panels.values())).shape[:2]
    shrink = LOOK_PANEL_SIDE / max(height, width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    cells = []
    for title, panel in panels.items():
        cell = np.full((size[1] + TITLE_HEIGHT, size[0] + PANEL_GAP, 3), 255, np.uint8)
        interpolation = cv2.INTER_AREA if shrink < 1 else cv2.INTER_NEAREST
        cell[TITLE_HEIGHT:, :-PANEL_GAP] = cv2.resize(panel, size, interpolation=interpolation)
        cv2.putText(cell, title, (2, TITLE_HEIGHT - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 45, 60), 1, cv2.LINE_AA)
        cells.append(cell)
    columns = min(PANELS_PER_ROW, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def look_at_image(config: Config, image_id: str) -> None:
    """Draw an image as `draw_look` does, and print its scores and the picture's path."""
    load_plugins(config.plugins)
    path, rows = draw_look(config, image_id)
    if rows:
        print(text_table(rows))
    print(path)
