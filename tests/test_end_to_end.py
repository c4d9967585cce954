"""The five scripts on a tiny competition, in one process, as a user would call them."""

import contextlib
import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import make_tiny

from lib.errors import exit_code
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
STAGES = ["01_preprocess", "02_make_folds", "03_train", "04_pseudo_label", "03_train", "05_infer_ensemble"]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def run_all(config, *flags):
    for number, stage in enumerate(STAGES):
        run(stage, config, *flags, *(["--train.round", "1"] if number in (3, 4) else []))


def stopped(stage, config, capsys):
    """(exit code, what it said) of a stage that a script would run in a process of its own."""
    capsys.readouterr()
    return exit_code(runpy.run_path(str(ROOT / f"{stage}.py"))["main"], [str(config)]), capsys.readouterr().err


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    tiny = make_tiny(tmp_path_factory.mktemp("done"))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run_all(tiny, "--train.seeds", "42", "43")
    return tiny, out.getvalue()


def times_of_files(work):
    """When each file was written. The cache of hashes is left out: it remembers files only a while after that."""
    files = (path for path in work.rglob("*") if path.is_file() and path.parent.name != "content")
    return {path: path.stat().st_mtime_ns for path in files}


def test_pseudo_labels_never_come_from_members_that_saw_the_fold(done):
    config, _ = done
    tiles = pd.read_csv(config.parent / "work/pseudo/round1/tiles.csv")
    assert set(tiles["fold"]) == {0, 1} and set(tiles["image_id"]) <= {"im6", "im7"}
    assert all(name.endswith(f"_fold{fold}.png") for name, fold in zip(tiles["mask_path"], tiles["fold"], strict=True))
    folds = pd.read_csv(config.parent / "work/folds.csv", comment="#")
    assert folds.groupby("group")["fold"].nunique().max() == 1
    assert not set(tiles["image_id"]) & set(folds["image_id"])


def test_from_raw_data_to_a_checked_submission_then_nothing_to_do(done, capsys):
    config, out = done
    work = config.parent / "work"
    assert "best member" in out and "ensemble" in out
    submission = pd.read_csv(work / "submission.csv", keep_default_na=False)
    assert list(submission.columns) == ["id", "predicted"] and list(submission["id"]) == ["im6", "im7"]
    about = json.loads(next((work / "submissions").glob("*.json")).read_text())
    assert len(about["members"]) == 4 and all(name.startswith("base-r1/") for name in about["members"])
    assert 0 < about["oof_score"] <= 1
    assert list((work / "report/gallery").glob("*.jpg"))

    before = times_of_files(work)
    run_all(config, "--train.seeds", "42", "43")
    again = capsys.readouterr().out
    assert again.count("up to date, nothing to do") == 4 + 4 * 2
    assert before == times_of_files(work)

    # An option of 05 redoes 05 alone; one of training, training alone.
    run_all(config, "--train.seeds", "42", "43", "--infer.tta", "flips")
    out = capsys.readouterr().out
    assert "infer.tta changed from none to flips" in out
    assert "01_preprocess: up to date" in out and "03_base_fold0_seed42: up to date" in out
    run("03_train", config, "--train.seeds", "42", "--train.lr", "0.02")
    assert "train.lr changed from 0.01 to 0.02" in capsys.readouterr().out


def test_training_again_gives_the_same_submission_byte_for_byte(tiny, tmp_path_factory):
    answers = []
    for name in ("one", "two"):
        work = tmp_path_factory.mktemp(name)
        run_all(tiny, "--workspace", str(work))
        answers.append((work / "submission.csv").read_bytes())
    assert answers[0] == answers[1]


def break_nothing(raw):
    """The control: without a mistake there is no error."""


def lose_the_folder(raw):
    raw.rename(raw.parent / "elsewhere")


def label_without_image(raw):
    (raw / "train/im3.png").unlink()


def run_past_the_image(raw):
    table = pd.read_csv(raw / "train.csv")
    table.loc[0, "encoding"] = "1 99999999"
    table.to_csv(raw / "train.csv", index=False)


def truncated_image(raw):
    data = (raw / "train/im1.png").read_bytes()
    (raw / "train/im1.png").write_bytes(data[: len(data) // 2])


def strange_sample(raw):
    pd.DataFrame({"id": ["im6", "other"], "predicted": ""}).to_csv(raw / "sample_submission.csv", index=False)


def no_object_at_all(raw):
    pd.DataFrame({"id": [f"im{i}" for i in range(6)], "encoding": ""}).to_csv(raw / "train.csv", index=False)


MISTAKES = {
    lose_the_folder: "there is no folder",
    label_without_image: "'im3'",
    run_past_the_image: "im0: the run 1 99999999 lies outside",
    truncated_image: "im1.png is damaged",
    strange_sample: "'other'",
    no_object_at_all: "class 'disc' has not a single labeled pixel",
}


@pytest.mark.parametrize("mistake", [break_nothing, *MISTAKES], ids=lambda f: f.__name__)
def test_a_mistake_is_one_sentence_exit_code_2_and_nothing_half_written(tiny, mistake, capsys):
    raw, work = tiny.parent / "raw", tiny.parent / "work"
    mistake(raw)
    code, errors = stopped("01_preprocess", tiny, capsys)
    if mistake is break_nothing:
        assert code == 0 and (work / "tiles.csv").is_file()
        return
    assert code == 2 and "Traceback" not in errors
    assert MISTAKES[mistake] in [line for line in errors.splitlines() if line.startswith("error: ")][0]
    assert not [p for p in (work.glob("*") if work.exists() else []) if not p.name.startswith(".") and p.is_file()]


def test_stages_out_of_order_say_what_to_run_first(tiny, capsys):
    """Once as a script, whose exit code and message are what a shell sees."""
    command = [sys.executable, str(ROOT / "03_train.py"), str(tiny)]
    script = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert script.returncode == 2 and "run 01_preprocess.py first" in script.stderr
    assert stopped("02_make_folds", tiny, capsys)[0] == 2
    run("01_preprocess", tiny)
    code, errors = stopped("03_train", tiny, capsys)
    assert code == 2 and "run 02_make_folds.py first" in errors


PLUGIN = """
import torch
from lib.plugins import register

@register("model", "mine")
def model(config, channels): return torch.nn.Conv2d(3, channels, 3, padding=1)

@register("loss", "squared")
def loss(logits, target, valid, weight): return ((logits.sigmoid() - target) ** 2 * valid).mean()

@register("augmentation", "mine")
def augmentation(config): return []

@register("sampler", "mine")
class Sampler:
    def __init__(self, tiles, config, pseudo_share, seed): self.size = 8
    def keys(self, epoch, progress=0.0): return [(0, epoch, i) for i in range(8)]

@register("codec", "mine")
class Areas:
    def __init__(self, config, sample, label_names): self.sample, self.areas = sample, {}
    def add(self, image_id, h, w, bands): self.areas[image_id] = sum(int((b == 1).sum()) for _, b in bands)
    def write(self, path): self.sample.assign(predicted=self.sample["id"].map(self.areas)).to_csv(path, index=False)
    def check(self, path, sizes): pass
"""


def test_a_users_model_loss_sampler_augmentation_and_codec_need_no_change_of_lib(tiny, capsys):
    from lib.__main__ import main

    (tiny.parent / "mine.py").write_text(PLUGIN)
    tiny.write_text(tiny.read_text() + "\nplugins: [mine.py]\n")
    flags = ["--model.architecture", "mine", "--train.loss.terms", "{squared: 1}", "--augment.preset", "mine"]
    flags += ["--train.sampling.sampler", "mine", "--competition.submission.codec", "mine"]
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, tiny, *flags)
    areas = pd.read_csv(tiny.parent / "work/submission.csv")["predicted"]
    assert len(areas) == 2 and areas.between(1, 200 * 200).all()
    main(["check", str(tiny), *flags])
    assert "submission.csv: as the organiser asks\n" in capsys.readouterr().out
    done = json.loads((tiny.parent / "work/runs/base/fold0_seed42/done.json").read_text())
    assert done["steps"] == 2 * 8 // 4  # the sampler's eight samples an epoch, in batches of four
    folds = pd.read_csv(tiny.parent / "work/folds.csv", comment="#")
    assert set(done["images"]) == set(folds.loc[folds["fold"] == 0, "image_id"])
    assert sum(done["images"].values()) / len(done["images"]) == pytest.approx(done["score"])  # mean Dice over images


def test_preflight_passes_all_stages_and_leaves_nothing_but_its_stamp(tiny, capsys):
    from lib.preflight.rehearse import preflight

    preflight(str(tiny), [])
    assert "all stages passed" in capsys.readouterr().out
    assert not Path(f"{tiny.parent}/work-preflight").exists()
    assert [p.name for p in (tiny.parent / "work").iterdir()] == ["preflight.json"]


def test_masks_as_palette_images_and_several_classes(tmp_path):
    import yaml

    rng = np.random.default_rng(2)
    raw = tmp_path / "raw"
    for folder in ("train", "test", "masks"):
        (raw / folder).mkdir(parents=True)
    for i in range(5):
        labels = (rng.random((6, 7)) * 3).astype(np.uint8).repeat(20, 0).repeat(20, 1)
        image = np.stack([labels * 80, 200 - labels * 60, labels * 0 + 90], axis=-1).astype(np.uint8)
        cv2.imwrite(str(raw / ("train" if i < 4 else "test") / f"s{i}.png"), image)
        if i < 4:
            cv2.imwrite(str(raw / f"masks/s{i}.png"), np.stack([labels * 100] * 3, axis=-1))
    colours = [(name, v, v, v) for name, v in (("low", 0), ("middle", 100), ("high", 200))]
    pd.DataFrame(colours, columns=["name", "r", "g", "b"]).to_csv(raw / "classes.csv", index=False)
    sample = pd.DataFrame({"id": "s4", "class": ["low", "middle", "high"], "predicted": ""})
    sample.to_csv(raw / "sample_submission.csv", index=False)
    config = {
        "competition": {
            "root": str(raw), "classes": ["low", "middle", "high"], "background": False, "metric": "mean_iou",
            "labels": {"format": "mask_images", "path": "masks", "palette": "classes.csv"},
            "submission": {"class_column": "class", "order": "row"},
        },
        "preprocess": {"tile_size": 64}, "folds": {"k": 2, "leak_check": False}, "model": {"architecture": "tiny"},
        "train": {"epochs": 20, "batch_size": 4, "lr": 0.03, "workers": 0, "evaluations": 1, "precision": "fp32",
                  "loss": {"terms": {"ce": 1}}},
        "infer": {"precision": "fp32", "checkpoints": ["swa", "best"]}, "report": {"pictures": 1},
        "workspace": str(tmp_path / "work"), "jobs": 1,
    }  # fmt: skip
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config))
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, path, "--augment.preset", "light")
    about = json.loads(next((tmp_path / "work/submissions").glob("*.json")).read_text())
    assert about["oof_score"] > 0.6  # three flat colours are easy; chance is near 0.2
    page = (tmp_path / "work/report/index.html").read_text()
    assert all(f'<section id="{name}">' in page for name in ("oof", "galleries", "ensemble")) and "Confusion" in page
    fitted = ["--infer.postprocess", "priors", "--infer.ensemble_weights", "greedy"]
    run("05_infer_ensemble", path, "--augment.preset", "light", *fitted)
    decision = json.loads((tmp_path / "work/decision.json").read_text())
    assert len(decision["factors"]) == 3 and decision["score"] >= about["oof_score"] - 0.01


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_whole_images_are_shrunk_and_answers_restored_to_the_original_size(tiny, fit):
    run_all(tiny, "--preprocess.mode", "resize", "--preprocess.fit", fit, "--train.crop", "0", "--train.epochs", "40")
    work = tiny.parent / "work"
    about = json.loads(next((work / "submissions").glob("*.json")).read_text())
    assert about["oof_score"] > 0.6
    assert set(pd.read_csv(work / "tiles.csv")["y"]) == {0}


def test_checkpoints_and_experiments_of_other_sizes_make_one_ensemble(tiny, capsys):
    keeping = ["--train.checkpoints", "2", "--train.soup", "true"]
    keeping += ["--infer.checkpoints", "epochs", "mean", "soup", "best"]
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    run("03_train", tiny, *keeping)
    run("03_train", tiny, *keeping, "--train.experiment", "half", "--train.scale", "0.5", "--train.crop", "32")
    done = json.loads((tiny.parent / "work/runs/half/fold0_seed42/done.json").read_text())
    assert {"swa", "epochs", "mean", "soup", "best"} == done["scores"].keys()  # nothing was scored: `best` is `last`
    assert done["skipped_steps"] == 0
    ensemble = ["--infer.experiments", "base", "half", "--infer.checkpoints", "epochs", "mean"]
    run("05_infer_ensemble", tiny, *ensemble, "--infer.window", "0")
    about = json.loads(next((tiny.parent / "work/submissions").glob("*.json")).read_text())
    kinds = [name.partition("seed42 ")[2] for name in about["members"] if "fold0" in name]
    assert kinds == ["checkpoint1", "checkpoint2", "mean"] * 2
    assert [("size=64" in w, "scale=0.5" in w) for w in about["windows"]] == [(True, False), (False, True)]
    assert "half seed42 checkpoint2" in capsys.readouterr().out


def test_another_sample_parts_one_folder_anew(tiny, capsys):
    sample, labels = (tiny.parent / "raw" / name for name in ("sample_submission.csv", "train.csv"))
    rows = pd.read_csv(labels)
    rows[~rows["id"].isin(["im4", "im5"])].to_csv(labels, index=False)
    for answer in ("im5", "im4"):
        sample.write_text(f"id,predicted\n{answer},\n")
        flags = ["--competition.test_images", "train/*", "--competition.labels.missing", "empty"]
        run("01_preprocess", tiny, *flags)
        images = pd.read_csv(tiny.parent / "work/images.csv", comment="#").set_index("image_id")
        assert list(images.index[images["split"] == "test"]) == [answer] and len(images) == 6
    assert "again, because the images' splits changed" in capsys.readouterr().out


def test_one_limit_for_all_members_leaves_out_what_it_is_not_enough_for(tiny, capsys):
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    limit = ["--train.seeds", "42", "43", "--train.time_limit", "4s", "--train.min_member_time", "3s"]
    run("03_train", tiny, *limit)
    out = capsys.readouterr().out
    assert "enough for 1 of 4 members" in out and "--infer.checkpoints epochs" in out
    assert [p.parent.name for p in (tiny.parent / "work/runs/base").glob("*/done.json")] == ["fold0_seed42"]
    run("05_infer_ensemble", tiny, *limit, "--infer.checkpoints", "epochs")
    assert "base seed42 checkpoint4" in capsys.readouterr().out
    run("03_train", tiny, *limit)
    assert "up to date" in capsys.readouterr().out


def test_heads_and_a_stem_go_through_all_stages(tiny, capsys):
    network = ["--model.architecture", "unet", "--model.weights", "none", "--model.decoder_channels", "16", "8", "8"]
    heads = ["--model.classifier", "true", "--model.deep_supervision", "true", "--model.stem", "down"]
    flags = [*network, *heads, "--infer.gate", "fit", "--train.batch_size", "0", "--train.checkpointing", "true"]
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, tiny, *flags)
    assert "its class gate, over none" in capsys.readouterr().out
    decision = json.loads((tiny.parent / "work/decision.json").read_text())
    assert len(decision["gates"]) == 1 and 0 <= decision["gates"][0] < 1
    fitted = (tiny.parent / "work/submission.csv").read_bytes()
    maps = {path: path.stat().st_mtime_ns for path in (tiny.parent / "work/oof").iterdir()}
    run("05_infer_ensemble", tiny, *flags, "--infer.gate", "0.999", "--infer.time_limit", "10m")
    assert maps == {path: path.stat().st_mtime_ns for path in (tiny.parent / "work/oof").iterdir()}, "the same maps"
    shut = (tiny.parent / "work/submission.csv").read_text()
    assert shut.encode() != fitted and all(line.endswith(",") for line in shut.splitlines()[1:]), "nothing is left"
    choices = Workspace(tiny.parent / "work").choices.all()
    assert any(key.startswith("train.batch_size") for key in choices)


def test_another_form_of_answer_redoes_05_alone_and_is_checked(tiny, capsys):
    from lib.__main__ import main

    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, tiny)
    work, zipped = tiny.parent / "work", ["--competition.submission.preset", "inria"]
    capsys.readouterr()
    for stage in ("03_train", "05_infer_ensemble", "05_infer_ensemble"):
        run(stage, tiny, *zipped)
    out = capsys.readouterr().out
    assert out.count("up to date") == 3 and "competition.submission.codec changed from rle to tif" in out
    main(["check", str(tiny), *zipped])
    assert f"{work}/submission.zip: as the organiser asks; 2 of 2 images" in capsys.readouterr().out
    main(["check", str(tiny)])
    objects = "submission.csv: as the organiser asks; 2 of 2 images hold an object"
    assert objects in capsys.readouterr().out
    assert cv2.imread(str(work / "report/check_submission.jpg")).shape[1] > 2 * 2 * 150
