"""One labeled image: no fold, a member of all images, an answer without a score, and sentences that can be followed."""

import json

import pandas as pd
import pytest
import yaml

from lib import tables
from lib.errors import UserError
from tests.competition.test_external import run

ALL = ["--train.folds", "all"]


@pytest.fixture
def one(tiny):
    """The tiny competition with its first training image alone."""
    raw = tiny.parent / "raw"
    for number in range(1, 6):
        (raw / f"train/im{number}.png").unlink()
    pd.read_csv(raw / "train.csv").iloc[:1].to_csv(raw / "train.csv", index=False)
    config = yaml.safe_load(tiny.read_text())
    config["pseudo"]["rounds"] = 0
    tiny.write_text(yaml.safe_dump(config))
    return tiny


def test_one_image_is_trained_on_and_answered_without_a_score(one, capsys):
    run("01_preprocess", one)
    run("02_make_folds", one)
    folds = tables.read(one.parent / "work/folds.csv", tables.FOLDS, "02")
    assert folds["fold"].tolist() == [-1] and "never validated" in capsys.readouterr().out
    for stage, flags in (("03_train", []), ("05_infer_ensemble", [])):
        with pytest.raises(UserError, match=r"no fold to validate on: .*--train.folds all, .*--infer.folds all"):
            run(stage, one, *flags)
    run("03_train", one, *ALL)
    with pytest.raises(UserError, match="infer.tta auto needs out-of-fold scores"):
        run("05_infer_ensemble", one, "--infer.folds", "all", "--infer.tta", "auto")
    capsys.readouterr()
    run("05_infer_ensemble", one, "--infer.folds", "all")
    assert "there is no out-of-fold score" in capsys.readouterr().out
    answer = pd.read_csv(one.parent / "work/submission.csv", keep_default_na=False)
    assert answer["id"].tolist() == ["im6", "im7"]
    decision = json.loads((one.parent / "work/decision.json").read_text())
    assert decision["threshold"] == 128
    run("05_infer_ensemble", one, "--infer.folds", "all")
    assert "up to date" in capsys.readouterr().out


def test_one_image_passes_preflight_where_nothing_is_validated(one, capsys):
    from lib.preflight.rehearse import preflight

    with pytest.raises(UserError, match="one image or one group cannot be validated"):
        preflight(str(one), [])
    preflight(str(one), [*ALL, "--infer.folds", "all"])
    assert "all stages passed" in capsys.readouterr().out


def test_init_proposes_what_one_group_can_do_and_tries_it(one):
    from lib.propose.choose import folds
    from lib.propose.trial import first_error

    assert [choice.key for choice in folds(2, 9)] == ["folds.k"] and folds(2, 9)[0].value == 2
    assert "one image or one group cannot be validated" in first_error(one)
    config = yaml.safe_load(one.read_text())
    for choice in folds(1, 1):
        section, key = choice.key.split(".")
        config[section][key] = choice.value
    one.write_text(yaml.safe_dump(config))
    assert first_error(one) == ""
