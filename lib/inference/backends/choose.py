"""Chooses `infer.precision: auto` and `infer.backend: auto` by timing every kind of network on real windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from lib.config import Config
from lib.inference.backends.engines import Engine, Kind, agreeing, as_images, exact_maps, fastest_engines
from lib.inference.sliding_window import count_windows, first_windows
from lib.inference.sources import batch_of, source_of, windows_of
from lib.inference.tta import cost
from lib.inference.windows import Source
from lib.plugins import names
from lib.system.device import machine_of
from lib.system.precision import candidates as candidate_precisions
from lib.workspace import Workspace, short_hash


@dataclass(frozen=True)
class Candidate:
    """A network that an engine will run.

    `config`: the options it was trained with. `load`: loads it. `stamp`: a text that changes when its weights do.
    """

    config: Config
    load: Callable[[], nn.Module]
    stamp: str

    @property
    def kind(self) -> str:
        """A name that networks share if their forward passes take equally long."""
        windows = windows_of(self.config)
        about = f"{self.config.model.architecture} {self.config.model.encoder} {windows.size}"
        return f"{about} {short_hash([self.config.model.model_dump(), repr(windows)])}"


def infer_engine(
    networks: list[Candidate], config: Config, workspace: Workspace, device: torch.device, images: pd.DataFrame
) -> Engine:
    """One engine for all `networks`: as the options say, or, for `auto`, the fastest one with correct maps.

    The choice is measured once for each workspace, set of kinds and machine. Each network's maps are checked once.
    `images`: the rows of images.csv that the networks will predict. The first windows of these are tried.
    """
    infer = config.infer
    precisions = candidate_precisions(device) if infer.precision == "auto" else [infer.precision]
    backends = names("backend") if infer.backend == "auto" else [infer.backend]
    engines = [Engine(precision, backend) for backend in backends for precision in precisions]
    if len(engines) == 1:
        return engines[0]
    kinds: dict[str, list[Candidate]] = {}
    for network in networks:
        kinds.setdefault(network.kind, []).append(network)
    sources = [source_of(config, image.image_id, image.path) for image in images.itertuples()]

    def fastest() -> list[list[str]]:
        tried = [_kind(candidates_of_kind, sources, images) for candidates_of_kind in kinds.values()]
        return [[engine.precision, engine.backend] for engine in fastest_engines(engines, tried, device)]

    about = f"{next(iter(kinds))} {machine_of(device)} {short_hash([sorted(kinds), precisions, backends])}"
    choice = workspace.choose_once(f"infer.precision and infer.backend, best first, {about}", fastest)
    ordered = [Engine(*words) for words in choice]
    for engine in ordered[:-1]:
        if engine == Engine() or all(_checked(engine, one, sources, workspace, device) for one in networks):
            return engine
    return ordered[-1]


def _kind(candidates: list[Candidate], sources: list[Source], images: pd.DataFrame) -> Kind:
    """The networks of one kind and their work, timed with the first of them."""
    config = candidates[0].config
    infer, windows = config.infer, windows_of(config)
    count = sum(count_windows(image.height, image.width, windows) for image in images.itertuples())
    batches = round(count * cost(infer.tta) / batch_of(config) + 0.5)
    return Kind(candidates[0].load(), first_windows(sources, windows, batch_of(config)), batches, len(candidates))


def _checked(
    engine: Engine, network: Candidate, sources: list[Source], workspace: Workspace, device: torch.device
) -> bool:
    """Whether a network's maps agree with those of float32. It is measured once."""

    def agrees() -> bool:
        loaded = network.load()
        windows = as_images(first_windows(sources, windows_of(network.config), batch_of(network.config)), device)
        return agreeing(engine, loaded, windows, exact_maps(loaded, windows, device), device) is not None

    return workspace.choose_once(f"{engine} agrees {network.stamp} {machine_of(device)}", agrees)
