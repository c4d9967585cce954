"""DICOM, HDF5, NIfTI, Zarr and stacks in one file: every slice is an image, with the values that were written."""

import importlib
import sys

import numpy as np
import pytest
import tifffile

from lib.competition.dataset import Competition
from lib.config.competition import CompetitionSettings, Pixels
from lib.errors import UserError
from lib.imaging.reader import files_of, images_in, open_image

VOLUME = np.random.default_rng(1).integers(-900, 3000, (5, 30, 40)).astype(np.int16)  # slices, rows, columns
PACKAGES = {".nii.gz": "nibabel", ".h5": "h5py", ".zarr": "zarr", ".dcm": "pydicom"}


def write(path, volume):
    """A volume in the form of the path's suffix; returns the options that read it."""
    suffix = "".join(path.suffixes)
    package = importlib.import_module(PACKAGES[suffix]) if suffix in PACKAGES else None
    if suffix == ".nii.gz":
        package.Nifti1Image(np.moveaxis(volume, 0, -1), np.eye(4)).to_filename(path)
        return {}
    if suffix == ".h5":
        with package.File(path, "w") as file:
            file["scan/ct"] = volume
            file["scan/other"] = np.zeros((2, 3))
        return {"slice_axis": 0, "dataset": "scan/ct"}
    if suffix == ".zarr":
        root = package.open_group(str(path), mode="w")
        root.create_array("0", shape=(1, *volume.shape), dtype=volume.dtype)[...] = volume[None]
        root.create_array("1", shape=(1, 5, 15, 20), dtype=volume.dtype)[...] = 77
        axes = [{"name": name} for name in "czyx"]
        root.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]
        return {}
    if suffix == ".npy":
        np.save(path, np.moveaxis(volume, 0, 1))
        return {"slice_axis": 1}
    if suffix == ".tif":
        tifffile.imwrite(path, volume, photometric="minisblack")
        return {"slice_axis": 0}
    dicom(path, volume)
    return {"slice_axis": 0}


def dicom(path, frames, **tags):
    from pydicom.dataset import Dataset, FileDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = Dataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    about = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    about.Rows, about.Columns, about.NumberOfFrames = *frames.shape[-2:], len(frames)
    about.SamplesPerPixel, about.PhotometricInterpretation = 1, tags.pop("photometric", "MONOCHROME2")
    about.BitsAllocated = about.BitsStored = 8 * frames.dtype.itemsize
    about.HighBit, about.PixelRepresentation = about.BitsStored - 1, int(frames.dtype.kind == "i")
    for name, value in tags.items():
        setattr(about, name, value)
    about.PixelData = frames.tobytes()
    about.save_as(path, enforce_file_format=True)


FORMS = ["ct.nii.gz", "ct.h5", "ct.zarr", "ct.dcm", "ct.npy", "ct.tif"]


@pytest.mark.parametrize("name", FORMS)
def test_slices_of_volumes_are_images(tmp_path, name):
    if package := PACKAGES.get(name.removeprefix("ct")):
        pytest.importorskip(package)
    path = tmp_path / name
    options = write(path, VOLUME)
    pixels = Pixels(channels=[{"name": "x", "band": 0, "scaling": "type"}], slices=(-1, 0, 1), **options)
    images = images_in(path, pixels)
    assert [image.name for image in images] == ["0000", "0001", "0002", "0003", "0004"]
    for number in (0, 2):
        with open_image(images[number], pixels) as image:
            assert (image.height, image.width, image.count, image.depth) == (30, 40, 3, "int16")
            seen = image.read(4, 5, 20, 30)
        wanted = VOLUME[[max(0, number - 1), number, number + 1], 4:24, 5:35].transpose(1, 2, 0).astype(int) + 32768
        assert np.abs(seen.astype(int) - wanted).max() <= 1, "int16 to uint16, value by value"
    with open_image(images[1], Pixels(range=(-900, 3000), **options)) as image:
        assert image.read(0, 0, 30, 40).shape == (30, 40, 3) and np.ptp(image.read(0, 0, 30, 40)) > 200
    assert all(file.is_file() for file in files_of(images[1], pixels)) and files_of(images[1], pixels)
    with pytest.raises(UserError, match="there is no image .*/0005; its stack has the slices 0 to 4"):
        open_image(path / "0005", pixels)
    alone = pixels.model_copy(update={"slices": ()})
    with pytest.raises(UserError, match=f"{name} holds 5 slices, and .*/0005 names number 5"):
        open_image(path / "0005", alone)
    with pytest.raises(UserError, match=f"{name} holds 5 slices, and .*{name} names none"):
        open_image(path, alone)


def test_a_thumbnail_of_ome_zarr_is_made_from_a_smaller_level(tmp_path):
    pytest.importorskip("zarr")
    write(tmp_path / "a.zarr", VOLUME)
    with open_image(tmp_path / "a.zarr/0001", Pixels(channels=[{"name": "x", "band": 0, "range": [0, 100]}])) as image:
        assert round(image.thumbnail(20).mean() / 65535 * 100) == 77


@pytest.mark.parametrize(("name", "package"), [("a.nii.gz", "nibabel"), ("a.h5", "h5py"), ("a.dcm", "pydicom")])
def test_a_missing_package_and_a_damaged_file_are_one_sentence(tmp_path, monkeypatch, name, package):
    (tmp_path / name).write_bytes(b"x" * 400)
    pytest.importorskip(package)
    with pytest.raises(UserError, match=f"{name} is not a readable .*; replace or remove the file"):
        open_image(tmp_path / name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{name} needs a package that is missing .*: pip install {package}"):
        open_image(tmp_path / name)


def test_dicom_is_rescaled_and_low_values_are_dark(tmp_path):
    pytest.importorskip("pydicom")
    frames = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    dicom(tmp_path / "a.dcm", frames, RescaleSlope=2, RescaleIntercept=-1000)
    with open_image(
        tmp_path / "a.dcm", Pixels(channels=[{"name": "x", "band": 0, "range": [-1000, -978]}], depth=8)
    ) as image:
        assert image.depth == "float32"
        assert np.abs(image.read(0, 0, 3, 4)[..., 0].ravel() - np.arange(12) * 255 / 11).max() < 1
    dicom(tmp_path / "b.dcm", frames.astype(np.uint8), photometric="MONOCHROME1")
    with open_image(tmp_path / "b.dcm") as image:
        assert image.read(0, 0, 3, 4)[..., 0].ravel().tolist() == [255 - value for value in range(12)]
    signed = np.int16([[[-32768, -1, 0, 32767]]])
    dicom(tmp_path / "d.dcm", signed, photometric="MONOCHROME1")
    with open_image(tmp_path / "d.dcm", Pixels(channels=[{"name": "x", "band": 0}], scaling="type")) as image:
        assert image.read(0, 0, 1, 4).ravel().tolist() == [65535, 32768, 32767, 0]
    dicom(tmp_path / "c.dcm", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(UserError, match="c.dcm holds 2 frames; set competition.pixels.slice_axis to 0"):
        open_image(tmp_path / "c.dcm")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_values_of_nifti_are_scaled_as_the_header_says(tmp_path, name):
    nibabel = pytest.importorskip("nibabel")
    volume = nibabel.Nifti1Image(np.arange(12, dtype=np.int16).reshape(3, 4, 1), np.eye(4))
    volume.header.set_slope_inter(0.5, -3)
    volume.to_filename(tmp_path / name)
    wanted = nibabel.load(tmp_path / name).get_fdata()[..., 0]
    pixels = Pixels(channels=[{"name": "x", "band": 0, "range": [wanted.min(), wanted.max()]}], depth=8)
    with open_image(tmp_path / name / "0000", pixels) as image:
        assert image.depth == "float32" and wanted.dtype == np.float64
        share = (wanted - wanted.min()) / np.ptp(wanted)
        assert np.abs(image.read(0, 0, 3, 4)[..., 0] - share * 255).max() <= 0.51


def test_of_several_arrays_one_is_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["img"], file["dem"] = np.full((9, 9, 14), 3.0), np.full((9, 9), 7.0)
    pixels = Pixels(
        channels=[
            {"name": "x", "band": 13, "dataset": "img", "range": [0, 10]},
            {"name": "dem", "dataset": "dem", "range": [0, 10]},
        ]
    )
    with open_image(tmp_path / "a.h5", pixels) as image:
        assert (image.read(0, 0, 1, 1) / 6553.5).round().tolist() == [[[3, 7]]]
    with pytest.raises(
        UserError, match="a.h5 has 2 arrays of two axes or more; it has dem, img: name one in .*dataset"
    ):
        open_image(tmp_path / "a.h5", Pixels(channels=[{"name": "x", "band": 0}]))


def test_a_competition_of_volumes_with_labels_in_volumes(tmp_path):
    pytest.importorskip("nibabel")
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        write(tmp_path / f"train/{name}/ct.nii.gz", VOLUME)
        write(tmp_path / f"train/{name}/seg.nii.gz", (VOLUME > 1000).astype(np.int16))
    labels = {"format": "mask_images", "path": "train", "files": "{id}/seg.nii.gz/{id}"}
    settings = {"root": str(tmp_path), "train_images": "train/*/ct.nii.gz", "test_images": "", "labels": labels}
    competition = Competition(CompetitionSettings(**settings, image_ids="{id}/ct/{id}"))
    assert competition.ids("train") == [f"{name}_{i:04}" for name in "ab" for i in range(5)]
    assert competition.labels.image_ids == set(competition.ids("train"))
    assert competition.files["b_0003"] == "train/b/ct.nii.gz/0003"
    label = competition.open_label(competition.images[3], 30, 40)
    assert (label.read(2, 3, 20, 30) == (VOLUME[3, 2:22, 3:33] > 1000)).all()
