"""Label readers on the forms that competitions use: names of rows and files, words for empty, kinds of masks."""

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from lib.competition import rle
from lib.competition.labels.mask_images import MaskImages
from lib.competition.labels.rle_csv import RleCsv
from lib.config.competition import CompetitionSettings
from lib.errors import UserError

H, W = 40, 30


def blobs(seed, share=0.3):
    noise = np.random.default_rng(seed).random((H, W)).astype(np.float32)
    mask = cv2.GaussianBlur(noise, (9, 9), 3)
    mask = (mask > np.quantile(mask, 1 - share)).astype(np.uint8)
    assert 0.1 < mask.mean() < 0.5
    return mask


def csv(tmp_path, columns, rows, classes=("object",), **labels):
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "train.csv", index=False)
    labels = {"id_column": columns[0], "rle_column": columns[-1], **labels}
    return RleCsv(CompetitionSettings(root=str(tmp_path), classes=list(classes), labels=labels), {"a", "b"})


def whole(reader, name="a"):
    return reader.open(name, H, W).read(0, 0, H, W)


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("relative", [False, True])
def test_orders_bases_and_relative_starts(tmp_path, order, base, relative):
    mask = blobs(0)
    numbers = [int(n) for n in rle.encode(mask, order, base).split()]
    if relative:
        before = 0
        for i in range(0, len(numbers), 2):
            numbers[i], before = numbers[i] - before, numbers[i] + numbers[i + 1]
    text = " ".join(map(str, numbers))
    reader = csv(tmp_path, ["id", "encoding"], [("a", text)], order=order, base=base, relative=relative)
    assert (whole(reader) == mask).all()


def test_relative_starts_as_an_organiser_decodes_them(tmp_path):
    text, mask, position = "3 4 10 2 7 30", np.zeros(H * W, np.uint8), 0
    numbers = [int(n) for n in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += start
        mask[position : position + length] = 1
        position += length
    reader = csv(tmp_path, ["ImageId", " EncodedPixels"], [("a", text), ("b", "-1")], base=0, relative=True)
    assert (whole(reader) == mask.reshape(W, H).T).all()


@pytest.mark.parametrize("word", ["", "-1", " -1", "-", "1 0", "0 0"])
def test_words_for_empty(tmp_path, word):
    assert not whole(csv(tmp_path, ["id", "encoding"], [("a", word)])).any()


def test_rows_of_one_image_and_class(tmp_path):
    one, two = blobs(1), blobs(2) & ~blobs(1)
    rows = [("a.jpg_1", rle.encode(one)), ("a.jpg_2", rle.encode(two)), ("b.jpg_1", ""), ("b.jpg_2", "")]
    columns = ["ImageId_ClassId", "EncodedPixels"]
    reader = csv(tmp_path, columns, rows, classes="12", id_template="{id}.jpg_{class}")
    assert (whole(reader) == one + 2 * two).all() and reader.image_ids == {"a", "b"}
    with pytest.raises(UserError, match=r"'a.jpg_2' is not like .*, {id}.jpg_{class}, with a class of .*\(1\)"):
        csv(tmp_path, columns, rows, classes="1", id_template="{id}.jpg_{class}")


def test_rows_of_objects_that_overlap(tmp_path):
    one, two = blobs(1), blobs(2)
    assert (one & two).any()
    rows = [("a.jpg", rle.encode(one)), ("a.jpg", rle.encode(two)), ("b.jpg", "")]
    reader = csv(tmp_path, ["ImageId", "EncodedPixels"], rows, id_template="{id}.jpg")
    label = reader.open("a", H, W)
    assert (label.read(0, 0, H, W) == (one | two)).all()
    assert label.counts(5, 6, 20, 10)[1] == (one | two)[5:25, 6:16].sum()


def masks(tmp_path, pictures, classes=("object",), **labels):
    for name, pixels in pictures.items():
        path = tmp_path / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tif":
            tifffile.imwrite(path, pixels, tile=(16, 16), compression="zlib")
        else:
            (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)
    labels = {"format": "mask_images", "path": "masks", **labels}
    return MaskImages(CompetitionSettings(root=str(tmp_path), classes=list(classes), labels=labels), {"a", "b"})


@pytest.mark.parametrize("name", ["a_mask.png", "a_mask.gif", "a_mask.tif"])
@pytest.mark.parametrize("high", [1, 255])
def test_binary_masks(tmp_path, name, high):
    mask = blobs(3)
    reader = masks(tmp_path, {name: mask * np.uint8(high)}, suffix=name[1:], threshold=0)
    assert (whole(reader) == mask).all()


def test_binary_masks_of_other_depths(tmp_path):
    mask = blobs(3)
    bits = Image.fromarray(mask * np.uint8(255)).convert("1")
    colours = np.dstack([mask * np.uint8(200)] * 3)
    for pixels in (bits, mask.astype(np.uint16) * 65535, colours):
        assert (whole(masks(tmp_path, {"a.png": pixels}, threshold=0)) == mask).all()
    jpeg = np.clip(mask.astype(int) * 250 + np.random.default_rng(0).integers(0, 6, mask.shape), 0, 255)
    reader = masks(tmp_path, {"j/a.png": jpeg.astype(np.uint8)}, threshold=127, path="masks/j")
    assert (whole(reader) == mask).all()


def test_a_file_per_class(tmp_path):
    one, two = blobs(1), blobs(2)
    expected = np.where(two, 2, one)  # in the order of the classes
    files = {"road/a.png": one * np.uint8(255), "tree/a.png": two, "tree/b.png": two}
    reader = masks(tmp_path, files, classes=["road", "tree"], files="{class}/{id}.png")
    assert (whole(reader) == expected).all() and (whole(reader, "b") == 2 * two).all()


def test_a_file_per_object(tmp_path):
    one, two = blobs(1), blobs(2)
    reader = masks(tmp_path, {"a/masks/x1.png": one * np.uint8(255), "a/masks/x2.png": two}, files="{id}/masks/*.png")
    assert (whole(reader) == (one | two)).all() and reader.image_ids == {"a"}
    with pytest.raises(UserError, match="no file of .* is like {id}/other/"):
        masks(tmp_path, {}, files="{id}/other/*.png")
    with pytest.raises(UserError, match="x2.png are of one image; say in competition.labels.files"):
        masks(tmp_path, {}, files="{id}/masks/*.png", classes="12")


def palette_image(indices):
    image = Image.fromarray(indices, "P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0] + [0, 0, 0] * 253)
    return image


def forms():
    indices = (blobs(1) + blobs(2)).astype(np.uint8)
    assert set(np.unique(indices)) == {0, 1, 2}
    return indices, {
        "grey.png": indices,
        "palette.png": palette_image(indices),
        "deep.png": indices.astype(np.uint16),
        "rgb.png": np.dstack([indices] * 3),
        "tiled.tif": indices,
        "deep.tif": indices.astype(np.uint16),
    }


@pytest.mark.parametrize("form", forms()[1])
@pytest.mark.parametrize("whole_pixels", [2**25, 10])
def test_indices_are_read_whole_and_by_window(tmp_path, monkeypatch, form, whole_pixels):
    monkeypatch.setattr("lib.competition.labels.mask_file.WHOLE_PIXELS", whole_pixels)
    monkeypatch.setattr("lib.competition.labels.common.PAINTED_ONCE_PIXELS", whole_pixels)
    indices, files = forms()
    suffix = "." + form.split(".")[1]
    label = masks(tmp_path, {f"a{suffix}": files[form]}, classes="12", suffix=suffix).open("a", H, W)
    for y, x, h, w in [(0, 0, 10, W), (8, 3, 20, 11), (30, 0, 10, 30), (2, 2, 5, 5)]:
        assert (label.read(y, x, h, w) == indices[y : y + h, x : x + w]).all()


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_tiff_masks_whose_0_is_white(tmp_path, compression):
    mask = blobs(3)
    (tmp_path / "masks").mkdir()
    for stored in (255 - mask * np.uint8(255), mask == 0, 65535 - mask.astype(np.uint16)):
        tifffile.imwrite(tmp_path / "masks/a.tif", stored, photometric="miniswhite", compression=compression)
        assert (whole(masks(tmp_path, {}, suffix=".tif", threshold=0)) == mask).all()


def test_tiff_masks_with_a_palette_are_named_by_colour_or_by_index(tmp_path):
    indices, colours = forms()[0], np.zeros((3, 256), np.uint16)
    colours[:, :3] = np.array([[9, 9, 9], [200, 0, 0], [0, 200, 0]]).T * 257
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks/a.tif", indices, photometric="palette", colormap=colours)
    named = {"1": (200, 0, 0), "2": (0, 200, 0), "background": (9, 9, 9)}
    for palette in (named, ""):
        reader = masks(tmp_path, {}, classes="12", suffix=".tif", palette=palette)
        assert (whole(reader) == indices).all()


def test_bits_are_streamed_too(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.competition.labels.mask_file.WHOLE_PIXELS", 10)
    monkeypatch.setattr("lib.competition.labels.common.PAINTED_ONCE_PIXELS", 10)
    mask = blobs(4)
    bits = Image.fromarray(mask * np.uint8(255)).convert("1")
    label = masks(tmp_path, {"a.png": bits}).open("a", H, W)
    assert (label.read(5, 5, 20, 20) == mask[5:25, 5:25]).all()


def test_a_missing_mask_is_empty_where_that_is_said(tmp_path):
    mask = blobs(3)
    for labels in ({"threshold": 0}, {}):
        reader = masks(tmp_path, {"a.png": mask}, missing="empty", **labels)
        assert (whole(reader) == mask).all() and not whole(reader, "b").any()


UNKNOWN = slice(0, 10)  # rows of which nobody knows


def signed(kind, unknown):
    """Indices 0 to 2, with rows of another value; and what they mean."""
    indices = forms()[0]
    stored = indices.astype(kind)
    stored[UNKNOWN] = unknown
    expected = indices.copy()
    expected[UNKNOWN] = 255
    return stored, expected


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".png"])
@pytest.mark.parametrize(
    ("kind", "unknown"),
    [("int8", -1), ("int16", -1), ("int32", -9999), ("float32", np.nan), ("float64", -1), ("float32", 1.5),
     ("uint16", 300), ("uint16", 65535), ("uint8", 9), ("float32", np.inf)],
)  # fmt: skip
@pytest.mark.parametrize("tag", [False, True])
def test_values_that_are_no_class_are_not_bent_into_one(tmp_path, suffix, kind, unknown, tag):
    stored, expected = signed(kind, unknown)
    (tmp_path / "masks").mkdir()
    path = tmp_path / f"masks/a{suffix}"
    if suffix == ".tif":
        options = {"extratags": [(42113, 2, 0, str(unknown), True)]} if tag else {}
        tifffile.imwrite(path, stored, tile=(16, 16), compression="zlib", **options)
    elif suffix == ".npy":
        np.save(path, stored)
    elif kind not in ("uint8", "uint16"):
        return  # PNG has no such values
    else:
        Image.fromarray(stored).save(path)
    read = {other: masks(tmp_path, {}, classes="12", suffix=suffix, other=other) for other in ("ignore", "background")}
    assert (whole(read["ignore"]) == expected).all()
    assert (whole(read["background"]) == np.where(expected == 255, 0, expected)).all()
    with pytest.raises(UserError, match=rf"a\{suffix} holds value {unknown:g}, which is not a class"):
        whole(masks(tmp_path, {}, classes="12", suffix=suffix))
    named = {"background": 0, "1": 1, "2": 255}  # a value above 255 is not 255
    other = whole(masks(tmp_path, {}, classes="12", suffix=suffix, palette=named, other="ignore"))
    assert (other[UNKNOWN] == 255).all() and (other[10:] == np.where(expected == 2, 255, expected)[10:]).all()


@pytest.mark.parametrize(("kind", "unknown"), [("int16", -1), ("float32", np.nan), ("float32", -0.5)])
def test_binary_masks_where_nobody_knows(tmp_path, kind, unknown):
    mask = blobs(3)
    stored = mask.astype(kind)
    stored[UNKNOWN] = unknown
    read = {
        other: masks(tmp_path, {"a.tif": stored}, suffix=".tif", threshold=0, other=other)
        for other in ("ignore", "background")
    }
    assert (whole(read["ignore"])[UNKNOWN] == 255).all() and (whole(read["ignore"])[10:] == mask[10:]).all()
    assert not whole(read["background"])[UNKNOWN].any() and (whole(read["background"])[10:] == mask[10:]).all()
    with pytest.raises(UserError, match=rf"a\.tif holds value {unknown}, which says neither object nor background"):
        whole(masks(tmp_path, {}, suffix=".tif", threshold=0))


def test_a_binary_mask_whose_nodata_is_a_large_value(tmp_path):
    mask = blobs(3)
    stored = mask.copy()
    stored[UNKNOWN] = 255
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks/a.tif", stored, extratags=[(42113, 2, 0, "255", True)])
    label = whole(masks(tmp_path, {}, suffix=".tif", threshold=0, other="ignore"))
    assert (label[UNKNOWN] == 255).all() and (label[10:] == mask[10:]).all()


def test_what_one_mask_does_not_know_another_may(tmp_path):
    one, two = blobs(1).astype(np.int16), blobs(2).astype(np.int16)
    one[UNKNOWN] = -1
    files = {"1/a.tif": one, "2/a.tif": two}
    label = whole(masks(tmp_path, files, classes="12", files="{class}/{id}.tif", other="ignore"))
    assert (label[UNKNOWN] == np.where(two[UNKNOWN] > 0, 2, 255)).all()


def photograph(side=128):
    noise = np.random.default_rng(0).random((side, side, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (5, 5), 2)
    return np.uint8(40 + 170 * (smooth - smooth.min()) / np.ptp(smooth))


PHOTOGRAPHS = {
    "colours": photograph(),
    "grey": photograph()[..., 0],
    "deep": photograph()[..., 0].astype(np.uint16) * 200,
    "float": photograph()[..., 0].astype(np.float32) / 255,
}


@pytest.mark.parametrize("form", PHOTOGRAPHS)
@pytest.mark.parametrize("labels", [{"threshold": 0}, {"threshold": 0.1}, {"other": "ignore"}])
def test_photographs_among_masks_are_named(tmp_path, form, labels):
    (tmp_path / "masks").mkdir()
    palette = {"object": (200, 0, 0)} if form == "colours" and "other" in labels else ""
    np.save(tmp_path / "masks/a.npy", PHOTOGRAPHS[form])
    reader = masks(tmp_path, {}, suffix=".npy", palette=palette, **labels)
    with pytest.raises(UserError, match=rf"a\.npy holds \d+ different {'colours' if form == 'colours' else 'values'}"):
        reader.open("a", 128, 128).read(0, 0, 128, 128)


def true_masks():
    """Masks of many values that are none the less masks."""
    rng, side = np.random.default_rng(1), 256
    soft = cv2.GaussianBlur(cv2.resize(blobs(3), (side, side)).astype(np.float32), (15, 15), 5)
    small = np.arange(1, side * side // 16 + 1).reshape(side // 4, -1).astype(np.uint16)
    colours = rng.integers(1, 256, (side // 4, side // 4, 3)).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", cv2.resize(blobs(3), (side, side), interpolation=cv2.INTER_NEAREST) * 255)[1]
    return {
        "soft edges": np.round(soft * 255).astype(np.uint8),
        "probabilities": np.clip(soft + rng.normal(0, 0.01, soft.shape), 0, 1).astype(np.float32),
        "one number an object": small.repeat(4, 0).repeat(4, 1),
        "one colour an object": colours.repeat(4, 0).repeat(4, 1),
        "JPEG": cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE),
        "checkerboard": np.indices((side, side)).sum(0).astype(np.uint8) % 2,
    }


@pytest.mark.parametrize("form", true_masks())
def test_masks_of_many_values_are_no_photographs(tmp_path, form):
    stored = true_masks()[form]
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/a.npy", stored)
    threshold = 0.5 if form == "probabilities" else 0 if "object" in form else 127 if stored.max() > 1 else 0
    label = masks(tmp_path, {}, suffix=".npy", threshold=threshold).open("a", 256, 256).read(0, 0, 256, 256)
    level = stored if stored.ndim == 2 else stored.max(-1)
    assert (label == (level > threshold)).all() and label.any()
