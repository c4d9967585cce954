"""A package's job: predict the images that it is given with the ensemble that it contains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.scoring import test_sizes
from lib.config import Config
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.inference.checkpoints import named_checkpoints
from lib.inference.members import choose_engine, image_sources, scale_groups
from lib.oof.evaluate import outside_values
from lib.package.layout import BOXES, MEMBERS
from lib.predict.answer_parts import Answer
from lib.predict.time_plan import Planner, until_of
from lib.predict.workload import sampled_blank_share
from lib.predict.write_submission import AnswerWriter
from lib.session import Session
from lib.workspace import Workspace, read_json


@dataclass(frozen=True)
class Job:
    """Everything a package needs to predict images.

    `images`: rows with image_id, path, height, width and blank_share. `home`: the package's folder. `folder`: for
    temporary files. `started`: when `infer.time_limit` began, on the monotonic clock.
    """

    config: Config
    competition: Competition
    images: pd.DataFrame
    home: Path
    folder: Path
    started: float

    @classmethod
    def of(cls, config: Config, home: Path, folder: Path, started: float) -> Job:
        """Finds the test images. Raises UserError where they do not match the sample, or boxes are missing."""
        competition = Competition(config.competition, only_test=True)
        competition.check_sample()
        strangers = set(competition.ids("test")) - set(read_json(home / MEMBERS, {})["images"])
        if strangers and config.infer.roi == str(home / BOXES):
            raise UserError(
                f"no boxes are packaged for {min(strangers)!r} and other images; give theirs with --infer.roi FILE"
                + (", or look everywhere with --infer.roi content" if config.preprocess.mode == "tiles" else "")
            )
        sizes = test_sizes(competition)
        rows = [(image.image_id, str(image.path), *sizes[image.image_id]) for image in competition.images]
        images = pd.DataFrame(rows, columns=["image_id", "path", "height", "width"]).assign(blank_share=0.0)
        return cls(config, competition, images, home, folder, started)

    def on(self, device: str) -> Job:
        """The same job on another device."""
        train = self.config.train.model_copy(update={"device": device})
        return replace(self, config=self.config.model_copy(update={"train": train}))

    def answers(self) -> tuple[Iterator[Answer], Planner | None]:
        """The answers to all images, and the planner that keeps them to `infer.time_limit`, if there is one."""
        config, images, competition = self.config, self.images, self.competition
        about, decision = read_json(self.home / MEMBERS, {}), Decision.load(Workspace(self.home).decision)
        parts = named_checkpoints(about["members"], Workspace(self.home))
        session = Session(config, Workspace(self.folder), images, folds=pd.DataFrame(), competition=competition)
        groups, planner = (
            scale_groups(session, parts, choose_engine(session, parts), per_model=decision.mix is not None),
            None,
        )
        if config.infer.time_limit:
            sources = image_sources(session, images["image_id"])
            images = images.assign(blank_share=sampled_blank_share(sources))
            planner = Planner(groups, parts, config, images, until_of(session, self.started))
            planner.warm(sources)
            order, label = about["models"] or list(dict.fromkeys(part.model for part in parts)), about["unseen"]
            fill = outside_values(config.competition, config.infer.gated, label)
            planner.follow(planner.plan_for(order, planner.measure(sources)), fill, label)
        return AnswerWriter(session, groups, decision, planner).answers(images), planner
