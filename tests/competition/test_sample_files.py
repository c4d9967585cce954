"""An organiser's sample of files: the answer is read back against its names, sizes and types."""

import importlib
import io
import zipfile
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from lib.competition.codecs.sample_files import names_of_files
from lib.competition.dataset import Competition
from lib.competition.scoring import open_codec
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.predict import choose_ensemble

SIZES = {"a": (8, 9), "b": (8, 9)}


def packed(name, pixels):
    file = io.BytesIO()
    if name.endswith("tif"):
        tifffile.imwrite(file, pixels)
    elif name.endswith("h5"):
        with h5py.File(file, "w") as target:
            target["mask"] = pixels
    elif name.endswith("npy"):
        np.save(file, pixels)
    else:
        Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def save(path, files):
    """A ZIP of files, or a folder."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)


def competition(root, sample, **submission):
    for split, name in (("train", "t"), ("test", "a"), ("test", "b")):
        (root / split).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 9, 3), 90, np.uint8)).save(root / split / f"{name}.png")
    return Competition(
        CompetitionSettings(root=str(root), submission={"sample": sample, "id_column": "id", **submission})
    )


def answered(made):
    codec = open_codec(made)
    for image_id, size in SIZES.items():
        codec.add(image_id, *size, [(0, np.eye(*size, dtype=np.uint8))])
    codec.write(made.root / "out.zip")
    return codec


@pytest.mark.parametrize("sample", ["sample.zip", "submission_format"])
@pytest.mark.parametrize("form", ["tif", "png", "h5", "npy"])
def test_an_answer_like_the_sample_passes(tmp_path, form, sample):
    blank = np.zeros((8, 9), np.uint8)
    files = {f"preds/{i}_kelp.{form}": packed(form, blank) for i in "ab"}
    save(tmp_path / sample, {**files, "__MACOSX/._a": b"", ".DS_Store": b""})
    made = competition(tmp_path, sample, codec="files", id_template=f"preds/{{id}}_kelp.{form}")
    made.check_sample()
    assert answered(made).check(tmp_path / "out.zip", SIZES) == {"a": 8, "b": 8}
    assert list(made.sample["id"]) == sorted(files)


@pytest.mark.parametrize(
    ("name", "pixels", "what"),
    [
        ("{}.tif", np.zeros((8, 8), np.uint8), r"a.tif is 8 x 9 of uint8; in the sample .* it is 8 x 8 of uint8"),
        ("{}.tif", np.zeros((8, 9), np.uint16), r"a.tif is 8 x 9 of uint8; .* it is 8 x 9 of uint16"),
        ("{}.tif", np.zeros((8, 9, 3), np.uint8), r"a.tif is 8 x 9 of uint8; .* it is 8 x 9 x 3 of uint8"),
        ("{}.png", np.zeros((8, 9, 3), np.uint8), r"a.png is 8 x 9 of Pillow's mode L; .* it is 8 x 9 .* mode RGB"),
        ("{}.png", np.zeros((9, 9), np.uint8), r"a.png is 8 x 9 of Pillow's mode L; .* it is 9 x 9 of"),
        ("{}.h5", np.zeros((8, 9), np.float32), r"a.h5 is mask: 8 x 9 of uint8; .* it is mask: 8 x 9 of float32"),
        ("{}.npy", np.zeros((9, 8), np.uint8), r"a.npy is 8 x 9 of uint8; .* it is 9 x 8 of uint8"),
    ],
)
def test_files_of_another_size_or_type_are_refused(tmp_path, name, pixels, what):
    save(tmp_path / "sample.zip", {name.format(i): packed(name, pixels) for i in "ab"})
    made = competition(tmp_path, "sample.zip", codec="files", id_template=name.format("{id}"))
    codec = answered(made)
    with pytest.raises(UserError, match=what):
        codec.check(tmp_path / "out.zip", SIZES)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["a_kelp.tif", "b_kelp.tif"], "asks for 'a_kelp.tif', but there is no such test image in test/.*id_template"),
        (["a.tif"], "test image 'b' does not occur in .*sample.zip as {id}.tif"),
        (["a.tif", "b.tif", "c.tif"], "asks for 'c.tif', but there is no such test image"),
        (["x/a.tif", "x/b.tif"], "asks for 'x/a.tif'"),
    ],
)
def test_files_of_other_names_are_told_before_anything_is_predicted(tmp_path, names, what):
    save(tmp_path / "sample.zip", {name: packed(name, np.zeros((8, 9), np.uint8)) for name in names})
    made = competition(tmp_path, "sample.zip", codec="tif", id_template="{id}.tif")
    with pytest.raises(UserError, match=what):
        made.check_sample()


def test_a_zipped_csv_is_a_table(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "predicted": ""})
    table.to_csv(tmp_path / "sample.csv.zip", index=False)
    assert names_of_files(tmp_path / "sample.csv.zip") is None
    competition(tmp_path, "sample.csv.zip").check_sample()


def test_05_looks_at_the_sample_before_it_predicts(monkeypatch, tmp_path):
    """The sample, or the test images, may be others than those that 01 saw."""
    stage = importlib.import_module("05_infer_ensemble")

    def check_sample():
        raise UserError("the sample asks for another image")

    session = SimpleNamespace(competition=SimpleNamespace(check_sample=check_sample), workspace=None, config=None)
    monkeypatch.setattr(choose_ensemble, "read_ledger", lambda _: None)
    monkeypatch.setattr(stage.Session, "open", lambda *_: session)
    with pytest.raises(UserError, match="the sample asks for another image"):
        stage.main([])
