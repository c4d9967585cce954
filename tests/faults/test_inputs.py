"""Faults of what users and organisers write: images, labels, tables, configurations, plugins."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import tifffile
from faults.bench import Change, Fault, both, delete, edit, halve, nothing, put, replace
from PIL import Image

IMAGE, HEIGHT, WIDTH = "raw/train/im1.png", 157, 195
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def saved(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, pixels)
    elif kind == "tif":
        tifffile.imwrite(file, pixels, metadata=None, **options)
    else:
        Image.fromarray(pixels).save(file, {"jpg": "JPEG"}.get(kind, kind.upper()), **options)
    return file.getvalue()


def instead(suffix: str, content: bytes) -> Change:
    """Another file in place of the image im1."""
    return both(delete(IMAGE), put(f"raw/train/im1.{suffix}", content))


def tiff_with(tags: dict[int, object], **options: object) -> bytes:
    """A TIFF some of whose tags were changed."""
    file = io.BytesIO(saved(PIXELS, "tif", photometric="rgb", **options))
    with tifffile.TiffFile(file, mode="r+") as tif:
        for code, value in tags.items():
            tif.pages[0].tags[code].overwrite(value)
    return file.getvalue()


def image_faults() -> list[Fault]:
    """Damaged files of each format, and files that are something else."""
    found = []
    for kind in ("png", "jpg", "bmp", "ppm", "webp", "gif", "tif", "npy"):
        whole = saved(PIXELS, kind)
        for how, content in (
            ("empty", b""), ("cut off", whole[: len(whole) // 2]), ("a text", b"hello"), ("zeros", bytes(len(whole))),
        ):  # fmt: skip
            says = rf"im1\.{kind} is (damaged|not a readable|truncated)"
            found.append(Fault(f"{kind}: the image is {how}", instead(kind, content), "01_preprocess", says))
    return found


def promising(kind: str) -> bytes:
    """A header that promises an image of 60,000 x 60,000 pixels."""
    if kind == "ppm":
        return b"P6 60000 60000 255\n" + bytes(99)
    if kind == "bmp":
        head = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + head
    data = bytearray(saved(np.zeros((9, 9), np.uint8), "npy"))
    return bytes(data.replace(b"(9, 9), }    ", b"(60000, 60000), }"[:13].ljust(13)))


CMYK = saved(np.dstack([PIXELS, PIXELS[..., 0]]), "tif", photometric="separated")
IMAGES = [
    *image_faults(),
    *[
        Fault(f"{kind}: a header that promises gigabytes", instead(kind, promising(kind)), "01_preprocess",
              rf"im1\.{kind} is (damaged|not a readable)")
        for kind in ("ppm", "bmp")
    ],
    Fault("tif: more tiles than there are", instead("tif", tiff_with({256: 2**31, 257: 2**31}, tile=(16, 16))),
          "01_preprocess", "promises .* pieces of 16 x 16 pixels and lists"),
    Fault("tif: a tile of gigabytes",
          instead("tif", tiff_with({322: 2**20, 323: 2**20}, tile=(16, 16), compression="deflate")),
          "01_preprocess", "promises .* GB of pixels"),
    Fault("tif: tiles behind the end", instead("tif", tiff_with({324: (2**31,) * 130}, tile=(16, 16))),
          "01_preprocess", "im1.tif is truncated"),
    Fault("tif: uneven depth", instead("tif", tiff_with({258: (8, 8, 16)})), "01_preprocess",
          "channels of different depth"),
    Fault("tif: Lab of 16 bits", instead("tif", saved(PIXELS.astype(np.uint16), "tif", photometric="cielab")),
          "01_preprocess", "is not converted .CIELAB"),
    Fault("tif: raw data of a camera", instead("tif", saved(PIXELS[..., 0], "tif", photometric="cfa",
          extratags=[(33421, 3, 2, (2, 2), True)])), "01_preprocess", "is not converted .CFA"),
    Fault("tif: complex numbers", instead("tif", saved(PIXELS[..., 0].astype(np.complex64), "tif")), "01_preprocess",
          "of a type that is not read .complex64"),
    Fault("tif: CMYK is converted", instead("tif", CMYK), "01_preprocess", does="6 train images|tiles"),
    Fault("npy: an archive", instead("npy", b"PK\3\4" + bytes(99)), "01_preprocess", "im1.npy is not a readable array"),
    Fault("npy: objects", instead("npy", b"\x93NUMPY\1\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (9,), }"),
          "01_preprocess", "im1.npy is not a readable array"),
    Fault("png: PostScript", instead("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "01_preprocess",
          "im1.png is not a readable image"),
]  # fmt: skip

RING = [[10, 10, 40, 10, 40, 40, 10, 40]]
COCO = {
    "images": [{"id": i, "file_name": f"im{i}.png", "height": 150 + 7 * i, "width": 200 - 5 * i} for i in range(6)],
    "categories": [{"id": 1, "name": "disc"}],
    "annotations": [{"id": i, "image_id": i, "category_id": 1, "segmentation": RING} for i in range(6)],
}
AS_COCO = ("--competition.labels.format", "coco", "--competition.labels.path", "train.json")


def coco(part: str, key: str, value: object) -> str:
    """A COCO JSON with one odd value."""
    changed = json.loads(json.dumps(COCO))
    changed[part][1][key] = value
    return json.dumps(changed)


def coco_fault(name: str, content: str | bytes, says: str) -> Fault:
    return Fault(f"coco: {name}", put("raw/train.json", content), "01_preprocess", says, flags=AS_COCO)


HUGE = [[1e300, 10, 40, 10, 40, 40]]
DOUBLE = '{"images": [], "images": [], "annotations": [], "categories": []}'
RUNS = {"size": [157, 195], "counts": [-5, 157 * 195 + 5]}
LABELS = [
    coco_fault("NaN as a corner", coco("annotations", "segmentation", [[float("nan"), 1, 2, 3, 4, 5]]), "corners must"),
    coco_fault("infinity as a corner", coco("annotations", "segmentation", [[float("inf"), 1, 2, 3, 4, 5]]), "corners"),
    coco_fault("1e300 as a corner", coco("annotations", "segmentation", HUGE), "annotation 1: .*corners must be"),
    coco_fault("texts as corners", coco("annotations", "segmentation", [["1", "2", "3", "4", "5", "6"]]), "corners"),
    coco_fault("an odd number of corners", coco("annotations", "segmentation", [[1, 2, 3]]), "annotation 1: "),
    coco_fault("a number as segmentation", coco("annotations", "segmentation", 5), "annotation 1: "),
    coco_fault("negative counts", coco("annotations", "segmentation", RUNS), "are not those of an image of 157 x 195"),
    coco_fault("half pixels as counts", coco("annotations", "segmentation", {**RUNS, "counts": [0.5]}), "counts must"),
    coco_fault("a list as image_id", coco("annotations", "image_id", [1]), "entry 1 of its annotations has 'image_id'"),
    coco_fault("null as category_id", coco("annotations", "category_id", None), "entry 1 .* has 'category_id'"),
    coco_fault("a number as file_name", coco("images", "file_name", 7), "entry 1 of its images has 'file_name'"),
    coco_fault("a negative height", coco("images", "height", -5), "says that im1 is -5 x 195; it is 157 x 195"),
    coco_fault("two images of one id", coco("images", "id", 0), "has two images with the id 0"),
    coco_fault("a text as iscrowd", coco("annotations", "iscrowd", "no"), "iscrowd is 'no'; 0 or 1"),
    coco_fault("a key that stands twice", DOUBLE, "the key 'images' stands twice"),
    coco_fault("a list at the top", "[]", "it holds a list, not an object"),
    coco_fault("no images", "{}", "it has no 'images'"),
    coco_fault("null as images", '{"images": null}', "its images are a NoneType, not a list"),
    coco_fault("an empty file", "", "train.json is not a COCO JSON"),
    coco_fault("half a file", json.dumps(COCO)[:200], "train.json is not a COCO JSON"),
    coco_fault("deep nesting", "[" * 100_000, "train.json is not a COCO JSON .*[Rr]ecursion"),
    coco_fault("Latin-1", json.dumps(COCO).encode().replace(b"im1", b"im\xe9"), "train.json is not a COCO JSON"),
    Fault("coco: UTF-16 is read", put("raw/train.json", json.dumps(COCO).encode("utf-16")), "01_preprocess",
          does="tiles", flags=AS_COCO),
]  # fmt: skip

AS_LABELME = ("--competition.labels.format", "labelme", "--competition.labels.path", "labels",
              "--competition.labels.suffix", ".json", "--competition.labels.missing", "empty")  # fmt: skip
SHAPE = {"label": "disc", "points": [[10, 10], [40, 10], [40, 40]], "shape_type": "polygon"}


def labelme_fault(name: str, says: str, top: dict | None = None, **shape: object) -> Fault:
    """A JSON of labelme with one odd value, in a shape or at its top."""
    content = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": [{**SHAPE, **shape}], **(top or {})}
    return Fault(f"labelme: {name}", put("raw/labels/im1.json", json.dumps(content)), "01_preprocess", says,
                 flags=AS_LABELME)  # fmt: skip


def table_fault(name: str, old: str, new: str, says: str) -> Fault:
    return Fault(f"table: {name}", edit("raw/train.csv", lambda text: text.replace(old.encode(), new.encode(), 1)),
                 "01_preprocess", says)  # fmt: skip


LABELS += [
    labelme_fault("NaN as a corner", "im1.json is not a JSON of labelme", points=[[float("nan"), 1], [2, 3], [4, 5]]),
    labelme_fault("1e300 as a corner", "im1.json is not a JSON of labelme", points=[[1e300, 1], [2, 3], [4, 5]]),
    labelme_fault("a list as label", "the label .* is not a text", label=["disc"]),
    labelme_fault("a stranger's class", "holds 'dust', which is not one of competition.classes", label="dust"),
    labelme_fault("an unknown shape", "a shape of type 'spline'", shape_type="spline"),
    labelme_fault("null as height", "says that im1 is None x 195", {"imageHeight": None}),
    labelme_fault("shapes that are a number", "im1.json is not a JSON of labelme", {"shapes": 5}),
    labelme_fault("a mask that is no PNG", "im1.json is not a JSON of labelme", shape_type="mask", mask="AAAA"),
    table_fault("an underscore in a number", " ", " 1_0 ", "something that is not an integer"),
    table_fault("full-width digits", " ", " ５ ", "something that is not an integer"),
    table_fault("a plus sign", " ", " +5 ", "something that is not an integer"),
    table_fault("a float", " ", " 5.0 ", "something that is not an integer"),
    table_fault("a row of three cells", "im1,", "im1,1,", "train.csv is not a readable CSV"),
    table_fault("a row of one cell", "\nim1,", "\nim9\nim1,", "line 3 has 1 cells, the header 2"),
    table_fault("a quote that is not closed", "im1,", 'im1,"', "train.csv is not a readable CSV"),
    table_fault("a zero byte", "im1,", "im1\0,", "train.csv is not a readable CSV .it holds a zero byte"),
    table_fault("two columns of one name", "id,encoding", "id,id", "two columns of one name"),
    Fault("table: half of it", halve("raw/train.csv"), "01_preprocess", "."),
    Fault("table: empty", put("raw/train.csv", b""), "01_preprocess", "train.csv is not a readable CSV"),
    Fault("table: a header alone", put("raw/train.csv", "id,encoding\n"), "01_preprocess", "im0' has no label"),
    Fault("table: UTF-16", edit("raw/train.csv", lambda text: text.decode().encode("utf-16")), "01_preprocess",
          "train.csv is not a readable CSV .it is in UTF-16"),
    Fault("table: Latin-1", edit("raw/train.csv", lambda text: text + b"\xe9,\n"), "01_preprocess",
          "train.csv is not a readable CSV"),
    Fault("table: a gzip that is cut off", put("raw/train.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\3abc"), "01_preprocess",
          "train.csv.gz is not a readable CSV", flags=("--competition.labels.path", "train.csv.gz")),
]  # fmt: skip


def config_fault(name: str, content: str | bytes, says: str) -> Fault:
    """A configuration of this content."""
    return Fault(f"configuration: {name}", put("tiny.yaml", content), "01_preprocess", says)


def option_fault(name: str, option: str, value: str, says: str) -> Fault:
    return Fault(f"option: {name}", nothing, "01_preprocess", says, flags=(f"--{option}", value))


def plugin_fault(name: str, text: str, says: str) -> Fault:
    """The configuration names a plugin of this text."""
    names = edit("tiny.yaml", lambda content: content + b"plugins: [mine.py]\n")
    return Fault(f"plugin: {name}", both(put("mine.py", text), names), "01_preprocess", says)


EXITS = """import sys
from lib.plugins import register
@register("labels", "exits")
def exits(config, known_ids):
    sys.exit(0)
"""
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
GLOB = "root: raw\n  train_images: '**a'"
CONFIGURATIONS = [
    config_fault("a key that stands twice", "train: {epochs: 1, epochs: 2}\n", "'epochs' stands twice in one section"),
    config_fault("a section that stands twice", "train: {epochs: 1}\ntrain: {lr: 1}\n", "'train' stands twice"),
    config_fault("Latin-1", b"competition: {name: caf\xe9}\n", "tiny.yaml is not valid YAML"),
    config_fault("a tab", "train:\n\tepochs: 1\n", "tiny.yaml is not valid YAML"),
    config_fault("empty", "", "tiny.yaml is empty"),
    config_fault("comments alone", "# nothing\n", "tiny.yaml is empty"),
    config_fault("a list", "[1]\n", "must hold `section: …` lines, found a list"),
    config_fault("a number", "5\n", "must hold `section: …` lines, found a int"),
    config_fault("two documents", "train: {}\n---\nfolds: {}\n", "tiny.yaml is not valid YAML"),
    config_fault("deep nesting", "[" * 100_000, "tiny.yaml is not valid YAML .*[Rr]ecursion"),
    config_fault("aliases that explode", LAUGHS, "aliases stand for more than"),
    config_fault("an alias of itself", "train: &a {swa: *a}\n", "aliases stand for more than"),
    config_fault("a tag of Python", "train: !!python/object/apply:os.system [ls]\n", "tiny.yaml is not valid YAML"),
    config_fault("a date that is none", "train: 2024-99-99\n", "tiny.yaml is not valid YAML"),
    config_fault("zero bytes", bytes(100), "tiny.yaml is not valid YAML"),
    config_fault("a number as a section", "train: 5\n", "train is a section and must hold"),
    config_fault("a list as a section", "train: [1]\n", "train is a section and must hold"),
    config_fault("infinity", "train: {epochs: .inf}\n", "train.epochs: found inf; .*finite"),
    config_fault("NaN", "train: {lr: .nan}\n", "train.lr: found nan; .*finite"),
    config_fault("a huge number", f"jobs: {10**30}\n", "jobs: "),
    config_fault("256 classes", f"competition: {{classes: {[f'c{i}' for i in range(256)]}}}\n", "has 256 names"),
    config_fault("an empty class", "competition: {classes: [a, '']}\n", "holds an empty name"),
    config_fault("a class twice", "competition: {classes: [a, a]}\n", "names a class twice"),
    config_fault("a number as a plugin", "plugins: [5]\n", "plugins.0: found 5"),
    config_fault("a plugin that is a folder", "plugins: [raw]\n", "there is no Python file"),
    Fault("configuration: UTF-16 is read", edit("tiny.yaml", lambda text: text.decode().encode("utf-16")),
          "01_preprocess", does="up to date"),
    Fault("configuration: a BOM is read", edit("tiny.yaml", lambda text: b"\xef\xbb\xbf" + text), "01_preprocess",
          does="up to date"),
    Fault("configuration: a glob that pathlib refuses", replace("tiny.yaml", "root: raw", GLOB), "01_preprocess",
          "competition.train_images: .* is not a pattern of files"),
    option_fault("a negative seed", "folds.seed", "-1", "folds.seed: found '-1'"),
    option_fault("a huge seed", "train.seeds", "99999999999999999999", "train.seeds"),
    option_fault("a list that does not end", "train.seeds", "[42", "train.seeds: .* cannot be read"),
    option_fault("infinity", "train.lr", "inf", "train.lr: found 'inf'"),
    option_fault("a key twice", "train.loss.terms", "{bce: 1, bce: 2}", "'bce' stands twice"),
    option_fault("braces that explode", "competition.train_images", "{a,b}" * 20, "braces stand for more than"),
    option_fault("an absolute glob in braces", "competition.train_images", "{/etc,a}/*", "is not a pattern of files"),
    plugin_fault("sys.exit", "import sys\nsys.exit(0)\n", "mine.py, line 2: it ends the program"),
    Fault("plugin: sys.exit later",
          both(put("mine.py", EXITS), edit("tiny.yaml", lambda text: text + b"plugins: [mine.py]\n")), "01_preprocess",
          "mine.py, line 5: it ends the program .SystemExit 0.; raise", flags=("--competition.labels.format", "exits")),
    plugin_fault("an error", "1 / 0\n", "mine.py, line 1: division by zero"),
    plugin_fault("bad syntax", "def f(:\n", "mine.py, line 1: invalid syntax"),
    plugin_fault("a zero byte", "x = 1\0\n", "mine.py.*: source code .*null bytes"),
]  # fmt: skip
FAULTS = [*IMAGES, *LABELS, *CONFIGURATIONS]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults(bench, fault):
    bench.check(fault)
