"""The whole configuration: all sections, and the rules that hold between them."""

from __future__ import annotations

from pydantic import Field, model_validator

from lib.config.clean import Clean
from lib.config.competition import CompetitionSettings
from lib.config.execution import Execution
from lib.config.folds import Folds
from lib.config.infer import Infer, Report
from lib.config.package import Package
from lib.config.preprocess import ROI_WORDS, Preprocess
from lib.config.pseudo import Pseudo
from lib.config.section import Section
from lib.config.training import Augment, Model, Train


class Config(Section):
    """The whole configuration. Field names are the keys of the YAML and of the command line."""

    competition: CompetitionSettings = CompetitionSettings()
    preprocess: Preprocess = Preprocess()
    folds: Folds = Folds()
    model: Model = Model()
    augment: Augment = Augment()
    train: Train = Train()
    pseudo: Pseudo = Pseudo()
    clean: Clean = Clean()
    infer: Infer = Infer()
    report: Report = Report()
    package: Package = Package()
    execution: Execution = Execution()
    plugins: list[str] = []
    """Python files that are loaded first; they may register models, losses, samplers, augmentations, label readers,
    metrics and submission codecs. Paths are relative to the YAML file."""
    workspace: str = ""
    """Folder of everything that is made; empty for `work/<competition.name>`."""
    jobs: int = Field(default=0, ge=0, le=4096)
    """Processes of 01 and 02; 0 for one per core."""
    debug: bool = False
    """Run everything on a few images, in `work/<name>-debug`, in about two minutes."""
    quiet: bool = False
    """Show only warnings and errors."""
    log_file: str = ""
    """File to which every shown line is added with its time, quiet or not."""
    preflight: bool = False
    """Run one batch through every stage, in `work/<name>-preflight`: still smaller than `debug`."""

    @model_validator(mode="after")
    def _unscored(self):
        """A training on all images cannot choose by scores, of which it has none."""
        wrong = {
            "train.soup goes": self.train.soup,
            "train.schedule plateau goes": self.train.schedule == "plateau",
        }
        asked = "train.folds all" if "all" in self.train.folds else "infer.folds all" * (self.infer.folds == "all")
        for name in (name for name, chosen in wrong.items() if asked and chosen):
            raise ValueError(
                f"{asked}: {name} by the scores of images that are not trained on, and there are none; leave it out "
                "(infer.checkpoints mean averages checkpoints without scores)"
            )
        return self

    @model_validator(mode="after")
    def _stored(self):
        """PNG, BMP and JPEG files hold tiles of three channels of 8 bits alone."""
        pixels, stored = self.competition.pixels, self.preprocess.image_format
        if stored == "npy" or (pixels.count, pixels.dtype) == (3, "uint8"):
            return self
        if stored == "jpg":
            raise ValueError(
                f"preprocess.image_format jpg holds three channels of 8 bits, and competition.pixels.channels makes "
                f"{pixels.count} of {pixels.depth} bits; set it to npy"
            )
        stored = self.preprocess.model_copy(update={"image_format": "npy"})
        object.__setattr__(self, "preprocess", stored)  # sections are frozen
        return self

    @model_validator(mode="after")
    def _all_seen(self):
        """Without background every pixel is of some class, blank ground too (snow, night): all of it is predicted."""
        if not self.competition.background:
            if self.infer.roi not in ("none", "content"):
                raise ValueError(
                    f"infer.roi {self.infer.roi} with competition.background false: every pixel has a class, and none "
                    "outside of the regions would be predicted; set infer.roi none"
                )
            for name in ("preprocess", "infer"):
                section = getattr(self, name)
                if section.roi == "content":
                    object.__setattr__(self, name, section.model_copy(update={"roi": "none"}))  # sections are frozen
        return self

    @model_validator(mode="after")
    def _cropped(self):
        """Networks that learned from boxes shrunk whole see boxes, and others do not."""
        if self.preprocess.mode != "resize":
            return self
        learned, seen = self.preprocess.roi, self.infer.roi
        boxed = [roi not in ROI_WORDS for roi in (learned, seen)]
        if boxed[0] != boxed[1] or seen == "coarse":
            raise ValueError(
                f"preprocess.mode resize with preprocess.roi {learned} and infer.roi {seen}: whole images are shrunk, "
                "or each box of a CSV; name a CSV of boxes in both (python -m lib boxes writes one)"
            )
        if boxed[0] and (self.pseudo.rounds or self.train.round):
            raise ValueError(
                "preprocess.mode resize with a CSV as preprocess.roi: pseudo-labels are made of tiles or whole images, "
                f"not yet of boxes shrunk whole; set pseudo.rounds ({self.pseudo.rounds}) and train.round "
                f"({self.train.round}) to 0"
            )
        return self
