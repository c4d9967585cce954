"""Each known competition's format: a golden file written by other means, the way back, and what it is like."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lib.competition.codecs.common import names_of
from lib.competition.metrics import scored_classes
from lib.competition.scoring import open_codec
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.config.presets import PRESETS
from lib.plugins import find

ROOT = Path(__file__).resolve().parents[2]

GOLDEN = Path(__file__).parent / "golden"
SIZE = (20, 36)
CLASSES = {
    "severstal": ["1", "2"], "clouds": ["Fish", "Flower"], "uw_madison": ["large_bowel", "stomach"],
    "boostcamp_trash": ["Paper", "Metal"], "boostcamp_handbone": ["finger-1", "Hamate"], "drivendata": ["low", "high"],
}  # fmt: skip
SMALL = {"boostcamp_trash": {"size": [5, 9]}}  # 65,536 numbers an image are a large golden file
IDS = ["test_7", "test_12"]
PATHS = {"test_7": "batch_01_vt/test_7", "test_12": "batch_02_vt/0012"}


class Folder:
    """What `open_codec` asks a competition for."""

    paths = PATHS

    def __init__(self, preset: str):
        submission = {"preset": preset, **SMALL.get(preset, {})}
        self.settings = CompetitionSettings(classes=CLASSES.get(preset, ["object"]), submission=submission)
        self.label_names = self.settings.label_names
        self.sample = sample_of(self.settings)


def sample_of(settings):
    s = settings.submission
    if s.codec == "patches":
        names = [(f"{n:03}_{x}_{y}", "") for n in (7, 12) for y in (0, 16) for x in (0, 16, 32)]
    else:
        names = [name for i in IDS for name in names_of(settings, i, PATHS[i])]
    table = pd.DataFrame(names, columns=[s.id_column, s.class_column or "none"])
    return table[[s.id_column, *filter(None, [s.class_column])]].assign(**{s.rle_column: ""})


def picture(classes: int) -> np.ndarray:
    """Labels of `test_7`: two objects that touch by a corner and others that do not, one along three borders."""
    labels = np.zeros(SIZE, np.uint8)
    labels[2:6, 3:9], labels[6:9, 9:12], labels[12:, 30:], labels[0, 33] = 1, 1, 1, 1
    labels[10:18, 4:20], labels[12:14, 8:11] = classes, 0
    assert len(np.unique(labels)) == classes + 1
    return labels


def written(preset, tmp_path, cut=7):
    folder = Folder(preset)
    codec = open_codec(folder)
    labels = picture(len(folder.settings.classes))
    if folder.settings.multilabel:
        labels = np.stack([labels == 1, labels == 2]).astype(np.uint8)
    codec.add(IDS[0], *SIZE, [(0, labels[..., :cut, :]), (cut, labels[..., cut:, :])])
    if preset in ("inria", "drivendata"):  # files, not rows: an image that is never added has none
        codec.add(IDS[1], *SIZE, [(0, labels * 0)])
    path = tmp_path / f"out{codec.suffix}"
    codec.write(path)
    return codec, labels, path


@pytest.mark.parametrize("preset", PRESETS)
def test_golden_file(preset, tmp_path):
    codec, _, path = written(preset, tmp_path)
    golden = GOLDEN / f"{preset}{codec.suffix}"
    if codec.suffix == ".csv":
        assert path.read_text() == golden.read_text()
        return
    ours, theirs = unzipped(path), unzipped(golden)
    assert list(ours) == list(theirs) and all((ours[name] == theirs[name]).all() for name in ours)


def unzipped(path):
    with zipfile.ZipFile(path) as archive:
        return {name: np.array(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_written_is_read_and_checked(preset, tmp_path):
    codec, labels, path = written(preset, tmp_path)
    sizes = dict.fromkeys(IDS, SIZE)
    size = codec.answer_size(*SIZE)
    ((_, expected),) = codec.seen(*SIZE, [(0, labels)])
    for file in (path, GOLDEN / f"{preset}{codec.suffix}"):
        found = codec.read(file, sizes)
        assert (found[IDS[0]].read(0, 0, *size) == expected).all() and expected.any()
        assert not found[IDS[1]].read(0, 0, *size).any()
        assert codec.check(file, sizes) == {IDS[0]: (expected > 0).sum(), IDS[1]: 0}


@pytest.mark.parametrize("preset", PRESETS)
def test_bands_do_not_matter_and_again_is_the_same_file(preset, tmp_path):
    one, other = (written(preset, folder, cut)[2] for folder, cut in ((tmp_path, 7), (tmp_path / "b", 13))
                  if folder.mkdir(exist_ok=True) is None)  # fmt: skip
    assert one.read_bytes() == other.read_bytes()


def test_siim_is_what_its_organisers_function_reads(tmp_path):
    _, labels, path = written("siim", tmp_path)
    text = pd.read_csv(path, index_col="ImageId")["EncodedPixels"]
    mask = np.zeros(labels.size)  # rle2mask of the competition's mask_functions.py, and the transposition it asks for
    position = 0
    numbers = [int(word) for word in text[IDS[0]].split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += start
        mask[position : position + length] = 1
        position += length
    assert (labels == mask.reshape(SIZE[::-1]).T).all() and text[IDS[1]] == "-1"


def test_sizes_of_the_competitions():
    assert CompetitionSettings(submission={"preset": "clouds"}).submission.size == (350, 525)
    assert CompetitionSettings(submission={"preset": "boostcamp_trash"}).submission.size == (256, 256)
    assert CompetitionSettings(submission={"preset": "clouds", "size": [4, 6]}).submission.size == (4, 6), (
        "own options win"
    )


def test_the_docs_name_every_preset_and_its_config_loads_with_it(tmp_path):
    page = (ROOT / "docs/how-to/competitions.md").read_text("utf-8")
    rows = re.findall(r"^\| `(configs/\w+.yaml)` \| (.*) \|$", page, re.M)
    named = [(config, preset) for config, presets in rows for preset in re.findall(r"`(\w+)`", presets)]
    assert sorted(preset for _, preset in named) == sorted(PRESETS)
    for config, preset in named:
        options = yaml.safe_load((ROOT / config).read_text("utf-8"))
        for key in ("metric", "score_background", "answers", "unlabeled_images"):
            options["competition"].pop(key, None)
        options["competition"]["submission"] = {"preset": preset}
        (tmp_path / "a.yaml").write_text(yaml.dump(options))
        settings = load(tmp_path / "a.yaml").competition
        scored = [settings.label_names[index] for index in scored_classes(settings)]
        assert ("background" in scored) == (preset == "boostcamp_trash"), "background inflates a mean"
        assert find("metric", settings.metric, "competition.metric")
        assert settings.submission.codec == PRESETS[preset].get("codec", "rle")


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match="preset: 'hubmap' is not known; there are hubmap2021, hubmap2022"):
        CompetitionSettings(submission={"preset": "hubmap"})


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"id_template": "{name}.jpg"}, "id_template: '{name}.jpg' cannot be filled in"),
        ({"id_template": "{id}_{class}", "class_column": "class"}, "keep one"),
        ({"size": [3]}, "height and width are expected"),
        ({"id_template": "x.jpg"}, "it must hold {id} or {number}"),
        ({"codec": "tif", "class_column": "class"}, "take the class out of class_column"),
        (
            {"preset": "epfl_roads", "id_template": "{id}_{class}_{x}_{y}"},
            "take the class out of class_column and id_template",
        ),
        ({"preset": "boostcamp_trash", "instances": True}, "unset competition.submission.instances"),
        ({"preset": "epfl_roads", "size": [4, 4]}, "unset competition.submission.size"),
        ({"codec": "pixels"}, "set competition.submission.size"),
        ({"preset": "epfl_roads", "sample": ""}, "needs the organiser's sample"),
    ],
)
def test_options_that_do_not_fit_together(options, what):
    with pytest.raises(ValueError, match=what):
        CompetitionSettings(submission=options)


def test_the_truth_is_cut_into_patches_as_the_organisers_script_does(tmp_path):
    codec = open_codec(Folder("epfl_roads"))
    mask = np.random.default_rng(3).random((40, 50)) < np.linspace(0, 0.6, 50)
    ((_, found),) = codec.seen(40, 50, [(0, mask[:17].astype(np.uint8)), (17, mask[17:].astype(np.uint8))])
    expected = [
        [1 if np.mean(mask[i : i + 16, j : j + 16]) > 0.25 else 0 for j in range(0, 50, 16)] for i in range(0, 40, 16)
    ]
    assert found.tolist() == expected and 0 < found.sum() < found.size
