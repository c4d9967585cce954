"""Pseudo-label rounds: which members label the images for which fold, and which round's members are used."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from lib.config import Config
from lib.config.load import workspace_of
from lib.digests import places_of
from lib.stage import trained_file
from lib.tables import ANY_FOLD
from lib.workspace import Workspace, file_fingerprint, read_json, round_experiment

MEMBER_FILES = ("done.json", "trained.json")  # files of members that the manifest of 04 names


def labelers(member_folds: list[int], source: str) -> tuple[list[int], list[list[int]]]:
    """(folds, their labelers): the folds that get pseudo-labels, and for each the positions in `member_folds` of the
    members that make them.

    `per_fold`: labels for a fold come only from the members of this fold, which never saw its validation images.
    `ensemble`: labels come from all members and are used in any fold (`ANY_FOLD`).

    >>> labelers([0, 0, 1], "per_fold")
    ([0, 1], [[0, 1], [2]])
    >>> labelers([0, 0, 1], "ensemble")
    ([-1], [[0, 1, 2]])
    """
    if source == "ensemble":
        return [ANY_FOLD], [list(range(len(member_folds)))]
    folds = sorted(set(member_folds))
    return folds, [[i for i, fold in enumerate(member_folds) if fold == wanted] for wanted in folds]


def round_scores(config: Config, workspace: Workspace) -> list[float]:
    """Mean out-of-fold score of each trained round from round 0 on, over the folds and seeds that all rounds have.

    Up to `train.round` where that is set, else up to `pseudo.rounds`. Stops before a round with outdated labels.
    """
    rounds: list[dict[str, float]] = []
    for round_ in range((config.train.round or config.pseudo.rounds) + 1):
        name = round_experiment(config.train.experiment, round_)
        members = workspace.fold_members(name)
        if not members or (
            round_ and labels_are_outdated(workspace.root / f"manifests/04_pseudo_label_round{round_}.json")
        ):
            break
        rounds.append({member.path.name: read_json(member.path / "done.json", {})["score"] for member in members})
    common = set.intersection(*map(set, rounds)) if rounds else set()
    return [mean(scores[name] for name in sorted(common)) for scores in rounds] if common else []


def labels_are_outdated(manifest: Path) -> bool:
    """Whether a member that made the labels of 04's `manifest` has been trained again since."""
    made_from = read_json(manifest, {}).get("made_from", {})
    members = {key.removeprefix("file "): value for key, value in made_from.items() if key.endswith(MEMBER_FILES)}
    places = places_of(manifest)
    return any(file_fingerprint(trained_file(places.path(name))) != value for name, value in members.items())


def chosen_round(scores: list[float], config: Config) -> int:
    """The round whose members form the ensemble: the one with the best score.

    The last round instead where `pseudo.patience` is 0, or where all members label (`pseudo.source ensemble`): then
    labels leak from the validation images, and the scores of later rounds are too good.
    """
    if not config.pseudo.patience or config.pseudo.source == "ensemble":
        return max(0, len(scores) - 1)
    return scores.index(max(scores)) if scores else 0


def needs_another_round(scores: list[float], config: Config) -> bool:
    """Whether another round should be trained: one of the last `pseudo.patience` rounds has the best score so far."""
    return len(scores) <= config.pseudo.rounds and (
        chosen_round(scores, config) > len(scores) - 1 - max(1, config.pseudo.patience)
    )


def chosen_experiment(config: Config, workspace: Workspace) -> str:
    """The experiment of the chosen round. Prints a line where a later round was trained."""
    scores = round_scores(config, workspace)
    chosen = chosen_round(scores, config)
    if chosen < len(scores) - 1:
        means = ", ".join(f"{score:.4f}" for score in scores)
        print(f"the members of pseudo-label round {chosen} are taken: the rounds' mean OOF scores are {means}")
    return round_experiment(config.train.experiment, chosen)


def print_chosen_round(config: Config) -> None:
    print(chosen_round(round_scores(config, Workspace(workspace_of(config))), config))


def print_another_round(config: Config) -> None:
    print("yes" if needs_another_round(round_scores(config, Workspace(workspace_of(config))), config) else "no")
