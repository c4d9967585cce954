"""A workspace that was written before options were renamed: nothing is made again, and everything can be read."""

import json
import runpy
from pathlib import Path

import pytest
import yaml

from lib.__main__ import main
from lib.config import flat, load
from lib.config.old_names import OLD_NAMES
from lib.workspace import Workspace, read_json, write_json
from tests.conftest import make_tiny

ROOT = Path(__file__).resolve().parents[2]
# None of them at its default, which a missing option would have, too.
FLAGS = [
    "--train.sampling.balance", "images", "--pseudo.pixel_confidence", "0.6", "--pseudo.confidence", "agreement",
    "--pseudo.min_confidence", "0.1", "--clean.in_sample_weight", "0.5", "--clean.on_bad_label", "weigh",
    "--infer.checkpoints", "last", "--infer.ensemble_weights", "greedy", "--infer.averaging", "geometric",
    "--infer.postprocess", "largest", "--infer.tta", "hflip", "--train.time_limit", "8s",
    "--train.min_member_time", "1s",
]  # fmt: skip
STEPS = [
    ("01_preprocess",), ("02_make_folds",), ("03_train",), ("04_pseudo_label", "--train.round", "1"),
    ("04_pseudo_label", "--clean"), ("05_infer_ensemble",),
]  # fmt: skip
FINISHED = [
    "01_preprocess", "02_make_folds", "03_base_fold0_seed42", "03_base_fold1_seed42", "04_pseudo_label_round1",
    "04_clean", "05_infer_ensemble",
]  # fmt: skip


def run(config, stage, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *FLAGS, *flags])


def with_old_names(values, prefix=""):
    """Nested sections by the names that options had before."""
    before = {new: old for old, new in OLD_NAMES.items()}
    return {
        before.get(prefix + name, prefix + name).removeprefix(prefix): (
            with_old_names(value, f"{prefix}{name}.") if isinstance(value, dict) else value
        )
        for name, value in values.items()
    }


def written_before(work):
    """Make a workspace what the version before the new names left."""
    for path in [*work.glob("manifests/**/*.json"), *work.glob("runs/*/*/begun.json")]:
        text = path.read_text()
        for old, new in OLD_NAMES.items():
            text = text.replace(json.dumps(f"option {new}"), json.dumps(f"option {old}"))
        path.write_text(text)
    for path in [*work.glob("runs/*/*/resolved.yaml"), *work.glob("submissions/*.yaml")]:
        values = with_old_names(yaml.safe_load(path.read_text()))
        values["infer"] |= {"power": 2.0, "members": "simplex"}  # which are gone
        path.write_text(yaml.safe_dump(values))
    for path in work.glob("choices/train.time_limit*.json"):
        choice = read_json(path, {})
        key = choice["key"][:-12] + "0" * 12  # a hash that holds the names of options
        path.unlink()
        write_json(Workspace(work).choices.path_of(key), {**choice, "key": key})


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    config = make_tiny(tmp_path_factory.mktemp("old"))
    for step in STEPS:
        run(config, *step)
    written_before(config.parent / "work")
    return config


def test_the_workspace_is_an_old_one(old):
    options = {key for key, value in flat(load(old, FLAGS)).items() if value != flat(load(None))[key]}
    assert set(OLD_NAMES.values()) - options == {"infer.min_gain"}, "at its default; no stage depends on it"
    work = old.parent / "work"
    files = [*work.glob("manifests/*.json"), *work.glob("runs/*/*/resolved.yaml"), *work.glob("submissions/*.yaml")]
    text = "".join(path.read_text() for path in files)
    assert "option train.sampling.alike" in text and "min_sure: 0.1" in text and "min_confidence" not in text


def test_nothing_is_made_again(old, capsys):
    weights = {path: path.stat().st_mtime_ns for path in (old.parent / "work").glob("runs/*/*/last_weights.pt")}
    for step in STEPS:
        run(old, *step)
    out = capsys.readouterr().out
    assert [f"{stage}: up to date" in out for stage in FINISHED] == [True] * len(FINISHED)
    assert " again" not in out
    assert len(weights) == 2 and all(path.stat().st_mtime_ns == time for path, time in weights.items())


def test_members_predict_with_other_options(old, capsys):
    run(old, "05_infer_ensemble", "--infer.overlap", "0.25")
    assert "infer.overlap changed from 0.5 to 0.25" in capsys.readouterr().out


def test_a_submission_is_packaged_with_todays_names(old):
    options = min((old.parent / "work/submissions").glob("*.yaml"))
    assert "decide" in options.read_text(), "it was written before"
    folder = old.parent / "package"
    main(["package", str(old), str(folder), str(options.with_suffix(".csv")), "--package.wheels", "false"])
    infer = load(folder / "config.yaml").infer
    assert (infer.postprocess, infer.ensemble_weights) == (["largest"], "greedy")
