"""Answers that are a ZIP of files: every form of file, what pixels hold, and what is refused."""

import io
import json
import zipfile
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.transform import from_origin

from lib.competition.dataset import Competition
from lib.competition.scoring import open_codec
from lib.config.competition import CompetitionSettings
from lib.errors import UserError

SIZE = (300, 21)  # more rows than are written at once
SIZES = {"a_7": SIZE, "b_8": SIZE}
CLASSES = ["road", "tree", "water"]
COLOURS = {"background": [0, 0, 0], "road": [200, 0, 0], "tree": [0, 90, 0], "water": [0, 0, 255]}
RNG = np.random.default_rng(0)
LABELS = {name: RNG.integers(0, 4, SIZE).astype(np.uint8) for name in SIZES}


def codec_of(classes=CLASSES, background=True, labels=None, **submission):
    options = {"codec": "files", "sample": "", "id_template": "{id}.png", **submission}
    settings = CompetitionSettings(classes=classes, background=background, labels=labels or {}, submission=options)
    return open_codec(SimpleNamespace(settings=settings, sample=pd.DataFrame(), label_names=settings.label_names))


def written(codec, path, labels=LABELS):
    for name, label in labels.items():
        codec.add(name, *SIZE, [(y, label[y : y + 97]) for y in range(0, SIZE[0], 97)])
    codec.write(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rebuilt(path, name, data):
    """The ZIP with other content in one of its files."""
    with zipfile.ZipFile(path) as archive:
        files = {one: archive.read(one) for one in archive.namelist()} | {name: data}
    with zipfile.ZipFile(path, "w") as archive:
        for one, content in files.items():
            archive.writestr(one, content)
    return path


def packed(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


READ = {
    "{id}_kelp.tif": lambda data: tifffile.imread(io.BytesIO(data)),
    "preds/{id}.png": lambda data: np.array(Image.open(io.BytesIO(data))),
    "mask_{number}.h5": lambda data: h5py.File(io.BytesIO(data))["mask"][()],
    "{id}.npy": lambda data: np.load(io.BytesIO(data)),
}


@pytest.mark.parametrize("template", READ)
@pytest.mark.parametrize(
    ("background", "palette"),
    [
        (True, ""),
        (False, ""),
        (True, {"background": 9, "road": 1, "tree": 7, "water": 0}),
        (False, {"road": 1, "tree": 2, "water": 3}),
        (True, COLOURS),
    ],
)
def test_every_form_of_file_is_read_back_here_and_elsewhere(tmp_path, template, background, palette):
    codec = codec_of(background=background, palette=palette, id_template=template)
    labels = {name: label % (3 + background) for name, label in LABELS.items()}
    files = written(codec, tmp_path / "out.zip", labels)
    assert list(files) == [template.format(id=i, number=int(i[-1])) for i in SIZES]
    stored = list(palette.values()) if palette else [0, 1, 2, 3]
    for name, label in labels.items():
        found = READ[template](files[template.format(id=name, number=int(name[-1]))])
        assert found.dtype == np.uint8 and (found == np.array(stored)[label]).all()
        assert (codec.read(tmp_path / "out.zip", SIZES)[name].read(0, 0, *SIZE) == label).all()
    counted = {name: int((label >= background).sum()) for name, label in labels.items()}
    assert codec.check(tmp_path / "out.zip", SIZES) == counted
    assert written(codec_of(background=background, palette=palette, id_template=template), tmp_path / "2.zip", labels) \
        == files, "the same answers give other bytes"  # fmt: skip


def test_colours_and_numbers_are_those_of_the_training_masks(tmp_path):
    labels = {"palette": {**COLOURS, "unknown": [9, 9, 9]}}
    codec = codec_of(labels=labels, palette="labels")
    image = READ["preds/{id}.png"](written(codec, tmp_path / "out.zip")["a_7.png"])
    assert (image == np.array(list(COLOURS.values()))[LABELS["a_7"]]).all()
    plain = codec_of(palette="labels")  # masks of indices
    assert written(plain, tmp_path / "plain.zip") == written(codec_of(), tmp_path / "same.zip")
    with pytest.raises(UserError, match="labels.palette has no value for 'background'; write the answer's values"):
        codec_of(labels={"palette": {"road": 1, "tree": 2, "water": 3}}, palette="labels")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"palette": {"road": 1, "tree": 2, "water": 3}}, "palette has no value for 'background'; a value is expected"),
        ({"palette": COLOURS | {"sky": [1, 1, 1]}}, "names 'sky', which is not a class"),
        ({"palette": COLOURS | {"road": [0, 0, 0]}}, "gives two classes the same value"),
        ({"palette": COLOURS | {"road": 4}}, "holds numbers and colours; use one of them"),
        ({"palette": COLOURS, "codec": "rle"}, "palette is for codec files; unset it"),
        ({"georeference": True, "codec": "pixels", "size": [2, 2]}, "georeference is for codec files"),
        ({"georeference": True, "size": [2, 2]}, "georeference needs answers as large as their images"),
        ({"codec": "files", "id_template": "{id}_{class}.png"}, "codec files tells all classes at once"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, what):
    with pytest.raises(ValueError, match=what):
        codec_of(**options)


def test_a_suffix_of_no_form_names_the_known_ones():
    with pytest.raises(UserError, match=r"id_template, its suffix: no answer_file is called '.jpg'.*Known: .geojson"):
        codec_of(id_template="{id}.jpg")
    with pytest.raises(UserError, match="palette holds colours, which files .geojson do not"):
        codec_of(id_template="{id}.geojson", palette=COLOURS)
    with pytest.raises(UserError, match="georeference is true, but files .png hold no place on Earth; set it to false"):
        codec_of(georeference=True)


@pytest.mark.parametrize(
    ("template", "options", "wrong", "what"),
    [
        ("{id}.h5", {}, b"no HDF5", r"a_7.h5 is not a readable HDF5"),
        ("{id}.h5", {"dataset": "img"}, None, r"a_7.h5 has no dataset 'img' .*submission.dataset\); it has mask"),
        ("{id}.h5", {}, np.zeros((4, 4), np.uint8), r"a_7.h5 is 4 x 4, expected 300 x 21"),
        ("{id}.h5", {}, np.zeros(SIZE, np.float32), r"a_7.h5 has values of float32; uint8 is expected"),
        ("{id}.h5", {}, np.full(SIZE, 9, np.uint8), r"a_7.h5 holds 9; expected 0 to 3"),
        ("{id}.npy", {}, b"no array", r"a_7.npy is not a readable array"),
        ("{id}.npy", {}, np.zeros((4, 4), np.uint8), r"a_7.npy is 4 x 4, expected 300 x 21"),
        ("{id}.npy", {}, packed(lambda file: np.savez(file, a=np.zeros(SIZE))), r"a_7.npy is an archive of arrays"),
        ("{id}.png", {"palette": COLOURS}, np.full((*SIZE, 3), 7, np.uint8), r"holds \[7, 7, 7\]; expected one of"),
        ("{id}.png", {"palette": COLOURS}, np.zeros(SIZE, np.uint8), r"mode L; red, green and blue of 8 bits are"),
        ("{id}.tif", {"palette": COLOURS}, np.zeros(SIZE, np.uint8), r"has 1 x 1 bands of uint8; 3 of uint8 are"),
        ("{id}.geojson", {}, b"{}", r"a_7.geojson is not a readable GeoJSON"),
        ("{id}.geojson", {}, b'{"features": [{"geometry": null, "properties": {"class": []}}]}', r"class '\[\]'; "),
    ],
)
def test_damaged_and_wrong_files_are_named(tmp_path, template, options, wrong, what):
    written(codec_of(id_template=template, **options | {"dataset": "mask"}), tmp_path / "out.zip")
    suffix = template[4:]
    save = {
        ".h5": lambda file: h5py.File(file, "w").create_dataset("mask", data=wrong).file.close(),
        ".npy": lambda file: np.save(file, wrong),
        ".png": lambda file: Image.fromarray(wrong).save(file, "png"),
        ".tif": lambda file: tifffile.imwrite(file, wrong),
    }
    if wrong is not None:
        data = wrong if isinstance(wrong, bytes) else packed(save[suffix])
        rebuilt(tmp_path / "out.zip", f"a_7{suffix}", data)
    with pytest.raises(UserError, match=what):
        codec_of(id_template=template, **options).check(tmp_path / "out.zip", SIZES)


def test_planes_of_colours_are_refused(tmp_path):
    codec = codec_of(id_template="{id}.tif", palette=COLOURS)
    written(codec, tmp_path / "out.zip")
    planes, options = np.zeros((3, *SIZE), np.uint8), {"photometric": "rgb", "planarconfig": "separate"}
    rebuilt(tmp_path / "out.zip", "a_7.tif", packed(lambda file: tifffile.imwrite(file, planes, **options)))
    with pytest.raises(UserError, match="a_7.tif is 3 x 300 x 21, expected 300 x 21"):
        codec.check(tmp_path / "out.zip", SIZES)


@pytest.mark.parametrize(
    ("template", "palette"), [("{id}.png", ""), ("{id}.png", COLOURS), ("{id}.tif", COLOURS), ("{id}.geojson", "")]
)
def test_large_files_are_written_and_read_in_parts(tmp_path, monkeypatch, template, palette):
    for module in ("file_form", "file_zip", "png_file"):
        monkeypatch.setattr(f"lib.competition.codecs.{module}.FILE_BYTES_IN_MEMORY", 100)
    codec = codec_of(id_template=template, palette=palette)
    written(codec, tmp_path / "out.zip")
    found = codec.read(tmp_path / "out.zip", SIZES)
    assert all((found[name].read(0, 0, *SIZE) == label).all() for name, label in LABELS.items())


def georeferenced(root, crs="EPSG:32630"):
    """A competition of one test image that lies somewhere."""
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        with rasterio.open(
            root / split / f"{split}.tif", "w", driver="GTiff", width=21, height=300, count=3, dtype="uint8", crs=crs,
            transform=from_origin(808000, 621000, 0.5, 0.5),
        ) as file:  # fmt: skip
            file.write(np.full((3, *SIZE), 90, np.uint8))
    return root


def competition(root, **submission):
    options = {"codec": "files", "sample": "", "georeference": True, **submission}
    return Competition(CompetitionSettings(root=str(root), classes=CLASSES, submission=options))


def test_tiffs_keep_the_place_of_their_image(tmp_path):
    root = georeferenced(tmp_path / "raw")
    codec = open_codec(competition(root, id_template="{id}.tif"))
    files = written(codec, tmp_path / "out.zip", {"test": LABELS["a_7"]})
    (tmp_path / "answer.tif").write_bytes(files["test.tif"])
    with rasterio.open(tmp_path / "answer.tif") as answer, rasterio.open(root / "test/test.tif") as image:
        assert answer.crs == image.crs and answer.transform == image.transform
        assert (answer.read(1) == LABELS["a_7"]).all()
    assert codec.check(tmp_path / "out.zip", {"test": SIZE}) == {"test": int((LABELS["a_7"] > 0).sum())}


@pytest.mark.parametrize("georeference", [True, False])
def test_polygons_are_those_of_the_pixels(tmp_path, georeference):
    root = georeferenced(tmp_path / "raw")
    codec = open_codec(competition(root, id_template="{id}.geojson", georeference=georeference))
    label = np.zeros(SIZE, np.uint8)
    label[2:280, 3:9], label[5:8, 4:6], label[270:, 12:], label[100:104, 12:20] = 1, 0, 3, 2
    files = written(codec, tmp_path / "out.zip", {"test": label})
    content = json.loads(files["test.geojson"])
    assert sorted(one["properties"]["class"] for one in content["features"]) == ["road", "tree", "water"]
    tree = next(one for one in content["features"] if one["properties"]["class"] == "tree")["geometry"]
    x, y = np.array(tree["coordinates"][0]).T
    if georeference:
        assert content["crs"]["properties"]["name"] == "EPSG:32630"
        assert (x.min(), x.max()) == (808000 + 6, 808000 + 10) and (y.max(), y.min()) == (621000 - 50, 621000 - 52)
    else:
        assert "crs" not in content and (x.min(), x.max(), y.min(), y.max()) == (12, 20, 100, 104)
    assert (codec.read(tmp_path / "out.zip", {"test": SIZE})["test"].read(0, 0, *SIZE) == label).all()
    with pytest.raises(UserError, match="holds the class 'sky'; expected one of road, tree, water"):
        wrong = files["test.geojson"].replace(b'"tree"', b'"sky"')
        codec.check(rebuilt(tmp_path / "out.zip", "test.geojson", wrong), {"test": SIZE})


NUMBERS = {"background": 9, "road": 1, "tree": 7, "water": 3}


@pytest.mark.parametrize("options", [{"palette": NUMBERS}, {"palette": "labels", "labels": {"palette": NUMBERS}}])
def test_polygons_need_no_numbers_of_their_own(tmp_path, options):
    """`submission.palette` is of pixels, and polygons name their class."""
    codec = codec_of(id_template="{id}.geojson", **options)
    files = written(codec, tmp_path / "out.zip")
    assert files == written(codec_of(id_template="{id}.geojson"), tmp_path / "plain.zip")
    assert (codec.read(tmp_path / "out.zip", SIZES)["a_7"].read(0, 0, *SIZE) == LABELS["a_7"]).all()
    assert codec.check(tmp_path / "out.zip", SIZES)["b_8"] == (LABELS["b_8"] > 0).sum()


@pytest.mark.parametrize(
    ("template", "what"),
    [("{id}.tif", "is not a TIFF with a georeference"), ("{id}.geojson", "does not say where on Earth it lies")],
)
def test_an_image_without_place_is_named(tmp_path, template, what):
    root = georeferenced(tmp_path / "raw")
    tifffile.imwrite(root / "test/test.tif", np.zeros((*SIZE, 3), np.uint8), photometric="rgb")
    codec = open_codec(competition(root, id_template=template))
    with pytest.raises(UserError, match=rf"test.tif {what}.*georeference"):
        written(codec, tmp_path / "out.zip", {"test": LABELS["a_7"]})


def test_a_plugin_adds_a_form_of_file(tmp_path):
    from lib.competition.codecs.file_form import FileForm
    from lib.plugins import register

    @register("answer_file", ".raw")
    class Raw(FileForm):
        def encode(self, file, size, bands, image):
            for band in bands:
                file.write(band.tobytes())

        def decode(self, where, file, size, image):
            yield 0, 0, np.frombuffer(file.read(), np.uint8).reshape(size)

    codec = codec_of(id_template="{id}.raw")
    assert written(codec, tmp_path / "out.zip")["a_7.raw"] == LABELS["a_7"].tobytes()
    assert (codec.read(tmp_path / "out.zip", SIZES)["a_7"].read(0, 0, *SIZE) == LABELS["a_7"]).all()
