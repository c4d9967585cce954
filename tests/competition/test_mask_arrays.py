"""Masks in HDF5 files, and masks of more than 8 bits."""

import cv2
import h5py
import numpy as np
import pytest
import tifffile

from lib.competition.labels.mask_images import MaskImages
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.tables import IGNORE

H, W = 30, 40
INDICES = np.random.default_rng(0).integers(0, 3, (H, W))


def reader(root, suffix, classes=("road", "tree"), **labels):
    options = {"format": "mask_images", "path": ".", "suffix": suffix, **labels}
    return MaskImages(CompetitionSettings(root=str(root), classes=list(classes), labels=options), {"a"})


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("__", "/")] = values


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
@pytest.mark.parametrize("shape", [(H, W), (H, W, 1)])
def test_a_dataset_is_a_mask(tmp_path, suffix, shape):
    hdf5(tmp_path / f"a{suffix}", mask=INDICES.reshape(shape).astype(np.int16), version=np.arange(3))
    label = reader(tmp_path, suffix).open("a", H, W)
    assert (label.read(0, 0, H, W) == INDICES).all() and (label.read(3, 5, 7, 9) == INDICES[3:10, 5:14]).all()


def test_of_several_datasets_one_is_named(tmp_path):
    hdf5(tmp_path / "a.h5", img=np.zeros((H, W, 4)), labels__mask=INDICES)
    label = reader(tmp_path, ".h5", dataset="labels/mask").open("a", H, W)
    assert (label.read(0, 0, H, W) == INDICES).all()
    for name, what in (("", "has 2 arrays of two axes or more"), ("mask", "has no array 'mask'")):
        with pytest.raises(UserError, match=rf"a.h5 {what}; it has img, labels/mask: name one in .*labels.dataset"):
            reader(tmp_path, ".h5", dataset=name).open("a", H, W)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((H, W, 2, 3)), r"a.h5 is an array \(30, 40, 2, 3\) of float64; numbers \(H, W\) or \(H, W, C\)"),
        (np.zeros((H, W + 1)), "a.h5 is 30 x 41, its image 30 x 40"),
        (np.full((H, W), 7), "a.h5 holds value 7, which is not a class"),
    ],
)
def test_another_array_is_refused(tmp_path, values, what):
    hdf5(tmp_path / "a.h5", mask=values)
    with pytest.raises(UserError, match=what):
        reader(tmp_path, ".h5").open("a", H, W)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"none")
    with pytest.raises(UserError, match="a.h5 is not a readable HDF5"):
        reader(tmp_path, ".h5").open("a", H, W)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy", ".h5"])
def test_values_beyond_8_bits_are_classes(tmp_path, suffix):
    deep = np.array([0, 7001, 65000], np.uint16)[INDICES]
    deep[0, 0] = 7257  # 7001 + 256: another value, which 8 bits would not tell from it
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, deep)
    elif suffix == ".png":
        cv2.imwrite(str(path), deep)
    elif suffix == ".npy":
        np.save(path, deep)
    else:
        hdf5(path, mask=deep)
    palette = {"background": 0, "road": 7001, "tree": 65000}
    label = reader(tmp_path, suffix, palette=palette, other="ignore").open("a", H, W).read(0, 0, H, W)
    assert label[0, 0] == IGNORE and (label.ravel()[1:] == INDICES.ravel()[1:]).all()
    ids = reader(tmp_path, suffix, classes=("cell",), threshold=0).open("a", H, W).read(0, 0, H, W)
    assert (ids == (deep > 0)).all()
