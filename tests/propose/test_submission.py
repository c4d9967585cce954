"""What `init` writes of the answers: the metric of a preset, and names that hold folders."""

import json

import layouts
import odd_layouts
import pytest
from layouts import save, scene, table

from lib.competition.codecs.common import names_of
from lib.competition.dataset import Competition
from lib.config import load
from lib.config.presets import COMPETITIONS
from lib.propose.propose import propose


@pytest.mark.parametrize(
    ("make", "preset"),
    [
        (layouts.hubmap, "hubmap2021"),
        (layouts.hubmap2022, "hubmap2022"),
        (layouts.siim, "siim"),
        (layouts.coco, "boostcamp_trash"),
        (odd_layouts.volumes, "sennet"),
    ],
)
def test_the_metric_of_a_preset_stays(tmp_path, capsys, make, preset):
    propose(make(tmp_path / "raw").root, "mine", tmp_path / "mine.yaml")
    config = load(tmp_path / "mine.yaml").competition
    assert config.submission.preset == preset and config.metric == COMPETITIONS[preset].metric
    assert config.score_background == COMPETITIONS[preset].score_background
    assert "\n  metric:" not in (tmp_path / "mine.yaml").read_text()
    assert f"the metric: {config.metric} is that of {preset}; other competitions" in capsys.readouterr().out


def test_a_metric_is_guessed_where_no_preset_names_one(tmp_path, capsys):
    propose(layouts.square_rle(tmp_path / "raw").root, "mine", tmp_path / "mine.yaml")
    assert "\n  metric: mean_dice" in (tmp_path / "mine.yaml").read_text()
    assert "the metric: mean_dice is a guess" in capsys.readouterr().out


def trash(root, folder, first):
    """Images of one name in several folders, a COCO JSON, and a sample that asks for paths: those of two images in the
    test `folder`, of which the `first` has that number. Returns these."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "Paper"}, {"id": 2, "name": "Metal"}]}
    train = [f"{folder.rpartition('/')[0]}/batch_0{2 + i % 2}/{1 + i // 2:04}.jpg".lstrip("/") for i in range(8)]
    test = [f"{folder}/{first + i:04}.jpg" for i in range(2)]
    for i, file in enumerate([*train, *test]):
        save(root / file, scene(i, 120, 150, classes=2)[0])
    for i, file in enumerate(train):
        content["images"].append({"id": i, "file_name": file, "height": 120, "width": 150})
        for kind in (1, 2):
            outline = [10 * kind, 10, 10 * kind, 50 + i, 60, 50 + i, 60, 10]
            note = {"id": 2 * i + kind, "image_id": i, "category_id": kind, "segmentation": [outline], "iscrowd": 0}
            content["annotations"].append({**note, "area": 100 // kind})
    (root / "train.json").write_text(json.dumps(content))
    table(root / "sample_submission.csv", ["image_id", "PredictionString"], [(file, "0 0 0") for file in test])
    return test


@pytest.mark.parametrize(("folder", "first"), [("batch_01_vt", 1), ("batch_02", 70), ("data/batch_01", 1)])
def test_paths_are_asked_for_where_all_test_images_lie_in_one_folder(tmp_path, folder, first):
    asked = trash(tmp_path / "raw", folder, first)
    propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")
    config = load(tmp_path / "mine.yaml").competition
    competition = Competition(config)
    competition.check()
    names = [name for i in competition.ids("test") for name, _ in names_of(config, i, competition.paths[i])]
    assert config.submission.preset == "boostcamp_trash" and sorted(names) == asked
