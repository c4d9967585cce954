"""One fold alone: a decision is judged on groups that it was not fitted on, or not at all."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.config import load
from lib.decision.fit import Fitting, fit_ensemble
from lib.oof.evaluation import Evaluation
from lib.report.ensemble import ensemble_rows
from tests.decision.test_decision import GROUPS, ONE_FOLD, odd_group

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_says_what_was_fitted_on_or_says_nothing():
    config, oof = load(None, ["--competition.classes", "disc", "--competition.metric", "mean_dice"]), odd_group()
    oof = Evaluation(oof.image_ids, oof.counts.repeat(2, 1), groups=GROUPS)
    members = [{"OOF score": 0.5}]

    def table(groups, folds=ONE_FOLD):
        here = Evaluation(oof.image_ids, oof.counts, groups=groups)
        fitted = fit_ensemble(Fitting(here, None, 2, config), folds)
        return {row[""]: row["OOF score"] for row in ensemble_rows(members, here, fitted, folds, config)}, fitted

    rows, fitted = table(GROUPS)
    assert "fitted on other groups of the fold:" in rows and not any("other folds" in name for name in rows)
    assert rows["ensemble, over the best member"] == fitted.decision.cross_score < rows["ensemble"] - 0.1
    rows, fitted = table(np.zeros(8))
    assert fitted.crossed is None and fitted.decision.cross_score is None
    assert not any("over" in name or "fitted" in name for name in rows) and "threshold" in rows
    assert any("one group" in name for name in rows)
    assert "fitted on other folds:" in table(GROUPS, np.arange(8) // 4)[0]


@pytest.mark.parametrize("column", ["place", ""])
def test_a_hold_out_of_one_or_of_several_groups_from_start_to_report(tiny, capsys, column):
    flags = ["--train.folds", "0", "--folds.group_column", column, "--infer.backend", "eager", "--train.epochs", "4"]
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), *flags])
    out, work = capsys.readouterr().out, tiny.parent / "work"
    decision, about = (json.loads(path.read_text()) for path in
                       (work / "decision.json", next((work / "submissions").glob("*.json"))))  # fmt: skip
    (cross,) = pd.read_csv(work / "submissions/ledger.csv", comment="#")["cross"]
    oof, page = json.loads((work / "report/oof.json").read_text()), (work / "report/index.html").read_text()
    assert "other folds" not in out and "other folds" not in page
    if column:  # north or south: one group
        assert decision["cross_score"] is about["oof_score_crossed"] is oof["cross_score"] is None and np.isnan(cross)
        assert "fitted on other" not in out and "fitted on other" not in page
    else:
        assert decision["cross_score"] == about["oof_score_crossed"] == oof["cross_score"] == pytest.approx(cross)
        assert "fitted on other groups of the fold" in out and "decision fitted on other groups of the fold" in page
