"""Content decides: what was read is noted by what it holds, and a change goes on to the stages behind."""

import hashlib
import os
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from records import done

from lib import digests, tables
from lib.competition import rle
from lib.competition.dataset import Competition
from lib.config import load
from lib.data.preprocess.pick_images import pick_images
from lib.digests import Digests
from lib.plugins import load_plugins
from lib.stages import answer_stage, folds_stage, member_stage, tiles_stage
from lib.training.member import member_inputs
from lib.workspace import Member, Workspace, file_fingerprint, write_json

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


class Chain:
    """01 and 02 for real; the manifests of a training and of 05 written as if they had run."""

    def __init__(self, path, *flags):
        self.path, self.flags = path, flags

    def make(self):
        run("01_preprocess", self.path, *self.flags)
        run("02_make_folds", self.path, *self.flags)
        for stage in self.stages()[2:]:
            stage.finish([])

    def stages(self, *flags):
        config = load(self.path, [*self.flags, *flags])
        load_plugins(config.plugins)
        workspace, competition = Workspace.of(config), Competition(config.competition)
        member = Member("base", 0, 42, workspace.member_dir("base", 0, 42))
        member.path.mkdir(parents=True, exist_ok=True)
        write_json(member.path / "done.json", done())
        return [
            tiles_stage(config, workspace, competition, pick_images(competition, 0)),
            folds_stage(config, workspace, competition),
            member_stage(member, config, workspace, member_inputs(workspace, config)),
            answer_stage(config, workspace, competition, [member]),
        ]

    def outdated(self, *flags):
        """Which of 01, 02, a training and 05 are outdated once 01 and 02 have been run again."""
        names = ["01", "02", "03", "05"]
        first = {name for name, stage in zip(names, self.stages(*flags), strict=True) if stage.changes()}
        run("01_preprocess", self.path, *self.flags, *flags)
        if self.stages(*flags)[1].changes():
            first.add("02")
            run("02_make_folds", self.path, *self.flags, *flags)
        return first | {name for name, stage in zip(names, self.stages(*flags), strict=True) if stage.changes()}


def masked(tiny):
    """The tiny competition with square images of one size, labels as mask images."""
    values = yaml.safe_load(tiny.read_text())
    rng = np.random.default_rng(3)
    for number in range(6):
        mask = (rng.random((160, 160)) < 0.4).astype(np.uint8)
        mask = cv2.medianBlur(mask * 255, 15) // 255
        (tiny.parent / "raw/masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tiny.parent / f"raw/masks/im{number}.bmp"), mask)
        image = rng.integers(60, 200, (160, 160, 3)).astype(np.uint8)
        cv2.imwrite(str(tiny.parent / f"raw/train/im{number}.png"), image)
    values["competition"]["labels"] = {"format": "mask_images", "path": "masks", "suffix": ".bmp"}
    tiny.write_text(yaml.safe_dump(values))
    return Chain(tiny)


def same_stat(path, write):
    """Write a file anew with the size and the times that it had."""
    before = path.stat()
    write()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


@pytest.fixture
def chain(tiny):
    chain = masked(tiny)
    chain.make()
    return chain


def test_a_mask_replaced_in_place_with_its_size_and_time_outdates_the_training(chain):
    assert chain.outdated() == set()
    path = chain.path.parent / "raw/masks/im2.bmp"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    same_stat(path, lambda: cv2.imwrite(str(path), mask[::-1]))  # as many pixels of each class
    assert chain.outdated() == {"01", "02", "03", "05"}


def test_a_test_image_replaced_in_place_outdates_the_answer_and_not_the_training(chain):
    path = chain.path.parent / "raw/test/im6.png"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    assert chain.outdated() == {"01", "02", "05"}


def test_copies_of_the_data_with_new_times_outdate_nothing(chain):
    for path in (chain.path.parent / "raw").rglob("*.*"):
        os.utime(path, (1, 1))
    assert chain.outdated() == set()


def test_options_of_the_answer_and_the_score_leave_tiles_folds_and_trainings(chain):
    for flags in (
        ["--competition.submission.empty", "1 1"], ["--competition.metric", "dice"], ["--infer.overlap", "0.25"],
        ["--competition.scoring.empty", "zero"],
    ):  # fmt: skip
        assert chain.outdated(*flags) == {"05"}, flags
    for flags in (["--competition.submission.max_mb", "5"], ["--report.pictures", "3"], ["--report.tracker", "wandb"]):
        assert chain.outdated(*flags) == set(), flags


def test_tiles_with_object_are_others_although_the_same_tiles_are_kept(chain):
    assert chain.outdated("--preprocess.min_object_pixels", "2000", "--preprocess.background_keep", "1") >= {"01", "03"}
    chain.flags = ("--preprocess.background_keep", "1")
    chain.make()
    kept = (chain.path.parent / "work/tiles.csv").read_bytes()
    found = chain.outdated("--preprocess.min_object_pixels", "2000")
    assert (chain.path.parent / "work/tiles.csv").read_bytes() == kept and found == {"01", "03"}


def test_the_order_of_run_lengths_reaches_the_training(tiny):
    """Square images: both orders are legal, and count as many pixels."""
    chain = masked(tiny)
    values, rows = yaml.safe_load(tiny.read_text()), []
    for number in range(6):
        mask = cv2.imread(str(tiny.parent / f"raw/masks/im{number}.bmp"), cv2.IMREAD_UNCHANGED)
        rows.append((f"im{number}", rle.encode(mask)))
    pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(tiny.parent / "raw/train.csv", index=False)
    values["competition"].pop("labels")
    values["preprocess"] = {"tile_size": 160}
    tiny.write_text(yaml.safe_dump(values))
    chain.make()
    images = tables.read(tiny.parent / "work/images.csv", tables.IMAGES, "")
    assert chain.outdated("--competition.labels.order", "row") == {"01", "02", "03", "05"}
    again = tables.read(tiny.parent / "work/images.csv", tables.IMAGES, "")
    assert images["px_disc"].equals(again["px_disc"]) and not images["label"].equals(again["label"])


def test_a_palette_that_names_other_colours_reaches_the_training(tiny):
    chain = masked(tiny)
    for number in range(6):
        path = tiny.parent / f"raw/masks/im{number}.bmp"
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.stack([mask * 255] * 3, -1))
    palette = tiny.parent / "raw/palette.csv"
    palette.write_text("name,r,g,b\ndisc,255,255,255\nbackground,0,0,0\n")
    chain.flags = ("--competition.labels.palette", "palette.csv")
    chain.make()
    same_stat(palette, lambda: palette.write_text("name,r,g,b\nbackground,255,255,255\ndisc,0,0,0\n"))
    assert chain.outdated() == {"01", "02", "03", "05"}


def test_an_edited_plugin_outdates_what_looks_its_kinds_up(chain, tmp_path):
    kinds = {"loss": {"03"}, "metric": {"05"}, "codec": {"05"}, "tracker": set(), "labels": {"01"}}
    files = {kind: tmp_path / f"{kind}_mine.py" for kind in [*kinds, "nothing"]}
    for kind, path in files.items():
        text = "" if kind == "nothing" else f"@register('{kind}', 'mine')\ndef mine(*given): return 1\n"
        path.write_text(f"from lib.plugins import register\n{text}# 1\n")
    chain.flags = ("--plugins", *map(str, files.values()))
    chain.make()
    assert chain.outdated() == set()
    for kind, path in files.items():
        path.write_text(path.read_text().replace("# 1", "# 2"))
        names = ["01", "02", "03", "05"]
        found = {name for name, stage in zip(names, chain.stages(), strict=True) if stage.changes()}
        assert found == kinds.get(kind, set(names)), kind
        path.write_text(path.read_text().replace("# 2", "# 1"))


def test_a_local_weight_file_is_known_by_its_content(chain, tmp_path):
    weights = tmp_path / "encoder.pt"
    weights.write_bytes(b"12345")
    chain.flags = ("--model.weights", str(weights))
    for stage in chain.stages():
        stage.finish([])
    assert not any(stage.changes() for stage in chain.stages())
    same_stat(weights, lambda: weights.write_bytes(b"54321"))
    assert [bool(stage.changes()) for stage in chain.stages()] == [False, False, True, False]


def test_metadata_are_known_by_their_content(chain):
    path = chain.path.parent / "raw/metadata.csv"
    path.write_text(path.read_text().replace("north", "nrth1"))
    assert [bool(stage.changes()) for stage in chain.stages()] == [False, True, False, False]


def test_tables_of_older_versions_lack_hashes_and_are_read(chain):
    path = chain.path.parent / "work/tiles.csv"
    whole = tables.read(path, tables.TILES, "01")
    assert whole["content"].str.fullmatch("[0-9a-f]{16}").all()
    whole.drop(columns="content").to_csv(path, index=False)
    assert (tables.read(path, tables.TILES, "01")["content"] == "").all()


def test_digests_are_remembered_while_a_file_is_untouched(tmp_path, monkeypatch):
    files = [tmp_path / name for name in "ab"]
    for path in files:
        path.write_text(path.name)
        os.utime(path, (1, 1))
    monkeypatch.setattr(digests, "SETTLED_NS", -(10**12))  # as if they had been written long ago
    store = Digests(tmp_path / "digests.json")
    first = store.of(files)
    assert first == {str(path): file_fingerprint(path) for path in files}
    read = []
    monkeypatch.setattr(digests, "digest", lambda path: read.append(path) or "new")
    assert store.of(files) == first and read == []
    same_stat(files[1], lambda: files[1].write_text("c"))
    assert store.of(files)[str(files[1])] == "new" and read == [files[1]], "its entry was changed later"
    assert Digests(tmp_path / "digests.json").of([tmp_path / "none"]) == {str(tmp_path / "none"): "missing"}


def test_what_was_just_written_is_hashed_again(tmp_path):
    path, store = tmp_path / "a", Digests(tmp_path / "digests.json")
    path.write_text("1")
    first, now = store.of([path]), path.stat().st_ctime_ns
    assert not store.cache.is_file(), "within the clock's step it may change again"
    for seconds, settled in ((1.9, False), (2.1, True)):
        later = Digests(tmp_path / f"{seconds}.json")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(digests.time, "time_ns", lambda seconds=seconds: now + int(seconds * 1e9))
            assert later.of([path]) == first and later.cache.is_file() == settled
    path.write_text("2")
    assert store.of([path]) != first


def test_large_files_are_sampled_and_their_time_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(digests, "SAMPLE_BYTES", 10)
    path = tmp_path / "slide.tif"
    data = bytearray(np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes())
    path.write_bytes(data)
    first = digests.digest(path)
    pieces = [data[start : start + 10] for start in (4990 * number // 63 for number in range(64))]
    wanted = f"5000 {hashlib.sha256(b''.join(pieces)).hexdigest()[:16]} {path.stat().st_mtime_ns}"
    assert first == wanted, "manifests of earlier versions hold it"
    for place in (0, 4999):
        other = data.copy()
        other[place] ^= 1
        path.write_bytes(other)
        assert digests.content_of(digests.digest(path)) != digests.content_of(first), place
    path.write_bytes(data)
    os.utime(path, (1, 1))
    assert digests.digest(path) != first
    assert digests.content_of(digests.digest(path)) == digests.content_of(first), "a copy holds the same"
