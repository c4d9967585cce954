"""Out-of-fold counts of an ensemble whose members each know only part of the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.errors import UserError
from lib.files import check_disk
from lib.imaging.grid import MAP_SIDE
from lib.imaging.roi import boxes_file
from lib.inference.backends.engines import Engine
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import image_sources, scale_groups, trained_windows
from lib.inference.sources import limits_of, roi_of
from lib.oof.evaluate import Evaluation, evaluate
from lib.oof.map_files import POINTS, SAMPLED, Maps, MapWriter
from lib.oof.previews import SPOT, Album, AlbumWriter
from lib.session import Session
from lib.workspace import file_fingerprint, replacing, short_hash


def out_of_fold(
    parts: list[Checkpoint], session: Session, engine: Engine, whole_maps: bool = False
) -> tuple[Evaluation, np.ndarray, Maps | None]:
    """Counts of all systems and, last, their ensemble, with its glimpses and each image's group; its fold; where asked
    for, all maps.

    Images of a fold meet only that fold's members. Cached by what they are made from. Raises UserError when whole maps
    might take more disk than `infer.maps_gib`.
    """
    evaluations, fold_of, kept, albums = [], [], [], []
    config, competition = session.config, session.competition
    if whole_maps and not is_cached(parts, session, engine, whole_maps):
        _check_disk(parts, session)
    for fold, here, ids, cache in _by_fold(parts, session, engine):
        fold_of += [fold] * len(ids)
        maps = cache.with_suffix(".maps")
        if not _is_whole(cache, whole_maps):
            with ExitStack() as stack:
                path = stack.enter_context(replacing(maps)) if whole_maps else None
                album = stack.enter_context(AlbumWriter(stack.enter_context(replacing(cache.with_suffix(".shown")))))
                result = evaluate(
                    image_sources(session, ids),
                    scale_groups(session, here, engine, per_model=True),
                    competition.labels.open,
                    len(competition.label_names),
                    competition.channels,
                    limits_of(config),
                    description=f"05 out-of-fold, fold {fold}",
                    keep=lambda image_id, glimpse, _, album=album: album.add(image_id, glimpse),
                    sample=True,
                    writer=stack.enter_context(MapWriter(path)) if path else None,
                    presence=config.infer.gated,
                )
            result.save(cache)
        evaluations.append(Evaluation.load(cache))
        kept.append(maps)
        albums.append(cache.with_suffix(".shown"))
    for path in set(session.workspace.oof_dir.glob("*.maps")) - set(kept):  # of other members, windows or views
        path.unlink()
    oof = Evaluation.concat(evaluations)
    groups = session.folds.set_index("image_id").loc[oof.image_ids, "group"].to_numpy()
    return replace(oof, shown=Album(albums), groups=groups), np.array(fold_of), Maps(kept) if whole_maps else None


def is_cached(parts: list[Checkpoint], session: Session, engine: Engine, whole_maps: bool) -> bool:
    """Whether `out_of_fold` has nothing to predict."""
    return all(_is_whole(cache, whole_maps) for *_, cache in _by_fold(parts, session, engine))


def _is_whole(cache: Path, whole_maps: bool) -> bool:
    """Whether a fold's counts, glimpses and, where they are wanted, whole maps are there."""
    return all(cache.with_suffix(kind).is_file() for kind in (".npz", ".shown", ".maps")[: 2 + whole_maps])


def _by_fold(
    parts: list[Checkpoint], session: Session, engine: Engine
) -> Iterator[tuple[int, list[Checkpoint], list[str], Path]]:
    """(fold, its parts, its images, where their counts are kept)."""
    for fold in sorted({part.member.fold for part in parts}):
        here = [part for part in parts if part.member.fold == fold]
        ids = list(session.folds.loc[session.folds["fold"] == fold, "image_id"])
        yield fold, here, ids, session.workspace.oof_dir / f"{maps_hash(here, ids, session, engine)}.npz"


def maps_hash(parts: list[Checkpoint], ids: list[str], session: Session, engine: Engine) -> str:
    """Names everything that the parts' maps of some images depend on."""
    config, images = session.config, session.workspace.images
    return short_hash(
        [
            [file_fingerprint(part.member.trained) for part in parts],
            [part.weights for part in parts],
            ids,
            [repr(trained_windows(session, part)) for part in parts],
            [config.preprocess.blank_tolerance, *(file_fingerprint(path) for path in boxes_file(config.infer.roi))],
            [roi_of(config), config.infer.tta, config.infer.gated, repr(engine), file_fingerprint(images)],
            [SPOT, MAP_SIDE, POINTS, SAMPLED, "counts of classes", "what lies beside them"],
        ]
    )


def _check_disk(parts: list[Checkpoint], session: Session) -> None:
    infer, folds = session.config.infer, session.folds
    rows = session.images.set_index("image_id").loc[
        folds.loc[folds["fold"].isin({part.member.fold for part in parts}), "image_id"]
    ]
    maps = (len({part.model for part in parts}) + 1) * session.competition.channels * (1 + infer.gated)
    gib = float((rows["height"] * rows["width"]).sum()) * maps / 2**30
    what = f"the out-of-fold maps of {len(rows)} images, {maps} to each, may take"
    advice = "leave infer.ensemble_weights, infer.averaging, infer.gate and infer.postprocess at their defaults"
    if gib > infer.maps_gib:
        raise UserError(
            f"infer.maps_gib is {infer.maps_gib:g}, and {what} {gib:.0f} GiB before compression; raise that, or "
            f"{advice}"
        )
    check_disk(what, gib, session.workspace.oof_dir, advice)
