"""Every submission has a row, in order; scores are filled in; nothing is lost."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lib.__main__ import main
from lib.config import load
from lib.errors import UserError
from lib.submissions import ledger
from lib.submissions.leaderboard import oof_and_board
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def record(workspace, name, text="id,predicted\nim6,1 5\nim7,\n", cross=0.7):
    path = workspace.submissions / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    about = {"members": ["base/fold0_seed42 swa", "base/fold1_seed42 swa"], "oof_score": cross + 0.01, "code": "abc1",
             "oof_score_crossed": cross, "seconds": 12.5, "decision": {"threshold": 130, "score": 0.7}}  # fmt: skip
    ledger.record(workspace, path, load(None), about)
    return path


@pytest.fixture
def workspace(tiny):
    return Workspace(tiny.parent / "work")


def test_rows_are_appended_and_scores_filled_in(tiny, workspace, capsys):
    one, _ = record(workspace, "1.csv", cross=0.7), record(workspace, "2.csv", text="id,predicted\nim6,\nim7,2 3\n")
    table = pd.read_csv(workspace.ledger)
    wanted = ["time", "file", "config", "members", "oof", "cross", "public", "private", "seconds", "version"]
    assert list(table)[: len(wanted)] == wanted and list(table["file"]) == ["1.csv", "2.csv"]
    assert table["public"].isna().all() and table["decision"][0] == '{"threshold": 130}'
    assert table["config"][0].startswith("demo ") and table["config"].nunique() == 1

    # By path, by name alone, and by content: submission.csv is a copy of what was made last.
    workspace.submission.write_bytes(one.read_bytes())
    main(["ledger", str(tiny), str(one), "0.61"])
    main(["ledger", str(tiny), "2.csv", "0.5", "0.4"])
    main(["ledger", str(tiny), str(workspace.submission), "0.62"])
    table = pd.read_csv(workspace.ledger)
    assert list(table["public"]) == [0.62, 0.5] and table["private"][1] == 0.4 and np.isnan(table["private"][0])
    assert list(table["oof"]) == [0.71, 0.71] and list(table["seconds"]) == [12.5, 12.5]
    out = capsys.readouterr().out
    assert "0.6200" in out and "public leaderboard, submissions with both scores: 2" in out
    assert "private leaderboard, submissions with both scores: 1" in out


def test_mistakes_are_sentences_and_change_nothing(tiny, workspace):
    record(workspace, "1.csv")
    before = workspace.ledger.read_bytes()
    for words, message in [
        (["3.csv", "0.5"], r"no file 3.csv.*1\.csv"),
        (["1.csv", "high"], "PUBLIC: expected a number, found 'high'"),
        (["1.csv", "nan"], "found 'nan'"),
        (["1.csv"], "CSV PUBLIC"),
        ([str(tiny), "0.5"], "does not list"),
    ]:
        with pytest.raises(UserError, match=message):
            main(["ledger", str(tiny), *words])
    assert workspace.ledger.read_bytes() == before
    workspace.ledger.write_text("time,file\n")
    with pytest.raises(UserError, match="lacks the column"):
        main(["ledger", str(tiny)])


def test_a_ledger_that_excel_saved_is_read_or_told_before_any_work(tiny, workspace):
    record(workspace, "1.csv")
    ledger.update_row(workspace, "1.csv", message="größer")
    before, text = ledger.read_ledger(workspace), workspace.ledger.read_text("utf-8")
    workspace.ledger.write_text(text, "utf-8-sig")
    assert ledger.read_ledger(workspace).equals(before)
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    for data in (text.encode("cp1252"), b""):
        workspace.ledger.write_bytes(data)
        with pytest.raises(UserError, match="ledger.csv is damaged .*; correct it .*, or move it away"):
            run("05_infer_ensemble", tiny)
        assert workspace.ledger.read_bytes() == data


def test_05_writes_a_row_with_all_options_beside_the_answer(tiny, workspace, capsys):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, tiny)
    run("05_infer_ensemble", tiny, "--infer.tta", "flips")
    table = ledger.read_ledger(workspace)
    row = table.iloc[0]
    assert len(table) == 1 and row.members == "base/fold0_seed42 swa; base/fold1_seed42 swa" and 0 < row.cross <= 1
    path = ledger.path_of(workspace, row.file)
    assert path.read_bytes() == workspace.submission.read_bytes()
    assert "tta: flips" in path.with_suffix(".yaml").read_text()
    # Where answers are uploaded, and how they are packaged, is no reason to do anything again.
    run("01_preprocess", tiny, "--competition.kaggle", "discs", "--package.wheels", "false")
    run("05_infer_ensemble", tiny, "--infer.tta", "flips", "--competition.kaggle", "discs")
    assert capsys.readouterr().out.count("nothing to do") == 2 and len(ledger.read_ledger(workspace)) == 1
    run("05_infer_ensemble", tiny)
    assert len(ledger.read_ledger(workspace)) == 2


def scores(cross, public):
    return pd.DataFrame({"cross": cross, "public": public})


def test_agreement_is_spearmans_and_warns_when_scores_part():
    rng = np.random.default_rng(3)
    cross, public = rng.normal(size=20), rng.normal(size=20)
    public[:3] = public[0]  # ties
    table = scores(cross, public)
    assert f"rank correlation {spearmanr(cross, public).statistic:.2f}" in oof_and_board(table)
    together = oof_and_board(scores([0.70, 0.71, 0.72, 0.73, 0.9], [0.60, 0.61, 0.63, 0.62, None]))
    assert "both scores: 4" in together and "rank correlation 0.80" in together and "WARNING" not in together
    assert "-0.1000 on average (-0.1100 to -0.0900)" in together
    assert "WARNING" in oof_and_board(scores([0.70, 0.71, 0.72, 0.73], [0.63, 0.62, 0.61, 0.60]))
    assert "WARNING" in oof_and_board(scores([0.7, 0.71, 0.72, 0.73], [0.6] * 4))
    few = oof_and_board(scores([0.70, 0.71, 0.72], [0.63, 0.62, 0.61]))
    assert "WARNING" not in few and "from 4 on" in few
