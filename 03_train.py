"""Stage 3: train members, each one experiment x fold x seed.

    python 03_train.py configs/aerial.yaml                                     # all folds, all seeds
    python 03_train.py configs/aerial.yaml --train.folds 0 --train.seeds 42    # one member
    python 03_train.py configs/aerial.yaml --train.experiment big --model.architecture fpn --train.crop 512
    python 03_train.py configs/aerial.yaml --train.round 1                     # on the pseudo-labels of 04
    python 03_train.py configs/aerial.yaml --train.round 1 --train.folds all   # one network of all images and labels
    torchrun --nproc_per_node 4 03_train.py configs/aerial.yaml                # four GPUs share every batch

A killed training goes on from where it last saved itself when the same command is given again. A finished member of
other options is replaced when its successor is complete; another metric or window scores it anew. Each member leaves,
in work/<name>/runs/<experiment>/fold<f>_seed<s>/: network.yaml, resolved.yaml, metrics.jsonl, last.pt (to go on from),
{last,swa,ema,best}_weights.pt (to predict with) and done.json (its scores on the fold's whole images,
and of each image alone). One of all images is all_seed<s>/, and has no scores.
"""

import time

STARTED = time.monotonic()  # the imports below take their seconds, too

from lib import tables
from lib.competition.dataset import Competition
from lib.config import parse_command_line, save
from lib.config.load import workspace_of
from lib.data.folds import ONE_GROUP
from lib.errors import UserError, run_script
from lib.oof.member_scores import as_json, note_scores, score_again, scores_of
from lib.oof.score_images import Scored, images_of_fold, score
from lib.plugins import load_plugins
from lib.preflight.forecast import scoring_seconds
from lib.report.page import update_report
from lib.report.show import worst_pictures
from lib.report.trackers import open_tracker
from lib.stages import member_stage
from lib.system.device import loading_processes, machine_of, pick_device
from lib.system.provenance import environment
from lib.system.terminal import begin
from lib.system.text_table import text_table
from lib.training.autotune import settle
from lib.training.distributed import Team, assemble
from lib.training.member import (
    make_data,
    make_trainer,
    member_inputs,
    pretraining,
    training_tiles,
)
from lib.training.member_folder import begin as begin_member
from lib.training.member_folder import note_training, place_of, take_place
from lib.training.time_limit import EPOCHS_KEPT, Budget, trained_alike, with_judges
from lib.workspace import ALL, Member, Workspace, read_json, round_experiment, write_json


def main(argv: list[str]) -> None:
    config = parse_command_line(argv, "03_train.py")
    begin(config)
    load_plugins(config.plugins)
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    device = pick_device(config.train.device, config.train.threads)
    team = assemble(device)
    folds = tables.read_folds(workspace.folds, tables.read(workspace.images, tables.IMAGES, "01_preprocess.py"))
    every_fold = sorted(set(folds["fold"].tolist()) - {-1})
    strangers = sorted(set(config.train.folds) - {*every_fold, "all"})
    if strangers:
        raise UserError(f"train.folds names fold {strangers[0]}, but {workspace.folds} has {every_fold}")
    if not every_fold and set(config.train.folds) != {"all"}:
        raise UserError(f"{workspace.folds} has no fold to validate on: {ONE_GROUP}")
    experiment = round_experiment(config.train.experiment, config.train.round)
    members = [
        Member(experiment, fold, seed, workspace.member_dir(experiment, fold, seed))
        for seed in config.train.seeds
        for fold in (ALL if fold == "all" else fold for fold in config.train.folds or every_fold)
    ]
    if config.train.time_limit:
        train_in_time(members, config, competition, workspace, folds, device, team)
    else:
        for number, member in enumerate(members):
            train_member(member, config, competition, workspace, folds, device, team, len(members) - number)
    team.part()
    print(text_table([row_of(member) for member in members if (member.path / "done.json").is_file()]))


def train_in_time(members: list[Member], config, competition, workspace: Workspace, folds, device, team) -> None:
    """All members, or as many as `train.time_limit` is enough for; a single one keeps checkpoints, to be averaged."""
    members = with_judges(members, workspace)
    fold = max(member.fold for member in members)  # `ALL` images are not scored
    validation = images_of_fold(workspace, folds, fold)
    with team.leader_first():  # what it measures is there for the others to read
        scoring = scoring_seconds(validation, config, competition.channels)
        made_from = [
            member_stage(member, config, workspace, member_inputs(workspace, config)).now for member in members
        ]
        made_from.append(machine_of(device))
        budget = Budget(config, workspace, members, scoring, STARTED, made_from)
    for number, member in enumerate(budget.members):
        update = {"member_limit": team.leaders(budget.seconds(member) if team.leads else 0.0)}
        if len(budget.members) == 1 < len(members):
            update["checkpoints"] = max(EPOCHS_KEPT, config.train.checkpoints)
            print("03: one member is left; it keeps checkpoints, which 05 averages with --infer.checkpoints epochs")
        if member.fold == ALL:
            update |= trained_alike(member, workspace, update["member_limit"])
        train = config.train.model_copy(update=update)
        own, left = config.model_copy(update={"train": train}), len(budget.members) - number
        train_member(member, own, competition, workspace, folds, device, team, left)


def row_of(member: Member) -> dict:
    done = read_json(member.path / "done.json", {})
    return {
        "member": member.name, "OOF score": done["score"], "seconds": done["seconds"], "steps": done["steps"],
        "images/s": done["images_per_second"], "waiting for data": f"{done['waiting_share']:.0%}",
    }  # fmt: skip


def train_member(
    member: Member, config, competition: Competition, workspace: Workspace, folds, device, team: Team, left: int
) -> None:
    """Train one member unless it is done, and score it on its fold's whole images. `left`: members, with this one.

    Of a team, all train; what is written is the leader's.
    """
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    stage = member_stage(member, config, workspace, member_inputs(workspace, config))
    if team.leaders(stage.up_to_date()):
        if team.leads:
            score_again(member, config, competition, workspace, folds, images, device)
        return
    with team.leader_first():
        own = begin_member(member, stage, workspace) if team.leads else place_of(member, stage, workspace)
    if team.leads:
        write_json(own.path / "environment.json", environment(device))
        save(config, own.path / "resolved.yaml")
    done = run_training(own, config, competition, workspace, folds, device, team, left)
    team.wait()
    if not team.leads:
        return
    stage.begin()
    take_place(own.path, member.path)
    stage.finish([member.path / name for name in ("done.json", "trained.json", "last_weights.pt")], **done)
    note_scores(member, config, workspace, folds, images)
    update_report(config)
    if config.clean.use and done["scores"]:
        print("03: labels were judged by members that saw this fold's images; its OOF score is a little optimistic")
    told = f"OOF {done['score']:.4f}" if done["scores"] else "all images, so no OOF score of its own,"
    print(f"03: {member.name}: {told} after {done['steps']} steps in {done['seconds']:.0f} s ({done['precision']})")


def run_training(
    member: Member, config, competition: Competition, workspace: Workspace, folds, device, team: Team, left: int
) -> dict:
    """Train a member in its folder and write done.json there, whose facts the leader is given."""
    started = time.monotonic()
    tiles = training_tiles(workspace, folds, member.fold, config, competition)
    workers = loading_processes(config.train.workers, device)
    before = pretraining(tiles, config)  # None: pseudo-labels are mixed in
    tiles, own = (tiles, config) if before is None else (tiles[~tiles["pseudo"]], before.rest)
    data = make_data(tiles, own, competition.channels, member.seed, workers)
    with team.leader_first():
        config = settle(workspace, own, competition.channels, data, device)
    precision = config.train.precision
    trainer = make_trainer(member, config, competition.channels, data, device, team)
    trainers = [trainer]
    if before is not None:
        trainers.append(before.run(trainer, member, competition.channels, left))
    validation = images_of_fold(workspace, folds, member.fold)
    if not team.leads:
        trainer.run((lambda network: 0.0) if validation else None, left)  # the leader's score counts
        return {}
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    tracker = open_tracker(config, member.name, member.path, competition.label_names)
    trainer.watch = tracker.numbers

    def scored(networks: list, quick: bool = False) -> Scored:
        found = score(networks, validation, config, competition, device, precision, quick)
        tracker.pictures(trainer.step, worst_pictures(found, images, competition))
        return found

    trainer.run((lambda network: scored([network], quick=True).score) if validation else None, left)
    results = scores_of(member, config, device, scored) if validation else {}
    tracker.finish()
    seconds = time.monotonic() - started + sum(one.earlier for one in trainers)
    beside = seconds - sum(one.seconds for one in trainers)
    done = {
        "seconds": round(seconds, 1), "beside_seconds": round(beside, 1),
        "train_seconds": round(trainer.seconds, 1), "steps": trainer.step,
        "skipped_steps": sum(one.guard.skipped for one in trainers),
        "precision": precision, "round": config.train.round, "batch_size": data.batch_size,
        "images_per_second": round(trainer.step * data.batch_size / max(trainer.seconds, 1e-9), 2),
        "waiting_share": round(trainer.waited / max(trainer.seconds, 1e-9), 3),
    }  # fmt: skip
    note_training(member.path)
    found = as_json(results)
    write_json(member.path / "done.json", {**done, **found})
    return {"score": found["score"], "scores": found["scores"], **done}


if __name__ == "__main__":
    run_script(main)
