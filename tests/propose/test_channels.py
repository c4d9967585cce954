"""`init` on images of many bands, files, frames and slices: which channels it proposes, and when none."""

import cv2
import h5py
import numpy as np
import pydicom
import pytest
import tifffile
from layouts import numbered, save, scene, scenes, table
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from lib.competition import rle
from lib.competition.dataset import Competition
from lib.competition.scoring import open_codec
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.imaging.reader import open_image
from lib.propose.choose import training, windows
from lib.propose.pixels.channels import SampledPixels, _ranked
from lib.propose.pixels.measure import ObjectSizes, PictureSizes
from lib.propose.propose import propose
from lib.propose.splits import training_images

NAMES = numbered("{:04x}7")
SIZE = 96


def proposed(tmp_path):
    propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")
    competition = Competition(load(tmp_path / "mine.yaml").competition)
    competition.check()
    open_codec(competition)
    pixels = competition.settings.pixels.model_copy(update={"scaling": "image"})
    for image in competition.images:
        with open_image(image.path, pixels) as reader:
            assert reader.read(0, 0, 9, 9).shape[-1] == pixels.count
    return competition.settings, competition


def names_of(settings):
    return [channel.name for channel in settings.pixels.channels]


def band_values(label, number, told):
    """A band (h, w) of noise, which is brighter in objects if it is `told`."""
    return np.random.default_rng(number).normal(1000, 60, label.shape) + 300 * told * (label > 0)


def tall(label, told, start):
    return np.stack([band_values(label, start + i, i in told) for i in range(7)], -1)


def test_bands_of_a_file(tmp_path, capsys):
    root = tmp_path / "raw"
    for number, (split, name, _, label) in enumerate(scenes(NAMES, SIZE, SIZE)):
        values = tall(label, (1, 4, 5), 100 * number)
        values[:9, :20] = -32768
        values[..., 6] = 5  # constant
        path = root / f"{split}_satellite" / f"{name}_satellite.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, values.astype(np.int16), photometric="minisblack", planarconfig="contig")
        if split == "train":
            save(root / "train_kelp" / f"{name}_kelp.tif", label)
    settings, _ = proposed(tmp_path)
    assert "image_format" not in (tmp_path / "mine.yaml").read_text(), "tiles of bands are arrays"
    pixels, said = settings.pixels, capsys.readouterr().out
    assert names_of(settings) == [f"band{i}" for i in range(6)] and pixels.nodata == -32768
    assert set(pixels.show) == {"band1", "band4", "band5"} and (pixels.scaling, pixels.depth) == ("quantiles", 16)
    assert not pixels.range and not pixels.bands
    assert "1 of 7 are left out: constant, repeated" in said
    assert "if there were only three, they would be band" in said and "from which the labels are told best" in said
    assert "which values are black and white" not in said


def test_a_file_for_each_band(tmp_path):
    root = tmp_path / "raw"
    for number, (split, name, _, label) in enumerate(scenes(NAMES, SIZE, SIZE)):
        for i, band in enumerate(("B02", "B03", "B04", "B08")):
            values = band_values(label, 10 * number + i, True)
            save(root / f"{split}_features" / name / f"{band}.tif", values.astype(np.uint16))
        if split == "train":
            save(root / "train_labels" / f"{name}.tif", label)
    settings, _ = proposed(tmp_path)
    assert names_of(settings) == ["B04", "B03", "B02", "B08"] and settings.pixels.colours == ("B04", "B03", "B02")
    assert settings.train_images.endswith("/B04.tif") and not settings.pixels.files


def test_frames_of_bands_are_chosen_by_the_labels(tmp_path):
    root = tmp_path / "raw"
    for number, (split, name, _, label) in enumerate(scenes(NAMES, SIZE, SIZE)):
        place = root / split / f"10{name}"
        place.mkdir(parents=True)
        for band in range(9, 13):
            frames = [band_values(label, 1000 * number + 10 * band + t, (band, t) == (11, 4)) for t in range(6)]
            np.save(place / f"band_{band:02}.npy", np.stack(frames, -1).astype(np.float32))
        if split == "train":
            np.save(place / "pixel_masks.npy", label[..., None].astype(np.int32))
    table(root / "sample_submission.csv", ["record_id", "encoded_pixels"], [(f"10{n}", "-") for n in NAMES["test"]])
    settings, _ = proposed(tmp_path)
    chosen = names_of(settings)
    assert "band_11_4" in chosen and 3 <= len(chosen) <= 9
    channel = settings.pixels.channels[chosen.index("band_11_4")]
    assert (channel.file, channel.band) == ("band_11", 4)


def test_arrays_in_hdf5(tmp_path):
    root, truth = tmp_path / "raw", {}
    number = 0
    for split, count in (("Train", 6), ("Valid", 2), ("Test", 2)):
        for k in range(1, count + 1):
            label, number = scene(number, SIZE, SIZE)[1], number + 1
            for kind in ("img", "mask"):
                (root / f"{split}Data" / kind).mkdir(parents=True, exist_ok=True)
            with h5py.File(root / f"{split}Data/img/image_{k}.h5", "w") as file:
                file["img"] = tall(label, (0, 3), 100 * number) / 1000
            if split == "Train":
                with h5py.File(root / f"TrainData/mask/mask_{k}.h5", "w") as file:
                    file["truth"] = label
                truth[f"TrainData_{k}"] = label
    settings, competition = proposed(tmp_path)
    assert len(names_of(settings)) == 7 and settings.image_ids == "{id}/img/image_{id}"
    assert (settings.submission.codec, settings.submission.id_template) == ("files", "mask_{number}.h5")
    assert settings.submission.dataset == "truth", "answers have the name of the masks' array"
    assert set(competition.ids("train")) == set(truth) and competition.ids("unlabeled")
    for name, label in truth.items():
        assert (competition.labels.open(name, SIZE, SIZE).read(0, 0, SIZE, SIZE) == label).all()


@pytest.mark.parametrize("coloured", [True, False])
def test_blocks_are_frozen_and_tiles_are_pictures_only_in_colours(coloured, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sizes, filling = PictureSizes(9, [256], [256], 6, ()), ObjectSizes(200, 50, 0.9)
    settings = CompetitionSettings(classes=["land", "water"], background=False)
    chosen = training(settings, sizes, filling, 128, coloured) + windows(sizes, filling, 1.0, coloured)
    found = {choice.key: choice.value for choice in chosen}
    assert found["model.architecture"] == "fpn", "the regions do not fill the image"
    assert ("train.frozen" in found, "preprocess.image_format" in found) == (coloured, coloured)


def stacks(root, drift):
    """16-bit slices numbered anew in each stack; discs that move by `drift` pixels from slice to slice."""
    sample = []
    for k, (stack, split) in enumerate((("k1", "train"), ("k2", "train"), ("k3", "train"), ("k5", "test"))):
        rng = np.random.default_rng(k)
        at = rng.uniform(20, SIZE - 20, (6, 2))
        for z in range(6):
            label = np.zeros((SIZE, SIZE), np.uint8)
            places = at + drift * z if drift is not None else rng.uniform(10, SIZE - 10, (6, 2))
            for x, y in places:
                cv2.circle(label, (int(x), int(y)), 9, 1, -1)
            values = 9000.0 * (k + 1) + 4000.0 * label + rng.normal(0, 300, label.shape)
            save(root / split / stack / "images" / f"{z:04}.tif", values.astype(np.uint16))
            if split == "train":
                save(root / split / stack / "labels" / f"{z:04}.tif", label * np.uint8(255))
            else:
                sample.append((f"{stack}_{z:04}", "1 0"))
    table(root / "sample_submission.csv", ["id", "rle"], sample)


def test_slices_whose_neighbours_are_alike(tmp_path, capsys):
    stacks(tmp_path / "raw", 2.5)
    settings, _ = proposed(tmp_path)
    pixels = settings.pixels
    assert pixels.slices == (-1, 0, 1) and pixels.stack == "{stack}/images/{number}" and pixels.count == 3
    assert pixels.scaling == "stack" and names_of(settings) == ["grey"]
    assert "stacks: 4 of 6 to 6 slices; neighbours are alike" in capsys.readouterr().out


def test_numbers_alone_make_no_stack(tmp_path):
    stacks(tmp_path / "raw", None)
    settings, _ = proposed(tmp_path)
    assert not settings.pixels.channels and settings.pixels.range


@pytest.mark.parametrize(("extra", "count"), [("unassalpha", 0), ("unspecified", 4)])
def test_a_fourth_channel_may_be_opacity(tmp_path, extra, count):
    root = tmp_path / "raw"
    for split, name, picture, label in scenes(NAMES, SIZE, SIZE):
        pixels = np.dstack([picture, np.where(label > 0, 250, 240).astype(np.uint8)])
        (root / split).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / split / f"{name}.tif", pixels, photometric="rgb", extrasamples=[extra])
        if split == "train":
            save(root / "masks" / f"{name}.tif", label)
    settings, _ = proposed(tmp_path)
    assert len(settings.pixels.channels) == count and (not count or settings.pixels.depth == 8)


def dicom(path, pixels):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = path.stem
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, pixels.tobytes()
    path.parent.mkdir(parents=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def test_dicom_in_folders_of_its_own(tmp_path):
    """As SIIM's: blanks before heads and cells, rows for objects, an image without row, flat and lively images."""
    root, rows, tests = tmp_path / "raw", [], []
    for i in range(20):
        split, uid = "train" if i < 16 else "test", f"1.2.276.{{}}.{400 + 7 * i}"
        picture, label = scene(i, SIZE, SIZE)
        pixels = picture[..., 0] if i not in (3, 10) else label * np.uint8(90)
        name = uid.format(4)
        dicom(root / f"dicom-images-{split}" / uid.format(2) / uid.format(3) / f"{name}.dcm", pixels)
        if split == "test":
            tests.append((name, "-1"))
        elif i != 5:
            numbers = np.array(rle.encode(label, "column", 0).split(), np.int64)
            numbers[2::2] -= numbers[:-2:2] + numbers[1:-1:2]
            rows.append((name, " " + " ".join(map(str, numbers))))
    table(root / "train-rle.csv", ["ImageId", " EncodedPixels"], rows)
    table(root / "sample_submission.csv", ["ImageId", "EncodedPixels"], tests)
    settings, competition = proposed(tmp_path)
    assert settings.submission.preset == "siim" and settings.labels.missing == "empty" and settings.labels.relative
    assert len(competition.ids("train")) == 16 and settings.train_images == "dicom-images-train/*/*/*"


def test_an_unlabeled_image_beside_folders_of_single_images_is_a_training_image():
    paths = {name: f"{split}/{name}/{name}.dcm" for split, names in (("a", "uvwx"), ("b", "yz")) for name in names}
    assert training_images(paths, set("uvw"), {"y"}) == (set("uvwx"), {"x"})
    paths = {name: f"{split}/{name}.png" for split, names in (("a", "uv"), ("b", "wx")) for name in names}
    assert training_images(paths, {"u", "v"}, set()) == ({"u", "v"}, set())


def test_pixels_without_data_do_not_hide_a_channel():
    """Of more channels than are taken together, the one that tells the labels comes first in spite of its holes."""
    rng = np.random.default_rng(0)
    target = rng.random(4000) < 0.5
    values = rng.normal(1000, 50, (4000, 18))
    values[:, 7] += 200 * target
    values[rng.random(4000) < 0.05, 7] = -32768
    assert _ranked(SampledPixels(values, values, target), [*range(18)])[0] == 7
