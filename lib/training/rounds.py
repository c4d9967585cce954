"""Whose predictions label what, and which round is worth using."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from lib.config import Config
from lib.config.load import workspace_of
from lib.stage import trained_file
from lib.tables import ANY_FOLD
from lib.workspace import Workspace, file_fingerprint, read_json, round_experiment

TRAINED = ("done.json", "trained.json")  # files of members that 04's manifest names


def labelers(member_folds: list[int], source: str) -> tuple[list[int], list[list[int]]]:
    """For whom labels are made, and by which members (positions in `member_folds`).

    `per_fold`: a fold's labels come only from its own members, which never saw its validation images.
    `ensemble`: from all members, for any fold (`ANY_FOLD`).

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
    """Mean out-of-fold score of each round that was trained, from round 0 on, over the members that all of them have.

    Up to `train.round` where that is given, else `pseudo.rounds`. Rounds whose labels are of members that have been
    trained again since do not count.
    """
    rounds: list[dict[str, float]] = []
    for round_ in range((config.train.round or config.pseudo.rounds) + 1):
        name = round_experiment(config.train.experiment, round_)
        paths = sorted(workspace.runs.glob(f"{name}/fold*_seed*/done.json"))
        if not paths or (round_ and stale(workspace.root / f"manifests/04_pseudo_label_round{round_}.json")):
            break
        rounds.append({path.parent.name: read_json(path, {})["score"] for path in paths})
    common = set.intersection(*map(set, rounds)) if rounds else set()
    return [mean(scores[name] for name in sorted(common)) for scores in rounds] if common else []


def stale(manifest: Path) -> bool:
    """Whether a member that the stage read has changed since."""
    made_from = read_json(manifest, {}).get("made_from", {})
    members = {key.removeprefix("file "): value for key, value in made_from.items() if key.endswith(TRAINED)}
    return any(file_fingerprint(trained_file(Path(path))) != value for path, value in members.items())


def chosen_round(scores: list[float], config: Config) -> int:
    """The round whose members go into the ensemble: the best one; the last where scores cannot tell, or may not.

    They cannot with labels of the whole ensemble, which flatter later rounds.
    """
    if not config.pseudo.patience or config.pseudo.source == "ensemble":
        return max(0, len(scores) - 1)
    return scores.index(max(scores)) if scores else 0


def goes_on(scores: list[float], config: Config) -> bool:
    """Whether another round is worth while: one of the last `pseudo.patience` rounds was the best so far."""
    return len(scores) <= config.pseudo.rounds and (
        chosen_round(scores, config) > len(scores) - 1 - max(1, config.pseudo.patience)
    )


def chosen_experiment(config: Config, workspace: Workspace) -> str:
    """The experiment of the chosen round; says so where a later one was trained."""
    scores = round_scores(config, workspace)
    chosen = chosen_round(scores, config)
    if chosen < len(scores) - 1:
        told = ", ".join(f"{score:.4f}" for score in scores)
        print(f"the members of pseudo-label round {chosen} are taken: the rounds' mean OOF scores are {told}")
    return round_experiment(config.train.experiment, chosen)


def print_chosen_round(config: Config) -> None:
    print(chosen_round(round_scores(config, Workspace(workspace_of(config))), config))


def print_goes_on(config: Config) -> None:
    print("yes" if goes_on(round_scores(config, Workspace(workspace_of(config))), config) else "no")
