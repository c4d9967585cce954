"""What a manifest says, and what each stage is made from: no stage runs here."""

import os

import pandas as pd
import pytest
from records import done

from lib.competition.dataset import Competition
from lib.config import load
from lib.data.preprocess.pick_images import pick_images
from lib.stage import FORMAT, Stage, describe_change, differences, in_words, trained_file
from lib.stages import (
    adopt_report,
    answer_stage,
    clean_stage,
    folds_stage,
    member_stage,
    options_of,
    options_then,
    pseudo_stage,
    report_stage,
    score_stage,
    scored_alike,
    tiles_stage,
)
from lib.workspace import Member, Workspace, file_fingerprint, write_json


def stage_of(tmp_path, settings, inputs=()):
    return Stage(tmp_path / "m.json", "02_some", settings, inputs)


def test_three_changes_are_told_and_how_many_more_there_are():
    assert in_words(["a"]) == "a" and in_words(["a", "b", "c"]) == "a; b; c"
    assert in_words(list("abcd")) == "a; b; c (and 1 more)" and in_words(list("abcdefg")).endswith(" (and 4 more)")


def test_a_change_names_the_file_the_option_or_the_option_of_a_source():
    assert describe_change("file work/a.csv", "1", "2") == "work/a.csv changed"
    assert describe_change("option train.lr", 1, 2) == "train.lr changed from 1 to 2"
    assert (
        describe_change("option competition.external.web.labels.path", "a", "b")
        == "labels.path of web changed from a to b"
    )


def test_a_stage_says_why_it_runs_again_and_nothing_the_first_time(tmp_path, capsys):
    table = tmp_path / "a.csv"
    table.write_text("1")
    stage = stage_of(tmp_path, {"train.lr": 1}, [table])
    assert stage.changes() == ["not done yet"] and not stage.up_to_date() and capsys.readouterr().out == ""
    stage.finish([table], score=0.5)
    record = stage.record
    assert (record["stage"], record["format"], record["facts"]) == ("02_some", FORMAT, {"score": 0.5})
    assert 0 <= record["seconds"] < 5 and 0 < record["peak_gib"] < 99
    assert stage.up_to_date() and capsys.readouterr().out == "02_some: up to date, nothing to do\n"
    assert stage.up_to_date(silent=True) and capsys.readouterr().out == ""
    other = stage_of(tmp_path, {"train.lr": 2}, [table])
    assert not other.up_to_date(silent=True) and capsys.readouterr().out == ""
    assert not other.up_to_date()
    assert capsys.readouterr().out == "02_some: again, because train.lr changed from 1 to 2\n"
    stage.begin()
    assert stage.changes() == ["not done yet"]
    stage.finish([table])
    table.unlink()
    assert stage.changes() == [f"{table} is gone"]


def test_a_file_that_was_read_and_is_no_longer_named(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("1")
    made_from = {f"file {table}": file_fingerprint(table)}
    assert list(differences(made_from, {}, FORMAT, {})) == [f"{table} is no longer used"]
    assert list(differences(made_from, {}, 1, {})) == [], "it may have another name now"
    table.write_text("2")
    assert list(differences(made_from, {}, 1, {})) == [f"{table} changed"]


def test_an_option_that_earlier_formats_did_not_note_changes_only_later_ones():
    now = {"option train.threads": 2, "option train.lr": 1}
    assert list(differences({"option train.lr": 1}, now, 2, {})) == []
    assert list(differences({"option train.lr": 1}, now, 3, {})) == ["train.threads changed from 0 to 2"]


def test_a_training_is_known_by_the_file_that_scores_do_not_change(tmp_path):
    done, trained = tmp_path / "done.json", tmp_path / "trained.json"
    assert trained_file(done) == done
    trained.write_text("{}")
    assert trained_file(done) == trained and trained_file(tmp_path / "other.json") == tmp_path / "other.json"


@pytest.fixture
def made(tiny):
    """(config, workspace, competition, a member in the workspace)."""
    flags = ["--competition.submission.sample", "sample_submission.csv", "--plugins", str(tiny.parent / "mine.py")]
    (tiny.parent / "mine.py").write_text("")
    workspace = Workspace(tiny.parent / "work")
    member = Member("base", 0, 42, workspace.member_dir("base", 0, 42))
    write_json(member.path / "done.json", done(score=0.5))
    config = load(tiny, flags)
    return config, workspace, Competition(config.competition), member


def files_in(stage, root):
    """Which files a stage is made from, and how many others by their content."""
    files = (stage.places.path(key.removeprefix("file ")) for key in stage.now if key.startswith("file "))
    files = sorted(os.path.relpath(path, root) for path in files)
    contents = {key.removeprefix("content "): len(value) for key, value in stage.now.items() if key[:7] == "content"}
    return " ".join(files), contents


def test_every_stage_is_made_from_these_files(made):
    config, workspace, competition, member = made
    images, root = pick_images(competition, 0), workspace.root.parent
    done = "work/runs/base/fold0_seed42/done.json"
    wanted = {
        tiles_stage(config, workspace, competition, images): ("", {"images": 8, "labels": 1, "plugins": 1}),
        folds_stage(config, workspace, competition): ("raw/metadata.csv work/images.csv", {"plugins": 1}),
        member_stage(member, config, workspace, [workspace.tiles]): (
            "work/tiles.csv", {"plugins": 1, "model.weights": 0},
        ),
        score_stage(member, config, workspace, pd.DataFrame({"image_id": ["a"]})): (done, {"plugins": 1}),
        pseudo_stage(1, config, workspace, [member]): (f"work/images.csv {done}", {"plugins": 1}),
        clean_stage(config, workspace, [member]): (f"work/folds.csv {done} work/tiles.csv", {"plugins": 1}),
        answer_stage(config, workspace, competition, [member, member]): (
            f"raw/sample_submission.csv work/folds.csv work/images.csv {done}", {"plugins": 1},
        ),
        report_stage(config, workspace): ("work/manifests/05_infer_ensemble.json", {}),
    }  # fmt: skip
    assert {stage.name: files_in(stage, root) for stage in wanted} == {
        stage.name: files for stage, files in wanted.items()
    }
    assert [stage.name for stage in wanted] == [
        "01_preprocess", "02_make_folds", "03_base_fold0_seed42", "scores/base_fold0_seed42", "04_pseudo_label_round1",
        "04_clean", "05_infer_ensemble", "05_report",
    ]  # fmt: skip


def test_other_splits_columns_and_images_of_a_fold_are_changes(made, monkeypatch):
    config, workspace, competition, member = made
    images = pick_images(competition, 0)
    tiles_stage(config, workspace, competition, images).finish([])
    assert tiles_stage(config, workspace, competition, images[:-1]).changes()
    folds_stage(config, workspace, competition).finish([])
    monkeypatch.setattr("lib.stages.tables.FOLDS", {"image_id": ("str", "")})
    assert "columns of folds.csv changed" in folds_stage(config, workspace, competition).changes()[0]
    score_stage(member, config, workspace, pd.DataFrame({"image_id": ["a"]})).finish([])
    assert score_stage(member, config, workspace, pd.DataFrame({"image_id": ["b"]})).changes()


def test_a_boxes_csv_is_read_where_options_name_it(made):
    config, workspace, competition, member = made
    boxes = workspace.root.parent / "boxes.csv"
    boxes.write_text("image_id,y,x,height,width\n")
    sections = {"preprocess": config.preprocess, "infer": config.infer}
    config = config.model_copy(update={n: s.model_copy(update={"roi": str(boxes)}) for n, s in sections.items()})
    for stage in (
        tiles_stage(config, workspace, competition, []), pseudo_stage(1, config, workspace, []),
        score_stage(member, config, workspace, pd.DataFrame()), clean_stage(config, workspace, []),
        answer_stage(config, workspace, competition, []),
    ):  # fmt: skip
        assert f"file {boxes}" in stage.now, stage.name


def test_options_of_the_newest_training_stand_for_those_that_a_manifest_lacks(made):
    workspace, member = made[1], made[3]
    assert options_then(workspace) == {} and options_of(member.path) == {}
    later = workspace.member_dir("next", 1, 7)
    for folder, rate, time in ((later, 0.2, 2000), (member.path, 0.1, 1000)):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "resolved.yaml"
        path.write_text(f"train:\n  lr: {rate}\n  swa: {{start: 0.5}}\n")
        os.utime(path, (time, time))
    assert options_of(member.path)["train.lr"] == 0.1
    then = options_then(workspace)
    assert (then["train.lr"], then["train.swa.start"], then["train.swa"]) == (0.2, 0.5, {"start": 0.5})


def test_scores_are_those_of_todays_options_or_not(made):
    config, member = made[0], made[3]
    (member.path / "resolved.yaml").write_text("competition: {metric: dice}\ninfer: {window: 96, precision: fp32}\n")
    assert not scored_alike(member, config)
    same = config.competition.model_copy(update={"metric": "dice"})
    assert scored_alike(member, config.model_copy(update={"competition": same}))


@pytest.mark.parametrize("fault", ["", "format", "pictures", "gone", "changed", "noted"])
def test_a_report_of_a_version_with_one_manifest_is_adopted_where_it_would_be_the_same(made, fault):
    config, workspace, competition, member = made
    answers, shown = answer_stage(config, workspace, competition, [member]), report_stage(config, workspace)
    oof = workspace.report / "oof.json"
    write_json(oof, {})
    answers.finish([])
    pictures = config.report.pictures + (fault == "pictures")
    made_from = {**answers.now, "option report.pictures": pictures}
    if fault == "changed":
        made_from["file {workspace}/folds.csv"] = "another"
    record = {**answers.record, "made_from": made_from, "format": FORMAT if fault == "format" else 1}
    write_json(answers.path, record)
    if fault == "gone":
        oof.unlink()
    if fault == "noted":
        shown.finish([oof], noted=True)
    adopt_report(shown, answers, oof)
    assert bool(shown.record) == (fault in ("", "noted"))
    if fault == "":
        assert answers.record["format"] == FORMAT and report_stage(config, workspace).changes() == []
    if fault == "noted":
        assert shown.record["facts"] == {"noted": True}, "it is left as it is"
