"""Out-of-fold maps of an ensemble: every image is predicted by the members of its own fold, which never saw it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache as cache_results
from pathlib import Path

import numpy as np

from lib.artifacts.read import sound_zip
from lib.digests import file_state
from lib.errors import UserError
from lib.execution.executor import compute_each
from lib.files import check_disk
from lib.imaging.grid import MAP_SIDE
from lib.imaging.roi import boxes_file
from lib.inference.backends.engines import Engine
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import image_sources, scale_groups, trained_windows
from lib.inference.multi_scale import maps_of
from lib.inference.sources import limits_of, roi_of
from lib.oof.evaluate import CountCollector, TrueLabels, evaluate
from lib.oof.evaluation import Evaluation, bins_for
from lib.oof.map_files import Maps, MapWriter, image_ids_in
from lib.oof.pixel_sample import POINTS, SAMPLED, PixelSampler
from lib.oof.previews import WORST_CROP, PreviewCollector, PreviewFile, PreviewWriter
from lib.session import Session
from lib.workspace import file_fingerprint, replacing, short_hash


def out_of_fold(
    session: Session, checkpoints: list[Checkpoint], engine: Engine, whole_maps: bool = False
) -> tuple[Evaluation, np.ndarray, Maps | None]:
    """(counts of every model and, last, of the ensemble, with previews and each image's group; each image's fold;
    whole maps, where asked for).

    Images of a fold meet only that fold's members. The result is cached by what it is made from. Raises UserError when
    whole maps might take more disk than `infer.maps_gib`.
    """
    caches, fold_of = [], []
    if whole_maps and not is_cached(session, checkpoints, engine, whole_maps):
        _check_disk(session, checkpoints)
    by_fold = list(_by_fold(session, checkpoints, engine))
    missing = [
        (session, of_fold, engine, cache, whole_maps)
        for _, of_fold, ids, cache in by_fold if not _is_complete(cache, ids, whole_maps)
    ]  # fmt: skip
    compute_each(_predict_fold, missing, "05 out-of-fold", "fold")
    for fold, _, ids, cache in by_fold:
        fold_of += [fold] * len(ids)
        caches.append(cache)
    map_files, preview_files = ([cache.with_suffix(kind) for cache in caches] for kind in (".maps", ".shown"))
    for path in set(session.workspace.oof_dir.glob("*.maps")) - set(map_files):  # of other members, windows or views
        path.unlink()
    oof = Evaluation.concat(_loaded(cache, len(fold_of)) for cache in caches)
    groups = session.folds.set_index("image_id").loc[oof.image_ids, "group"].to_numpy()
    oof = replace(oof, previews=PreviewFile(preview_files), groups=groups)
    return oof, np.array(fold_of), Maps(map_files) if whole_maps else None


def _loaded(cache: Path, images: int) -> Evaluation:
    """A fold's counts, as they fit into memory beside those of all `images`."""
    evaluation = Evaluation.load(cache)
    return evaluation.with_bins(bins_for(images, *evaluation.counts.shape[1:3])) if evaluation.overlap else evaluation


def _predict_fold(
    session: Session, checkpoints: list[Checkpoint], engine: Engine, cache: Path, whole_maps: bool
) -> None:
    """Predict the images of one fold and write the files of `cache`."""
    fold, config = checkpoints[0].member.fold, session.config
    ids = _images_of(session, fold)
    groups = scale_groups(session, checkpoints, engine, per_model=True)
    settings = session.competition.settings
    labels, maps = TrueLabels.of(session.competition, config.infer.gated), maps_of(groups)
    counts = CountCollector(ids, labels, maps)
    models = maps - 1  # their mean is none
    sampler = PixelSampler(ids, models, settings.channels, labels.presence, settings.multilabel)
    with ExitStack() as stack:
        preview_path = stack.enter_context(replacing(cache.with_suffix(".shown")))
        keep = stack.enter_context(PreviewWriter(preview_path)).add
        previews = PreviewCollector(settings, keep, session.workspace.root)
        collectors = [counts, sampler, previews]
        if whole_maps:
            map_path = stack.enter_context(replacing(cache.with_suffix(".maps")))
            collectors.append(stack.enter_context(MapWriter(map_path)))
        description = f"05 out-of-fold, fold {fold}"
        evaluate(image_sources(session, ids), groups, labels, limits_of(config), collectors, description)
    counts.evaluation(sampler.sample()).save(cache)


def is_cached(session: Session, checkpoints: list[Checkpoint], engine: Engine, whole_maps: bool) -> bool:
    """Whether `out_of_fold` has nothing to predict."""
    return all(_is_complete(cache, ids, whole_maps) for *_, ids, cache in _by_fold(session, checkpoints, engine))


def _is_complete(cache: Path, ids: list[str], whole_maps: bool) -> bool:
    """Whether a fold's counts, previews and, where they are wanted, whole maps are there.

    A damaged file is deleted, with a note: all three are made again.
    """
    for kind in (".npz", ".shown", ".maps")[: 2 + whole_maps]:
        path = cache.with_suffix(kind)
        if not path.is_file():
            return False
        if not _is_sound(path, tuple(ids), tuple(file_state(path))):
            print(f"note: {path} is damaged, so it is made again", flush=True)
            path.unlink()
            return False
    return True


@cache_results
def _is_sound(path: Path, ids: tuple[str, ...], _state: tuple[int, ...]) -> bool:
    """Whether a file of the cache is whole and holds these images. A file is read once until its state changes."""
    if path.suffix != ".npz":
        return sound_zip(path) and set(ids) == image_ids_in(path)
    try:
        return Evaluation.load(path).image_ids == list(ids)
    except UserError:
        return False


def _by_fold(
    session: Session, checkpoints: list[Checkpoint], engine: Engine
) -> Iterator[tuple[int, list[Checkpoint], list[str], Path]]:
    """(fold, its checkpoints, its images, the file of its counts)."""
    for fold in sorted({checkpoint.member.fold for checkpoint in checkpoints}):
        of_fold = [checkpoint for checkpoint in checkpoints if checkpoint.member.fold == fold]
        ids = _images_of(session, fold)
        yield fold, of_fold, ids, session.workspace.oof_dir / f"{maps_hash(session, of_fold, ids, engine)}.npz"


def _images_of(session: Session, fold: int) -> list[str]:
    return list(session.folds.loc[session.folds["fold"] == fold, "image_id"])


def maps_hash(session: Session, checkpoints: list[Checkpoint], ids: list[str], engine: Engine) -> str:
    """A hash of everything that the checkpoints' maps of some images depend on."""
    config, images = session.config, session.workspace.images
    return short_hash(
        [
            [file_fingerprint(checkpoint.member.trained) for checkpoint in checkpoints],
            [checkpoint.weights for checkpoint in checkpoints],
            ids,
            [repr(trained_windows(session, checkpoint)) for checkpoint in checkpoints],
            [config.preprocess.blank_tolerance, *(file_fingerprint(path) for path in boxes_file(config.infer.roi))],
            [roi_of(config), config.infer.tta, config.infer.gated, repr(engine), file_fingerprint(images)],
            [WORST_CROP, MAP_SIDE, POINTS, SAMPLED, "counts of classes", "what lies beside them"],
        ]
    )


def _check_disk(session: Session, checkpoints: list[Checkpoint]) -> None:
    infer, folds = session.config.infer, session.folds
    rows = session.images.set_index("image_id").loc[
        folds.loc[folds["fold"].isin({checkpoint.member.fold for checkpoint in checkpoints}), "image_id"]
    ]
    models = {checkpoint.model for checkpoint in checkpoints}
    maps = (len(models) + 1) * session.competition.channels * (1 + infer.gated)
    gib = float((rows["height"] * rows["width"]).sum()) * maps / 2**30
    need = f"the out-of-fold maps of {len(rows)} images, {maps} to each, may take"
    advice = "leave infer.ensemble_weights, infer.averaging, infer.gate and infer.postprocess at their defaults"
    if gib > infer.maps_gib:
        raise UserError(
            f"infer.maps_gib is {infer.maps_gib:g}, and {need} {gib:.0f} GiB before compression; raise that, or "
            f"{advice}"
        )
    check_disk(need, gib, session.workspace.oof_dir, advice)
