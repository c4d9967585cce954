"""Strong submissions that differ, compared by bands."""

import numpy as np
import pandas as pd
import pytest

from lib.__main__ import main
from lib.competition import rle
from lib.competition.dataset import Competition
from lib.config import load
from lib.errors import UserError
from lib.submissions import ledger
from lib.submissions import select as selection
from lib.submissions.select import ChosenSubmission, choose, difference, strengths
from lib.workspace import Workspace, write_table


@pytest.fixture
def masks():
    rng = np.random.default_rng(4)
    return {"im6": rng.random((192, 170)) > 0.8, "im7": rng.random((199, 165)) > 0.8}


def write(workspace, name, masks):
    path = workspace.submissions / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"id": list(masks), "predicted": [rle.encode(mask) for mask in masks.values()]}
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def list_scores(workspace, rows):
    """The ledger with (file, cross, public)."""
    table = ledger.read_ledger(workspace)
    new = pd.DataFrame([{"file": f, "cross": c, "public": p} for f, c, p in rows])
    table = pd.concat([table, new], ignore_index=True)[list(table)]
    texts = table.select_dtypes(exclude="number").columns
    write_table(workspace.ledger, table.fillna(dict.fromkeys(texts, "")))


@pytest.fixture
def place(tiny):
    config = load(tiny)
    return Competition(config.competition), Workspace(config.workspace)


@pytest.mark.parametrize("band, together", [(2**22, 2**28), (1000, 1)])
def test_the_difference_is_the_share_of_marked_pixels_whatever_the_bands(place, masks, monkeypatch, band, together):
    monkeypatch.setattr(selection, "PIXELS_PER_BAND", band)
    monkeypatch.setattr(selection, "PIXELS_PER_BATCH", together)
    competition, workspace = place
    other = {image_id: np.roll(mask, 3, axis=1) for image_id, mask in masks.items()}
    paths = write(workspace, "a.csv", masks), write(workspace, "b.csv", other)
    sizes = {image_id: mask.shape for image_id, mask in masks.items()}
    wrong = sum(int((masks[i] != other[i]).sum()) for i in masks)
    marked = sum(int((masks[i] | other[i]).sum()) for i in masks)
    assert 0 < wrong < marked
    assert difference(competition, *paths, sizes) == pytest.approx(wrong / marked)
    assert difference(competition, paths[0], paths[0], sizes) == 0
    empty = write(workspace, "c.csv", {image_id: mask & False for image_id, mask in masks.items()})
    assert difference(competition, empty, empty, sizes) == 0 and difference(competition, empty, paths[0], sizes) == 1


def test_of_classes_that_overlap_each_plane_is_compared(place, masks, tmp_path):
    """A pixel differs once for every class in which it does."""
    competition, sizes = place[0], {image_id: mask.shape for image_id, mask in masks.items()}
    settings = competition.settings.model_copy(update={"classes": ["a", "b"], "multilabel": True})
    settings = settings.model_copy(
        update={"submission": settings.submission.model_copy(update={"class_column": "class", "sample": "s.csv"})}
    )
    rows = [(image_id, name) for image_id in masks for name in ("a", "b")]
    sample = pd.DataFrame(rows, columns=["id", "class"]).assign(predicted="")
    sample.to_csv(competition.root / "s.csv", index=False)
    planes = {image_id: (mask, ~mask) for image_id, mask in masks.items()}
    paths = []
    for number, other in enumerate((False, True)):
        texts = [rle.encode(mask if i == 0 or not other else mask | planes[image_id][0])
                 for image_id in masks for i, mask in enumerate(planes[image_id])]  # fmt: skip
        paths.append(tmp_path / f"{number}.csv")
        sample.assign(predicted=texts).to_csv(paths[-1], index=False)
    wrong = sum(int(mask.sum()) for mask in masks.values())  # b has the pixels of a, too
    marked = wrong + sum(mask.size for mask in masks.values())
    assert difference(Competition(settings), *paths, sizes) == pytest.approx(wrong / marked)


def test_public_scores_count_else_the_out_of_fold_score_moved_by_the_usual_gap():
    table = pd.DataFrame({"cross": [0.70, 0.72, 0.80, 0.90, None], "public": [0.60, 0.62, 0.74, None, None]})
    assert strengths(table).round(6).tolist()[:4] == [0.60, 0.62, 0.74, 0.80]
    assert np.isnan(strengths(table)[4])
    assert strengths(table.assign(public=None)).tolist()[:4] == [0.70, 0.72, 0.80, 0.90]


def test_the_second_is_the_most_different_of_the_strong_and_copies_do_not_count(tiny, place, masks, capsys):
    competition, workspace = place
    far = {image_id: np.roll(mask, 5) for image_id, mask in masks.items()}
    near = {image_id: mask.copy() for image_id, mask in masks.items()}
    near["im6"][:20] = False
    weak = {image_id: ~mask for image_id, mask in masks.items()}
    for name, answer in {"best": masks, "copy": masks, "near": near, "far": far, "weak": weak}.items():
        write(workspace, f"{name}.csv", answer)
    rows = [("near.csv", 0.8, 0.698), ("best.csv", 0.7, 0.70), ("copy.csv", 0.7, 0.699), ("far.csv", 0.79, 0.695)]
    list_scores(workspace, [*rows, ("weak.csv", 0.9, 0.5), ("gone.csv", 0.9, 0.9)])
    chosen = choose(competition, workspace, 2)
    assert [choice.file for choice in chosen] == ["best.csv", "far.csv"]
    assert chosen[1].differs > 0.5 and chosen[0] == ChosenSubmission("best.csv", 0.70, None)
    # Closer together only the near one is strong enough; with more to choose, the strong ones come first.
    assert [choice.file for choice in choose(competition, workspace, 2, within=0.003)] == ["best.csv", "near.csv"]
    order = ["best.csv", "far.csv", "near.csv", "weak.csv"]
    assert [choice.file for choice in choose(competition, workspace, 4)] == order
    main(["select", str(tiny), "2"])
    assert "far.csv" in capsys.readouterr().out
    with pytest.raises(UserError, match="lists 4 submissions"):
        choose(competition, workspace, 5)
    for wrong in ("0", "1.5", "two"):
        with pytest.raises(UserError, match="expected"):
            main(["select", str(tiny), wrong])


def test_what_is_in_an_earlier_format_is_left_out_and_said(place, masks, capsys):
    competition, workspace = place
    for name, shift in {"best": 0, "other": 5, "old": 2, "older": 3}.items():
        write(workspace, f"{name}.csv", {image_id: np.roll(mask, shift) for image_id, mask in masks.items()})
    for name in ("old.csv", "older.csv"):
        path = workspace.submissions / name
        path.write_text(path.read_text().replace("predicted", "EncodedPixels"))
    rows = [("best.csv", 0.7, 0.7), ("other.csv", 0.7, 0.699), ("old.csv", 0.9, 0.9), ("older.csv", 0.7, 0.698)]
    list_scores(workspace, rows)
    assert [choice.file for choice in choose(competition, workspace, 2)] == ["best.csv", "other.csv"]
    out = capsys.readouterr().out
    assert out.count("left out: ") == 2 and "old.csv has no column 'predicted'" in out
    with pytest.raises(UserError, match="lists 2 submissions with a score"):
        choose(competition, workspace, 3)


def test_without_submissions_it_says_what_makes_some(tiny):
    with pytest.raises(UserError, match="05_infer_ensemble.py"):
        main(["select", str(tiny)])
