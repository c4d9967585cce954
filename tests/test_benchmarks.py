"""The benchmarks: log, keys, paired effects, verdicts, ranks, what a switch becomes, and score against seconds."""

import json
import math
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from records import done, manifest

from benchmarks import (
    ablation,
    arms,
    channels,
    effects,
    ensemble,
    external,
    modes,
    mutants,
    rounds,
    settings,
    soak,
    tile_formats,
    trials,
)
from benchmarks.rankings import Result, scorer, tau_with_interval
from benchmarks.settings import Setting
from benchmarks.switches import SWITCHES, Switch, plan, resolve
from benchmarks.trial_log import Budget, Log, expected_seconds, key_of
from lib import tables
from lib.config.load import workspace_of
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.inference.checkpoints import named_checkpoints
from lib.session import Session
from lib.training.member import training_tiles
from lib.workspace import Workspace, file_fingerprint, read_json, round_experiment, write_json

ROOT = Path(__file__).resolve().parents[1]


def test_an_effect_is_the_mean_of_paired_differences_with_its_standard_error():
    found = effects.paired_effect([0.01, 0.03, 0.05, 0.03])
    assert found["effect"] == 0.03 and found["pairs"] == 4 and found["verdict"] == "helps"
    assert math.isclose(found["se"], np.std([0.01, 0.03, 0.05, 0.03], ddof=1) / 2, abs_tol=1e-6)
    assert effects.paired_effect([0.2]) == {"effect": 0.2, "se": None, "pairs": 1, "verdict": "not shown"}


@pytest.mark.parametrize(
    ("effect", "se", "pairs", "expected"),
    [
        (0.03, 0.01, 3, "helps"),
        (-0.03, 0.01, 3, "hurts"),
        (0.02, 0.01, 3, "not shown"),  # exactly two standard errors
        (0.30, 0.01, 2, "not shown"),  # two pairs are too few
        (0.30, None, 1, "not shown"),
    ],
)
def test_verdict(effect, se, pairs, expected):
    assert effects.verdict(effect, se, pairs) == expected


def accuracy(counts):
    right, pixels, _ = counts.sum((0, 1))
    return right / pixels


def result(images, right):
    """A configuration that has `right` of 100 pixels of every image right."""
    counts = np.array([[[r, 100, r], [0, 0, 100 - r]] for r in right])
    return Result(images, counts, seconds=1, steps=1)


def test_tau_of_the_same_ranking_is_one_of_the_reverse_minus_one_and_the_interval_knows_the_images():
    images = [f"im{i}" for i in range(6)]
    full = [result(images, [50 + 10 * k] * 6) for k in range(4)]
    scores = scorer(full, images, accuracy)
    assert tau_with_interval(scores, scores, 6, draws=50) == {"tau": 1.0, "interval": [1.0, 1.0]}
    back = scorer(full[::-1], images, accuracy)
    assert tau_with_interval(scores, back, 6, draws=50) == {"tau": -1.0, "interval": [-1.0, -1.0]}
    # Only the first image puts the first configuration before the second in `other`: draws with it twice agree.
    close = [result(images, [60, *[50] * 5]), result(images, [50] * 6), result(images, [90] * 6)]
    other = [result(images, [70, *[50] * 5]), result(images, [50, *[55] * 5]), result(images, [90] * 6)]
    found = tau_with_interval(*(scorer(r, images, accuracy) for r in (close, other)), 6, draws=200)
    assert found == {"tau": 0.333, "interval": [0.333, 1.0]}


def test_a_mode_with_fewer_images_is_scored_on_those_it_has():
    images = ["a", "b", "c"]
    scores = scorer([result(["c", "a"], [80, 40])], images, accuracy)
    assert scores(np.array([0, 1])) == [0.4] and scores(np.array([2, 2, 0])) == [pytest.approx(200 / 300)]
    assert math.isnan(scores(np.array([1, 1]))[0])


def test_tau_without_a_ranking_is_none():
    def alike(chosen):
        return [0.5, 0.5, 0.5]

    assert tau_with_interval(alike, alike, 4, draws=20) == {"tau": None, "interval": None}


def test_a_log_keeps_the_latest_line_of_a_key_and_survives_a_line_cut_short(tmp_path):
    log = Log(tmp_path / "results/log.jsonl")
    assert log.lines() == []
    log.add({"key": "a", "score": 1})
    log.path.write_text(log.path.read_text() + '{"key": "b", "sc')
    log.add({"key": "a", "score": 2})
    log.add({"key": "c", "score": 3})
    assert {key: line["score"] for key, line in log.latest().items()} == {"a": 2, "c": 3}


def test_a_budget_that_is_used_up_begins_nothing():
    assert Budget(0).fits(1e9)
    assert Budget(10).fits(60) and not Budget(10).fits(601)


def test_what_a_trial_will_take_is_the_longest_of_its_kind_so_far():
    lines = [
        {"kind": "train", "competition": "demo", "seconds": 60, "wall_seconds": wall} for wall in (90.0, 120.0)
    ]  # fmt: skip
    assert expected_seconds(lines, "train", "demo", 60) == 120
    assert expected_seconds(lines, "train", "aerial", 60) > 60


def test_keys_hold_what_a_score_depends_on_and_nothing_else(tiny):
    given = ["--train.lr", "0.02"]
    base = Setting.of(str(tiny), given)
    assert base.hash({}) == Setting.of(str(tiny), [*given, "--workspace", "elsewhere", "--jobs", "2"]).hash({})
    assert base.hash({}) != Setting.of(str(tiny), ["--train.lr", "0.03"]).hash({})
    assert base.hash({"train.ema": "0.9"}) != base.hash({}) != base.hash({"train.ema": "0.99"})
    before = base.hash({})
    text = tiny.read_text()
    tiny.write_text(text + "\n# a comment\n")
    assert base.hash({}) == before
    tiny.write_text(text.replace("batch_size: 4", "batch_size: 5", 1))
    assert base.hash({}) != before
    keys = {key_of("demo", "ema", seed, fold, s, "x") for seed in (1, 2) for fold in (0, 1) for s in (5, 60)}
    assert len(keys) == 8


def test_results_from_before_an_option_was_renamed_are_found(tiny, tmp_path):
    new, old = tmp_path / "new.yaml", tmp_path / "old.yaml"
    new.write_text("train: {sampling: {balance: images}}\ninfer: {min_gain: 0.002}\npseudo: {confidence: sure}\n")
    old.write_text("pseudo: {by: sure}\ntrain: {sampling: {alike: images}}\ninfer: {pays: 0.002}\n")
    given = ("--infer.checkpoints", "swa"), ("--infer.weights", "swa")
    settings_ = [Setting(path, words, tmp_path, "c") for path, words in zip((new, old), given, strict=True)]
    hashes = [
        setting.hash({name: "20m"})
        for setting, name in zip(settings_, ("train.min_member_time", "train.shortest"), strict=True)
    ]
    assert hashes[0] == hashes[1] != settings_[0].hash({"train.min_member_time": "30m"})
    log = Log(tmp_path / "log.jsonl")
    log.add({"key": "a", "options": {"pseudo.by": "sure", "train.lr": "1"}})
    assert log.lines()[0]["options"] == {"pseudo.confidence": "sure", "train.lr": "1"}


def test_options_reach_the_scripts_after_the_users_own(tiny):
    setting = Setting.of(str(tiny), ["--train.lr", "0.02"])
    assert setting.config({"train.lr": "0.5", "infer.checkpoints": "[swa, last]"}).train.lr == 0.5
    assert setting.config({"model.options": "{depth: 3}"}).model.options == {"depth": 3}
    assert setting.config().train.lr == 0.02
    assert setting.changes({"train.lr": "0.03"}) and not setting.changes({"train.lr": "0.02"})


def test_a_trick_that_the_yaml_has_is_turned_off_and_one_that_it_has_not_on(tiny):
    setting = Setting.of(str(tiny), [])  # tiles of 96 that overlap by a third
    variant = resolve(SWITCHES["overlapping_tiles"], setting)
    assert variant.trick == "off" and variant.options == {"preprocess.stride": "0"}
    plain = Setting.of(str(tiny), ["--preprocess.stride", "0"])
    variant = resolve(SWITCHES["overlapping_tiles"], plain)
    assert variant.trick == "on" and variant.options == {"preprocess.stride": "72"}
    with pytest.raises(UserError, match="does it already"):
        resolve(SWITCHES["double_scale"], setting)
    with pytest.raises(UserError, match="unknown option --train.nonsense"):
        resolve(Switch("train", {"train.nonsense": "1"}), setting)


def test_a_switch_compared_with_what_the_yaml_does_already_is_compared_with_the_baseline(tiny):
    setting = Setting.of(str(tiny), [])  # windows overlap by half
    planned = plan(setting, ["center_only", "swa_constant"])
    assert "half_overlap" not in planned and planned["center_only"].against == "baseline_05"
    assert planned["swa_constant"].against == "swa_annealed last" and "swa_annealed" in planned


def test_every_switch_and_configuration_is_accepted_or_names_why_not(tiny, capsys):
    setting = Setting.of(str(tiny), [])
    planned = plan(setting, list(SWITCHES))
    skipped = [line for line in capsys.readouterr().out.splitlines() if "is skipped: " in line]
    assert len(planned) + len(skipped) == len(SWITCHES)
    assert {switch.against.split()[0] for switch in SWITCHES.values()} <= {*SWITCHES, "own"}
    assert len(modes.CONFIGURATIONS) >= 8


def line(switch, seed, value, trick="on", weights="swa", **more):
    return {
        "competition": "c", "switch": switch, "seed": seed, "trick": trick, "options": {}, "scores": {weights: value},
        "base": "b", "fold": 0, "seconds": 60, "against": SWITCHES[switch].against, **more,
    }  # fmt: skip


def test_effects_are_of_the_trick_being_on_and_paired_by_seed():
    lines = [line("baseline", seed, 0.6 + seed / 100, steps=100) for seed in (1, 2, 3)]
    lines += [line("color", seed, 0.5 + seed / 100, "off", steps=200) for seed in (3, 1, 4)]  # 4 has no baseline
    found = ablation.effect_of("color", lines)
    assert found["effect"] == pytest.approx(0.1) and found["pairs"] == 2 and found["steps"] == 0.5
    assert ablation.effect_of("color", lines[-1:]) is None


def test_a_pass_is_compared_with_the_same_members_pass_and_averages_with_their_own_last_weights():
    old, new = ({"member": name, "infer_seconds": seconds} for name, seconds in (("m1", 2.0), ("m2", 4.0)))
    lines = [line("baseline_05", 1, 0.5, weights="05", **old), line("baseline_05", 1, 0.9, weights="05", **new)]
    lines.append(line("flips_tta", 1, 0.52, weights="05", member="m1", infer_seconds=8.0))
    found = ablation.effect_of("flips_tta", lines)
    assert found["effect"] == pytest.approx(0.02) and found["seconds"] == 4.0
    average = line("ema", 1, 0.0, scores={"ema": 0.7, "last": 0.6})
    assert ablation.effect_of("ema", [average])["effect"] == pytest.approx(0.1)


def test_the_table_takes_the_lines_of_a_competitions_last_baseline(capsys):
    old = [{**line("baseline", 1, 0.1), "base": "older"}, {**line("color", 1, 0.2), "base": "older"}]
    new = [line("baseline", 1, 0.6, score=0.6), line("color", 1, 0.5, "off")]
    assert ablation.newest([*old, *new]) == new
    ablation.report(new, ["baseline", "color", "ema"], {})
    out = capsys.readouterr().out
    assert "| color | +0.1000 (1), not shown |" in out and "| ema | not yet |" in out


def test_the_table_tells_trainings_of_other_lengths_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "LOG", Log(tmp_path / "log.jsonl"))
    monkeypatch.setattr("sys.argv", ["ablation.py", "--table"])
    for seconds, value in ((60, 0.7), (0, 0.5)):
        for one in (line("baseline", 1, 0.6, score=0.6), line("color", 1, value)):
            ablation.LOG.add({**one, "seconds": seconds})
    ablation.main()
    epochs, clock = capsys.readouterr().out.split("60 s of training")
    assert "Equal epochs" in epochs and "| color | -0.1000 (1)" in epochs
    assert "| color | +0.1000 (1)" in clock


@pytest.fixture
def pretended(tiny, tmp_path, monkeypatch):
    """rounds.py on three folds, with a log of its own; nothing runs. Scripts and trainings are written down.

    04 labels as many tiles as the experiment that it is given has members.
    """
    called = []

    def run(script, *words):
        flags = dict(zip(words[1::2], words[2::2], strict=True))
        if script == "04_pseudo_label.py":
            round_, experiment = int(flags["--train.round"]), flags["--train.experiment"]
            workspace = Workspace(flags["--workspace"])
            members = workspace.members([round_experiment(experiment, round_ - 1)])
            called.append((script, flags["--pseudo.source"], flags["--pseudo.hard"], {m.fold for m in members}))
            record = manifest(seconds=5.0, facts={"tiles": len(members)})
            write_json(workspace.root / f"manifests/04_pseudo_label_round{round_}.json", record)

    def train(setting, training, options, workspace):
        experiment, fold, seed, seconds = training
        called.append(("train", int(options["train.round"]), fold, seconds))
        home = Workspace(workspace_of(setting.config(workspace=workspace)))
        folder = home.member_dir(round_experiment(experiment, int(options["train.round"])), fold, seed)
        score = 0.5 + int(options["train.round"]) / 10 + seed / 1000
        write_json(folder / "done.json", done(score=score, of=experiment))
        return {
            "score": score, "train_seconds": seconds, "wall_seconds": seconds,
            "member": file_fingerprint(folder / "done.json"),
        }  # fmt: skip

    monkeypatch.setattr(settings, "WORK", tmp_path / "trials")
    monkeypatch.setattr(trials, "run", run)
    monkeypatch.setattr(trials, "train", train)
    monkeypatch.setattr(trials, "prepare_own_tiles", lambda setting, options, workspace: None)
    monkeypatch.setattr(Setting, "folds", lambda self: [0, 1, 2])
    monkeypatch.setattr(rounds, "LOG", Log(tmp_path / "rounds.jsonl"))
    monkeypatch.setattr(rounds.Bench, "guesses", dict.fromkeys(arms.ARMS, 50.0))

    def program(*words):
        called.clear()
        rounds.main([str(tiny), "--seconds", "10", *words])
        return list(called)

    return program


def test_each_arm_learns_from_its_own_teachers_and_no_member_is_trained_twice(pretended, capsys, tmp_path):
    label, train = "04_pseudo_label.py", "train"
    assert pretended("--seeds", "1") == [
        (train, 0, 0, 10.0),
        (train, 0, 0, 20.0),
        (label, "per_fold", "false", {0}), (train, 1, 0, 10.0),
        (label, "per_fold", "true", {0}), (train, 1, 0, 10.0),
        (label, "per_fold", "false", {0}), (train, 2, 0, 10.0),
        (train, 0, 1, 10.0), (train, 0, 2, 10.0),
        (label, "ensemble", "false", {0, 1, 2}), (train, 1, 0, 10.0),
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert "round0, seed 1, fold 0: members to train: 8, about 8 minutes" in out  # 8 x 50 s and 90 s of training
    arms = json.loads(out.splitlines()[-1])["arms"]
    assert {name: arm["seconds"] for name, arm in arms.items()} == {
        "round0": 10, "round0_longer": 20, "round1": 25, "round1_hard": 25, "round2": 40, "round1_ensemble": 45,
    }  # fmt: skip
    assert arms["round1_ensemble"]["tiles"] == 3 and arms["round1"]["round0"]["effect"] == 0.1
    assert pretended("--seeds", "1") == []
    assert len(pretended("--seeds", "1", "2", "--arms", "round1")) == 3  # the second seed's
    assert {"tiny--rounds-seed1", "tiny--rounds-seed2"} <= {path.name for path in (tmp_path / "trials").iterdir()}


def test_a_member_that_is_gone_is_trained_again_only_where_it_has_to_label(pretended, tmp_path):
    pretended("--seeds", "1", "--arms", "round1")
    shutil.rmtree(tmp_path / "trials")
    assert pretended("--seeds", "1", "--arms", "round1") == []
    again = pretended("--seeds", "1", "--arms", "round1", "round2")
    assert [call[1] for call in again if call[0] == "train"] == [0, 1, 2]


def test_equal_epochs_are_twice_as_many_for_the_longer_arm(pretended, monkeypatch):
    met, plain = [], trials.train

    def train(setting, training, options, *others):
        met.append((training.seconds, options["train.epochs"]))
        return plain(setting, training, options, *others)

    monkeypatch.setattr(trials, "train", train)
    pretended("--seconds", "0", "--seeds", "1", "--arms", "round0_longer", "--", "--train.epochs", "7")
    assert met == [(0, "7"), (0, "14")]


def test_options_of_the_labeling_are_not_the_trainings(pretended, monkeypatch, tmp_path):
    met, plain = {}, trials.run
    monkeypatch.setattr(trials, "run", lambda script, *words: met.update({script: words}) or plain(script, *words))
    monkeypatch.setattr(trials, "train", lambda *all_, plain=trials.train: met.update(train=all_[2]) or plain(*all_))
    pretended("--seeds", "1", "--arms", "round1_agreement")
    words = met["04_pseudo_label.py"]
    assert words[words.index("--infer.tta") + 1] == "flips"
    assert words[words.index("--pseudo.confidence") + 1] == "agreement"
    assert met["train"]["pseudo.confidence"] == "agreement" and "infer.tta" not in met["train"]
    line = json.loads((tmp_path / "rounds.jsonl").read_text().splitlines()[-1])
    assert line["options"]["infer.tta"] == "flips" and line["kind"] == "round1_agreement"


def test_a_pair_is_a_seed_with_all_its_folds(pretended, capsys):
    pretended("--seeds", "1", "2", "3", "--arms", "round1", "--folds", "0", "1")
    effect = json.loads(capsys.readouterr().out.splitlines()[-1])["arms"]["round1"]["round0"]
    assert effect["pairs"] == 3 and effect["verdict"] == "helps"
    lines = [{"seed": 1, "fold": 0, "score": 0.5}, {"seed": 1, "fold": 1, "score": 0.7}]
    lines.append({"seed": 2, "fold": 0, "score": 0.9})
    assert rounds.scores_of(lines, [0, 1]) == {1: pytest.approx(0.6)}


def test_what_does_not_fit_is_not_begun_nor_what_would_learn_from_it(pretended, capsys):
    assert pretended("--seeds", "1", "--arms", "round1", "--budget", "0.5") == []
    out = capsys.readouterr().out
    assert "round0, seed 1, fold 0: not begun, its 60 s do not fit the budget" in out
    assert "round1, seed 1, fold 0: not begun, it learns from round0, seed 1, fold 0" in out
    assert json.loads(out.splitlines()[-1])["arms"] == {}
    with pytest.raises(UserError, match="fold 7, but stage 2 made"):
        pretended("--folds", "7")


def test_a_replay_has_as_many_passes_as_the_test_images_had():
    replay = ensemble.Replay([{"0": 10, "3": 30, "6": 60}], folds=2, systems=[2])
    drawn = Counter(replay.plan()[0] for _ in range(2000))
    assert set(drawn) == {0, 2, 4}, "of 3 and 6 passes, half are another fold's"
    assert drawn[4] == pytest.approx(1200, rel=0.1) and drawn[0] == pytest.approx(200, rel=0.3)


def test_score_against_seconds_of_a_finished_workspace(tiny, tmp_path, monkeypatch, capsys):
    def run(script, *words):
        runpy.run_path(str(ROOT / script))["main"](list(words))

    flags = ["--infer.tta", "hflip", "--infer.backend", "eager", "--report.pictures", "0"]
    with pytest.raises(UserError, match="run stages 1 to 3 first"):
        ensemble.main([str(tiny)])
    for script in ("01_preprocess.py", "02_make_folds.py", "03_train.py"):
        run(script, str(tiny), "--train.epochs", "4")
    home, scratch = Workspace(tiny.parent / "work"), Workspace(tmp_path / "scratch")
    home.choose("infer.time_limit 9 s plan x", {})
    home.choose("other", 1)
    ensemble.copy_of(home, scratch.root)
    assert scratch.choices.all() == {"other": 1}

    limits, taken = [], {"05_infer_ensemble.py": run}
    monkeypatch.setattr(trials, "run", lambda script, *words: limits.append(words[-1]) or taken[script](script, *words))
    monkeypatch.setattr(ensemble, "copy_of", lambda home, _: scratch)
    monkeypatch.chdir(tmp_path)
    ensemble.main([str(tiny), "--shares", "20", "0.001", "--", *flags])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    unlimited, enough, none = found["runs"]
    asked = [unlimited["taken"] * share for share in (0, 20, 0.001)]
    assert [float(limit) for limit in limits] == pytest.approx(asked, abs=0.01)
    assert unlimited["loss"] == 0 and unlimited["expected"] is None
    assert enough["loss"] == pytest.approx(0, abs=1e-4) and enough["passes"] == [4.0] and enough["overlap"] == 0.5
    assert none["passes"][0] < 4 and none["score"] < unlimited["score"], "background is no answer"
    assert not (home.root / "submissions").exists()

    # Fewer passes are seen in the score, and it is that of the maps which they make.
    setting = Setting.of(str(tiny), [*flags, "--workspace", str(scratch.root)])
    facts = read_json(scratch.root / "manifests/05_infer_ensemble.json", {})["facts"]
    session, parts = Session(setting.own_config()), named_checkpoints(facts["members"], scratch)
    plan, decision = {**facts["plan"], "overlap": 0.5}, Decision.load(scratch.decision)
    scores = [
        ensemble.limited_score(session, parts, {**plan, "windows": [{count: 9}]}, decision) for count in ("4", "1", "0")
    ]
    assert scores[0] == pytest.approx(unlimited["score"], abs=1e-4) and scores[2] == none["score"] != scores[1]


def test_external_images_are_a_folds_images_from_elsewhere_and_no_arm_validates_on_them(tiny, tmp_path, monkeypatch):
    trained = {}

    def run(script, *words):
        if script.endswith(".py"):
            runpy.run_path(str(ROOT / script))["main"](list(words))

    def train(setting, training, options, workspace):
        fold = training.fold
        config = setting.config(options, workspace)
        home = Workspace(workspace_of(config))
        folds = tables.read(home.folds, tables.FOLDS, "02")
        tiles = training_tiles(home, folds, fold, config)
        trained[workspace] = set(zip(tiles["image_id"], tiles["weight"], strict=True))
        sizes.update(tiles.groupby("image_id")["height"].max())
        validated.append(set(folds.loc[folds["fold"] == fold, "image_id"]))
        return {"score": 0.5 + len(trained[workspace]) / 100, "wall_seconds": 1.0}

    sizes, validated = {}, []
    monkeypatch.setattr(settings, "WORK", tmp_path / "trials")
    monkeypatch.setattr(trials, "run", run)
    monkeypatch.setattr(trials, "train", train)
    monkeypatch.setattr(external, "LOG", Log(tmp_path / "external.jsonl"))
    external.main([str(tiny), "--seeds", "1", "--", "--folds.k", "3", "--folds.group_column", ""])
    table = tables.read(tmp_path / "trials/tiny/folds.csv", tables.FOLDS, "02").set_index("image_id")["fold"]
    between, last = (set(table.index[table == fold]) for fold in (1, 2))
    assert validated == [set(table.index[table == 0])] * 4
    own, web = {(name, 1.0) for name in between}, {f"elsewhere_{name}" for name in last}
    assert len(own) == len(web) == 2
    assert trained == {
        "external-without": own, "external-external": own | {(name, 1.0) for name in web},
        "external-half": own | {(name, 0.5) for name in web}, "external-own": own | {(name, 1.0) for name in last},
    }  # fmt: skip
    assert {sizes[name] for name in web} == {48} and {sizes[name] for name in between} == {96}
    trained.clear()
    external.main([str(tiny), "--seeds", "1", "--", "--folds.k", "3", "--folds.group_column", ""])
    assert not trained, "what is in the log is not trained again"
    external.main([str(tiny), "--seeds", "1", "--", "--folds.k", "6", "--folds.group_column", ""])
    table = tables.read(tmp_path / "trials/tiny/folds.csv", tables.FOLDS, "02").set_index("image_id")["fold"]
    web = {name for name, _ in trained["external-external"] if name.startswith("elsewhere_")}
    assert web == {f"elsewhere_{name}" for name in table.index[table == 5]}, "no other folds' images are left there"


def test_faults_are_drawn_by_seed_compile_and_change_what_is_run():
    faults = mutants.drawn("losses", 12, 0)
    assert [f.shown() for f in faults] == [f.shown() for f in mutants.drawn("losses", 12, 0)]
    assert [f.shown() for f in faults] != [f.shown() for f in mutants.drawn("losses", 12, 1)]
    assert len({(f.line, f.occurrence, f.operator) for f in faults}) == 12
    for fault in faults:
        compile(fault.code, fault.file, "exec")
        assert fault.shown()["old"] != fault.shown()["new"]


def test_every_subject_has_code_and_tests():
    """A file that is moved must not leave its faults out."""
    for subject, (patterns, tests) in mutants.SUBJECTS.items():
        for pattern in [*patterns, *tests]:
            assert list(ROOT.glob(pattern)), f"{subject}: {pattern}"


def test_annotations_are_no_place_for_a_fault():
    source = "def half(x: int | None = 4) -> int | None:\n    return x // 2\n"
    assert {place for _, _, place in mutants.positions(source)} == {(1, 25), (2, 13), (2, 16)}


@pytest.mark.slow
def test_a_fault_is_what_the_tests_of_its_process_import(tmp_path):
    """One that the tests must notice is killed, and the code without a fault passes."""
    code = (
        "from benchmarks import mutants; mutants.prepare(); from dataclasses import replace\n"
        "tests = ['lib/imaging/pad.py']; print(mutants.seconds_without_fault(tests) > 0)\n"
        "places = list(mutants.positions(open('lib/imaging/pad.py').read()))\n"
        "name, occurrence, (line, _) = next(p for p in places if 'Sub_Add' in p[0])\n"
        "fault = mutants.Fault('pad', 'lib/imaging/pad.py', name, occurrence, line, tests)\n"
        "print([how for _, how in mutants.tried([fault], {tuple(tests): 60}, 1)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["True", "['killed']"], done.stderr


def test_growth_leaves_out_the_warm_up_and_sees_a_leak():
    """Looks 0 to 19: the first fifth, in which everything is loaded, does not count."""
    warm = [{fact: 100.0 * min(i, 3) for fact in soak.FACTS} for i in range(20)]
    assert soak.growth(warm)["mib"] == 0 and soak.growth(warm)["largest"]["mib"] == 300
    leak = [{**one, "handles": 2 * i} for i, one in enumerate(warm)]
    assert soak.growth(leak)["handles"] == 24 and soak.growth(leak)["threads"] == 0
    with pytest.raises(SystemExit, match="too few looks"):
        soak.growth(warm[:4])


def test_this_process_can_look_at_itself(tmp_path):
    before = soak.look()
    with (tmp_path / "open").open("w"):
        assert soak.look()["handles"] == before["handles"] + 1
    assert before["mib"] > 10 and before["threads"] >= 1


@pytest.mark.slow
def test_nothing_grows_over_some_steps_and_images():
    command = [sys.executable, "benchmarks/soak.py", "--steps", "200", "--images", "50"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for part in ("training", "inference"):
        assert found[part]["handles"] == found[part]["threads"] == found[part]["processes"] == 0, found


def test_formats_of_tiles_are_measured_in_a_new_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(tile_formats, "WORK", tmp_path / "work/bench/formats")
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    table = tile_formats.format_table([pixels])
    assert set(table) == set(tile_formats.FORMATS)
    assert table["raw, one memory map"]["kb"] == round(pixels.nbytes / 1e3, 1)
    assert {name for name, row in table.items() if row["db"] < 99} == {"jpeg 90", "jpeg 95"}


def test_six_channels_are_compared_with_three(capsys):
    channels.main(["--tiles", "2", "--rounds", "2", "--crop", "128"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["range"][0] <= found["ratio"] <= found["range"][1] and found["most"] == 2
    assert found["stored"][".npy"]["ms"] < found["stored"][".png"]["ms"]
