"""Out-of-fold counts of an ensemble whose members each know only part of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn

from lib import tables
from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.imaging.grid import MAP_SIDE
from lib.inference.backends import Engine, fastest_backend
from lib.inference.evaluate import Evaluation, evaluate
from lib.inference.forward import Ensemble, fastest_precision
from lib.inference.glimpse import SPOT, Album, AlbumWriter
from lib.inference.maps import POINTS, SAMPLED, Maps, MapWriter
from lib.inference.predictor import Limits, Source, Windows, count_windows, first_windows
from lib.inference.together import Group
from lib.inference.tta import cost
from lib.workspace import Member, Workspace, file_fingerprint, free_gib, replacing, short_hash


@dataclass(frozen=True)
class Part:
    """One network of the ensemble: a member with one kind of its weights."""

    member: Member
    weights: str

    @property
    def name(self) -> str:
        return f"{self.member.name} {self.weights}"

    @property
    def system(self) -> str:
        """What is the same over folds: experiment, seed and weights."""
        return f"{self.member.experiment} seed{self.member.seed} {self.weights}"


def parts_of(members: list[Member], weights: list[str]) -> list[Part]:
    """Every member with every kind of weights; `epochs` are all its checkpoints, each a part of its own."""
    parts = []
    for member in members:
        for kind in weights:
            kept = len(list(member.path.glob("checkpoint*_weights.pt"))) if kind == "epochs" else 0
            if kind == "epochs" and not kept:
                raise UserError(f"infer.weights epochs: {member.name} kept no checkpoints; train it with "
                                "train.checkpoints 4, for example")  # fmt: skip
            parts += [Part(member, f"checkpoint{i + 1}") for i in range(kept)] if kept else [Part(member, kind)]
    return parts


def chosen_parts(experiments: list[str], config: Config, workspace: Workspace) -> tuple[list[Part], list[Part]]:
    """(parts that are judged on out-of-fold maps, parts that predict test images).

    The same ones, but with `infer.folds all`: then members of all images predict, and the folds' members that differ
    from them in nothing else are judged in their place. Raises UserError when there are none.
    """
    parts = parts_of(workspace.members(experiments), config.infer.weights)
    if config.infer.folds == "each":
        return parts, parts
    final = parts_of(workspace.members(experiments, of_all=True), config.infer.weights)
    judged = {part.system for part in parts}
    for part in final:
        if part.system not in judged:
            raise UserError(
                f"infer.folds all: {part.name} predicts test images, and no fold has a member like it from which "
                f"decision and score could come; train at least one fold's with train.seeds {part.member.seed} too"
            )
    return [part for part in parts if part.system in {part.system for part in final}], final


def named_parts(names: list[str], workspace: Workspace) -> list[Part]:
    """The parts whose names these are. Raises UserError when a member is gone."""
    parts = []
    for name in names:
        member, weights = name.rsplit(" ", 1)
        experiment, _, rest = member.rpartition("/")
        found = [m for m in workspace.members([experiment], rest.startswith("all_")) if m.name == member]
        if not found:
            raise UserError(f"{workspace.runs / experiment} no longer holds {rest}; train it, then run 05 again")
        parts.append(Part(found[0], weights))
    return parts


def windows_of(config: Config) -> Windows:
    """The inference windows, the same for out-of-fold and test maps; `auto`, still to be tried, as trained."""
    tile = round(config.preprocess.tile_size * config.train.scale)
    wanted = 0 if config.infer.window == "auto" else config.infer.window
    if config.preprocess.mode == "resize":
        return Windows(wanted or tile, 0.0, 1.0, "constant", 0.0, config.preprocess.fit)
    size = wanted or config.train.crop or tile
    scale = config.infer.scale or config.preprocess.scale * config.train.scale
    step = 64 if config.model.stem == "down" else 32
    turns = "free" in config.infer.tta.split()
    size = -(-size // step) * step
    return Windows(size, config.infer.overlap, scale, config.infer.blend, config.infer.margin, turns=turns)


def trained_with(member: Member, config: Config) -> Config:
    """`config` with the network, tiles and training that the member was made with: these decide its windows."""
    path = member.path / "resolved.yaml"
    if not path.is_file():
        return config
    made = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config.model_copy(
        update={
            name: type(getattr(config, name)).model_validate(made[name]) for name in ("preprocess", "model", "train")
        }
    )


def groups_of(
    parts: list[Part],
    config: Config,
    load: Callable[[Part], nn.Module],
    device: torch.device,
    engine: Engine,
    each: bool = False,
) -> list[Group]:
    """The networks of an ensemble, neighbours with the same windows together.

    `each`: every system (experiment, seed and weights, the mean of its folds) is one of `Ensemble`'s too.
    """
    groups = []
    for windows, own in groupby(parts, key=lambda part: windows_of(trained_with(part.member, config))):
        own = list(own)
        names = [part.system for part in own]
        systems = [[i for i, name in enumerate(names) if name == wanted] for wanted in dict.fromkeys(names)]
        kept = [*(systems if each else []), list(range(len(own)))]
        networks = [load(part) for part in own]
        for network in networks:
            network.tells_presence = config.infer.gated
        options = {"tta": config.infer.tta, "engine": engine, "presence": config.infer.gated}
        groups.append(Group(windows, Ensemble(networks, device, groups=kept, **options)))
    return groups


def roi_file(config: Config) -> list[Path]:
    """The CSV of boxes, where `infer.roi` names one."""
    return [] if config.infer.roi in ("none", "content", "coarse") else [Path(config.infer.roi)]


def limits_of(config: Config) -> Limits:
    return Limits(config.infer.batch_size, config.infer.max_gib, workspace_of(config))


def source_of(config: Config, image_id: str, path: str) -> Source:
    size, blank = _sizes(Workspace(workspace_of(config)).images).get(image_id, ((1, 1), 0.0))
    seen = 1.0 if config.infer.roi == "none" else 1 - blank
    tolerance, pixels = config.preprocess.blank_tolerance, config.competition.pixels
    return Source(image_id, Path(path), config.infer.roi, tolerance, pixels, size, seen)


def _sizes(images: Path) -> dict[str, tuple[tuple[int, int], float]]:
    """Of every image of images.csv, where there is one, ((height, width), blank share)."""
    return _sizes_at(images, images.stat().st_mtime_ns) if images.is_file() else {}


@lru_cache(maxsize=2)  # asked for with every image
def _sizes_at(images: Path, _changed: int) -> dict[str, tuple[tuple[int, int], float]]:
    table = tables.read(images, tables.IMAGES, "01_preprocess.py")
    columns = (table[name] for name in ("image_id", "height", "width", "blank_share"))
    return {image_id: ((int(h), int(w)), float(blank)) for image_id, h, w, blank in zip(*columns, strict=True)}


def infer_engine(
    config: Config,
    workspace: Workspace,
    network: nn.Module,
    device: torch.device,
    images: pd.DataFrame,
    networks: int = 1,
) -> Engine:
    """`infer.precision` and `infer.backend`; what is `auto` is measured once per workspace, network and device.

    `images`: rows of images.csv that `networks` networks will predict, of which the first gives windows to try.
    """
    windows, batch = windows_of(config), config.infer.batch_size
    about = f"{config.model.architecture} {config.model.encoder} {windows.size} {device.type}"
    about += f" {short_hash(config.model.model_dump())}"

    def chosen(option: str, value: str, key: str, measure: Callable[[], str]) -> str:
        return value if value != "auto" else str(workspace.choose_once(f"{option} {key}", measure))

    precision = chosen(
        "infer.precision",
        config.infer.precision,
        about,
        lambda: fastest_precision(network, device, windows.size, batch),
    )

    def fastest() -> str:
        sources = [source_of(config, image.image_id, image.path) for image in images.itertuples()]
        count = sum(count_windows(image.height, image.width, windows) for image in images.itertuples())
        batches = round(count * cost(config.infer.tta) / batch + 0.5)
        return fastest_backend(network, device, precision, first_windows(sources, windows, batch), batches, networks)

    return Engine(precision, chosen("infer.backend", config.infer.backend, f"{about} {precision}", fastest))


def check_gate(parts: list[Part], config: Config) -> None:
    """Raises UserError when `infer.gate` asks for what no member's network tells."""
    if config.infer.gated and not any(trained_with(part.member, config).model.classifier for part in parts):
        raise UserError(
            f"infer.gate {config.infer.gate}: no member has a classification head, so none tells which classes are "
            "present; train some with model.classifier true, or leave infer.gate at 0"
        )


def check_same_systems(parts: list[Part]) -> list[str]:
    """Names of the systems; every fold must have all of them, or averages would mean different things."""
    folds = sorted({part.member.fold for part in parts})
    names = list(dict.fromkeys(part.system for part in parts))
    for name in names:
        here = sorted(part.member.fold for part in parts if part.system == name)
        if here != folds:
            raise UserError(
                f"the ensemble is incomplete: {name} has folds {here}, others {folds}; train the missing members, "
                "or choose with infer.experiments"
            )
    return names


def out_of_fold(
    parts: list[Part],
    folds: pd.DataFrame,
    images: pd.DataFrame,
    config: Config,
    competition: Competition,
    workspace: Workspace,
    load: Callable[[Part], nn.Module],
    device: torch.device,
    engine: Engine,
    whole_maps: bool = False,
) -> tuple[Evaluation, np.ndarray, Maps | None]:
    """Counts of all systems and, last, their ensemble, with its glimpses; each image's fold; where asked for, all maps.

    Images of a fold meet only that fold's members. Cached by what they are made from. Raises UserError when whole maps
    might take more disk than `infer.maps_gib`.
    """
    evaluations, fold_of, kept, albums = [], [], [], []
    paths = images.set_index("image_id")["path"]
    if whole_maps and not is_cached(parts, folds, config, workspace, engine, whole_maps):
        _check_disk(parts, folds, images, config, competition, workspace)
    for fold, here, ids, cache in _by_fold(parts, folds, config, workspace, engine):
        fold_of += [fold] * len(ids)
        maps = cache.with_suffix(".maps")
        if not _is_whole(cache, whole_maps):
            with ExitStack() as stack:
                path = stack.enter_context(replacing(maps)) if whole_maps else None
                album = stack.enter_context(AlbumWriter(stack.enter_context(replacing(cache.with_suffix(".shown")))))
                result = evaluate(
                    [source_of(config, i, paths[i]) for i in ids],
                    groups_of(here, config, load, device, engine, each=True),
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
    for path in set(workspace.oof_dir.glob("*.maps")) - set(kept):  # of other members, windows or views
        path.unlink()
    oof = replace(Evaluation.concat(evaluations), shown=Album(albums))
    return oof, np.array(fold_of), Maps(kept) if whole_maps else None


def is_cached(
    parts: list[Part], folds: pd.DataFrame, config: Config, workspace: Workspace, engine: Engine, whole_maps: bool
) -> bool:
    """Whether `out_of_fold` has nothing to predict."""
    return all(_is_whole(cache, whole_maps) for *_, cache in _by_fold(parts, folds, config, workspace, engine))


def _is_whole(cache: Path, whole_maps: bool) -> bool:
    """Whether a fold's counts, glimpses and, where they are wanted, whole maps are there."""
    return all(cache.with_suffix(kind).is_file() for kind in (".npz", ".shown", ".maps")[: 2 + whole_maps])


def _by_fold(
    parts: list[Part], folds: pd.DataFrame, config: Config, workspace: Workspace, engine: Engine
) -> Iterator[tuple[int, list[Part], list[str], Path]]:
    """(fold, its parts, its images, where their counts are kept)."""
    for fold in sorted({part.member.fold for part in parts}):
        here = [part for part in parts if part.member.fold == fold]
        ids = list(folds.loc[folds["fold"] == fold, "image_id"])
        yield fold, here, ids, workspace.oof_dir / f"{maps_hash(here, ids, config, workspace, engine)}.npz"


def maps_hash(parts: list[Part], ids: list[str], config: Config, workspace: Workspace, engine: Engine) -> str:
    """Names everything that the parts' maps of some images depend on."""
    return short_hash(
        [
            [file_fingerprint(part.member.path / "done.json") for part in parts],
            [part.weights for part in parts],
            ids,
            [repr(windows_of(trained_with(part.member, config))) for part in parts],
            [config.preprocess.blank_tolerance, *(file_fingerprint(path) for path in roi_file(config))],
            [config.infer.roi, config.infer.tta, config.infer.gated, repr(engine), file_fingerprint(workspace.images)],
            [SPOT, MAP_SIDE, POINTS, SAMPLED],
        ]
    )


def _check_disk(
    parts: list[Part], folds: pd.DataFrame, images: pd.DataFrame, config: Config, competition: Competition,
    workspace: Workspace,
) -> None:  # fmt: skip
    rows = images.set_index("image_id").loc[
        folds.loc[folds["fold"].isin({part.member.fold for part in parts}), "image_id"]
    ]
    maps = (len({part.system for part in parts}) + 1) * competition.channels * (1 + config.infer.gated)
    gib = float((rows["height"] * rows["width"]).sum()) * maps / 2**30
    free = free_gib(workspace.oof_dir)
    if config.infer.maps_gib > free:
        limit = f"{workspace.oof_dir} has {free:.1f} GiB free"
    else:
        limit = f"infer.maps_gib is {config.infer.maps_gib:g}"
    if gib > min(free, config.infer.maps_gib):
        raise UserError(
            f"{limit}, and the out-of-fold maps of {len(rows)} images, {maps} to each, may take {gib:.0f} GiB before "
            "compression; raise that, or leave infer.members, infer.mean, infer.gate and infer.decide at their defaults"
        )
