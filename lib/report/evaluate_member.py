"""The scores of a member during and after its training, computed on whole images and shown in a tracker."""

from __future__ import annotations

from torch import nn

from lib.oof.member_scores import as_json, scores_of
from lib.oof.score_images import Scored, images_of_fold, score_images
from lib.report.show import worst_pictures
from lib.report.trackers import open_tracker
from lib.session import Session
from lib.training.trainer import Trainer
from lib.workspace import Member


class MemberEvaluation:
    """Scores one member on its fold's validation images; `report.tracker` shows them and the training's numbers.

    03 hands it to `train_member` of lib/training, which knows no whole images.
    """

    def __init__(self, session: Session, member: Member, trainer: Trainer):
        """`session`: with the options of this training, no `auto` left in them."""
        self.session, self.member, self.trainer = session, member, trainer
        self.validation = images_of_fold(session, member.fold)
        names = session.competition.label_names
        self.tracker = open_tracker(session.config, member.name, member.path, names)
        trainer.on_log = self.tracker.numbers

    def score(self, network: nn.Module) -> float:
        """A quick score during training: windows do not overlap."""
        return self._scored([network], quick=True).score

    def final_scores(self) -> dict[str, object]:
        """The entries `score`, `scores` and `images` of done.json. Closes the tracker."""
        results = {}
        if self.validation:
            results = scores_of(self.session, self.member, self._scored)
        self.tracker.finish()
        return as_json(results)

    def _scored(self, networks: list[nn.Module], quick: bool = False) -> Scored:
        session, precision = self.session, self.session.config.train.precision
        scored = score_images(session, networks, self.validation, precision, quick)
        self.tracker.pictures(self.trainer.step, worst_pictures(scored, session.images, session.competition))
        return scored
