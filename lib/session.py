"""Everything a stage needs: options, competition, workspace, device, and the tables that earlier stages wrote."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from lib import tables
from lib.competition.apart import check_workspace
from lib.competition.dataset import Competition
from lib.config import Config, parse_command_line
from lib.execution.children import end_as_child
from lib.execution.executor import use_executor
from lib.plugins import load_plugins
from lib.system.device import pick_device
from lib.system.terminal import open_log
from lib.workspace import Workspace


class Session:
    """One call of a stage. Everything but `config` is opened when it is first asked for.

        session = Session.open(sys.argv[1:], "03_train.py")
        session.images.query("split == 'test'")

    The other arguments replace what would be opened.
    """

    def __init__(
        self, config: Config, workspace: Workspace | None = None, images: pd.DataFrame | None = None,
        folds: pd.DataFrame | None = None, competition: Competition | None = None,
    ):  # fmt: skip
        self.config = config
        self.workspace = workspace or Workspace.of(config)
        given = {"images": images, "folds": folds, "competition": competition}
        self.__dict__.update({name: value for name, value in given.items() if value is not None})

    @classmethod
    def open(cls, argv: list[str], script: str) -> Session:
        """From a command line `[CONFIG.yaml] [--key value …]`. Loads the plugins, and opens the log.

        Raises UserError where an option is wrong.
        """
        config = parse_command_line(argv, script)
        open_log(config)
        end_as_child()
        use_executor(config.execution)
        load_plugins(config.plugins)
        session = cls(config)
        check_workspace(session.workspace.root, config.competition)
        session.workspace.check_own()
        session.workspace.sweep()
        return session

    @cached_property
    def competition(self) -> Competition:
        return Competition(self.config.competition)

    @cached_property
    def device(self) -> torch.device:
        return pick_device(self.config.train.device, self.config.train.threads)

    @cached_property
    def images(self) -> pd.DataFrame:
        """Rows of images.csv. Raises UserError where 01 did not run yet, or read other files than there are now."""
        images = tables.read(self.workspace.images, tables.IMAGES, "01_preprocess.py")
        if not (images.empty or Path(images["path"].iloc[0]).exists()):
            images = images.assign(path=self._todays_paths(images))
        self.workspace.check_read(images["path"])
        return images

    def _todays_paths(self, images: pd.DataFrame) -> list[str]:
        """The paths of images that were moved since 01, by their ids; of 01's tiled copies, those in the workspace."""
        copies, known = self.workspace.root / "spool", {one.image_id: str(one.path) for one in self.competition.images}
        rows = zip(images["image_id"], images["path"], strict=True)
        return [
            str(copy) if (copy := copies / Path(path).name).exists() else known.get(image_id, path)
            for image_id, path in rows
        ]

    @cached_property
    def folds(self) -> pd.DataFrame:
        """Rows of folds.csv. Raises UserError where 02 did not run yet."""
        return tables.read_folds(self.workspace.folds, self.images)

    def __reduce__(self) -> tuple:
        """A worker gets the options and the folds, and opens everything else itself."""
        return _reopened, (self.config.model_dump_json(), self.__dict__.get("folds"))

    def with_config(self, config: Config) -> Session:
        """The same with other options. What was opened already stays open."""
        other = Session(config, self.workspace)
        opened = {"competition", "device", "images", "folds"} & self.__dict__.keys()
        other.__dict__.update({name: self.__dict__[name] for name in opened})
        return other

    def with_folds(self, folds: pd.DataFrame) -> Session:
        """The same with other rows of folds.csv."""
        other = self.with_config(self.config)
        other.folds = folds
        return other

    def with_infer(self, **options: object) -> Session:
        """The same with other options of `infer`."""
        infer = self.config.infer.model_copy(update=options)
        return self.with_config(self.config.model_copy(update={"infer": infer}))


def _reopened(config_json: str, folds: pd.DataFrame | None) -> Session:
    config = Config.model_validate_json(config_json)
    load_plugins(config.plugins)
    return Session(config, folds=folds)
