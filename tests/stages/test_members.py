"""Members are replaced by complete ones only, are scored anew without training, and go on after a kill."""

import json
import runpy
from pathlib import Path

import pytest

from lib.config import flat, load
from lib.config.old_names import OLD_NAMES
from lib.oof import member_scores as scores
from lib.stage import FORMAT
from lib.training import member_folder as places
from lib.workspace import Member, Workspace, read_json, write_json

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def train(config, *flags):
    run("03_train", config, "--train.folds", "0", *flags)


@pytest.fixture
def trained(tiny):
    run("01_preprocess", tiny)
    run("02_make_folds", tiny)
    train(tiny)
    return tiny


@pytest.fixture
def folder(trained):
    return trained.parent / "work/runs/base/fold0_seed42"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Killed(BaseException):
    pass


def test_a_finished_member_stays_until_its_successor_is_complete(trained, folder, monkeypatch):
    before = contents(folder)
    beside = folder.parents[1] / ".new/base/fold0_seed42"

    def die(*_):
        raise Killed

    monkeypatch.setattr(places, "file_fingerprint", die)  # when the new networks are complete, and not yet scored
    with pytest.raises(Killed):
        train(trained, "--train.lr", "0.02")
    assert contents(folder) == before and (beside / "last_weights.pt").is_file()
    assert [m.path for m in Workspace(trained.parent / "work").members(["base"])] == [folder]
    train(trained)
    assert contents(folder) == before, "it is up to date"

    monkeypatch.undo()
    steps = len((beside / "metrics.jsonl").read_text().splitlines())
    train(trained, "--train.lr", "0.02")
    after = contents(folder)
    assert after["last_weights.pt"] != before["last_weights.pt"] and not beside.exists()
    assert len(after["metrics.jsonl"].splitlines()) == steps, "it went on from its last save"
    assert not list(folder.parents[1].glob(".new/base/*"))


def test_killed_between_the_two_renames_the_new_member_takes_its_place(trained, folder):
    train(trained, "--train.lr", "0.02")
    lines, weights = (folder / "metrics.jsonl").read_text(), (folder / "last_weights.pt").read_bytes()
    beside = folder.parents[1] / ".new/base/fold0_seed42"
    beside.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(beside)  # the old one is away, the new one not yet there, and no manifest written
    (trained.parent / "work/manifests/03_base_fold0_seed42.json").unlink()
    train(trained, "--train.lr", "0.02")
    assert (folder / "metrics.jsonl").read_text() == lines and not beside.exists(), "nothing was trained"
    assert (folder / "last_weights.pt").read_bytes() == weights and (folder / "done.json").is_file()


def test_another_metric_or_window_scores_again_and_trains_nothing(trained, folder, capsys, monkeypatch):
    before, scored = contents(folder), read_json(folder / "done.json", {})
    seen, real = [], scores.score_images

    def score(*given):
        seen.append(given[0].config.competition.metric)
        return real(*given)

    monkeypatch.setattr(scores, "score_images", score)
    train(trained)
    assert seen == []
    train(trained, "--competition.metric", "dice")
    after = contents(folder)
    assert seen == ["dice"] and {name for name in before if before[name] != after[name]} == {"done.json"}
    again = json.loads(after["done.json"])
    assert again["score"] != scored["score"] and again["steps"] == scored["steps"]
    train(trained, "--competition.metric", "dice")
    assert seen == ["dice"]
    train(trained, "--competition.metric", "dice", "--infer.window", "64")
    assert len(seen) == 2 and "infer.window changed from 96 to 64" in capsys.readouterr().out
    train(trained)
    assert json.loads((folder / "done.json").read_bytes())["score"] == scored["score"]


def test_scores_anew_leave_what_was_made_with_the_networks(trained, folder, capsys):
    run("03_train", trained)
    run("04_pseudo_label", trained, "--train.round", "1")
    run("03_train", trained, "--competition.metric", "dice")
    capsys.readouterr()
    run("04_pseudo_label", trained, "--train.round", "1")
    assert "04_pseudo_label_round1: up to date" in capsys.readouterr().out


# What version 1 wrote into the manifest of a training, and beside it.
V1 = [
    "model.architecture", "model.encoder", "model.weights", "model.decoder_channels", "model.options",
    "model.stem", "model.classifier", "model.deep_supervision", "augment.preset", "augment.color", "augment.stain",
    "augment.scale", "augment.rotate", "augment.mix", "augment.mix_share", "train.experiment", "train.round",
    "train.crop", "train.epochs", "train.member_limit", "train.scale", "train.batch_size", "train.accumulate",
    "train.optimizer", "train.lr", "train.encoder_lr", "train.layer_decay", "train.checkpointing", "train.frozen",
    "train.weight_decay", "train.warmup", "train.schedule", "train.min_lr", "train.clip", "train.precision",
    "train.channels_last", "train.compile", "train.ema", "train.swa.start", "train.swa.every",
    "train.swa.schedule", "train.swa.lr", "train.swa.bn_batches", "train.checkpoints", "train.checkpoints_from",
    "train.soup", "train.sampling.sampler", "train.sampling.fraction", "train.sampling.foreground_share",
    "train.sampling.foreground_share_end", "train.sampling.alike", "train.sampling.difficulty",
    "train.sampling.samples_per_epoch", "train.loss.terms", "train.loss.then", "train.loss.label_smoothing",
    "train.loss.soft_edges", "train.loss.ignore_border", "train.loss.presence", "train.loss.deep",
    "train.loss.class_weights", "train.evaluations",
]  # fmt: skip


def as_version_1(folder, *flags):
    """Make a member what the first version left: no trained.json, no manifest of scores, no format, no contents."""
    workspace = Workspace(folder.parents[2])
    manifest = workspace.root / "manifests/03_base_fold0_seed42.json"
    record = read_json(manifest, {})
    made_from = record["made_from"]
    config = load(folder.parents[3] / "tiny.yaml", list(flags))
    old = {key: value for key, value in made_from.items() if key.startswith("file ")}
    for name in V1:
        value = flat(config)[OLD_NAMES.get(name, name)]
        old[f"option {name}"] = json.loads(json.dumps(value))
    outputs = [str(folder / name) for name in ("done.json", "last_weights.pt")]
    kept = {key: value for key, value in record.items() if key not in ("format", "made")}
    write_json(manifest, {**kept, "made_from": old, "outputs": outputs})
    write_json(folder / "begun.json", old)
    (folder / "trained.json").unlink()
    for path in (workspace.root / "manifests/scores").glob("*.json"):
        path.unlink()
    return manifest


def test_a_member_of_the_first_version_is_up_to_date_and_scored_again_alone(trained, folder, capsys):
    flags = ["--preprocess.min_object_pixels", "3"]  # which that version did not note
    flags += ["--train.sampling.balance", "images"]  # which it noted under another name
    run("01_preprocess", trained, *flags)
    train(trained, *flags)
    manifest = as_version_1(folder, *flags)
    before = contents(folder)
    capsys.readouterr()
    train(trained, *flags)
    out = capsys.readouterr().out
    assert "03_base_fold0_seed42: up to date" in out and "again" not in out
    assert contents(folder) == before and read_json(manifest, {})["format"] == FORMAT
    train(trained, *flags, "--competition.metric", "dice")
    assert "scored again" in capsys.readouterr().out
    after = contents(folder)
    assert after["trained.json"] == before["done.json"], "its identity is what it was"
    assert {name for name in before if before[name] != after[name]} == {"done.json"}


def test_a_half_trained_member_of_the_first_version_goes_on(trained, folder, capsys):
    as_version_1(folder)
    (folder / "done.json").unlink()
    (trained.parent / "work/manifests/03_base_fold0_seed42.json").unlink()
    lines = (folder / "metrics.jsonl").read_text()
    train(trained)
    assert (folder / "metrics.jsonl").read_text() == lines and (folder / "done.json").is_file()


def test_two_trainings_may_end_in_the_same_networks_but_a_copied_folder_is_left_out(tmp_path, capsys):
    workspace = Workspace(tmp_path)
    for fold, trained_here in ((0, True), (1, True), (2, False)):
        member = Member("base", fold, 42, workspace.member_dir("base", fold, 42))
        member.path.mkdir(parents=True)
        for name in ("done.json", "trained.json"):
            write_json(member.path / name, {"networks": "the same"})
        if trained_here:
            workspace.manifest_of(member).parent.mkdir(exist_ok=True)
            write_json(workspace.manifest_of(member), {})
    assert [member.fold for member in workspace.members(["base"])] == [0, 1]
    assert "fold2_seed42 is left out, because it holds the networks of base/fold0_seed42" in capsys.readouterr().out
