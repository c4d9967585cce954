"""Each option makes the stages run again that docs/reference/files.md names; manifests of other versions are read."""

import json

import pytest

from lib.config import Config, flat, load
from lib.config.affects import STAGES, Affects, default_of, settings_of
from lib.config.competition import External
from lib.config.old_names import OLD_NAMES
from lib.stage import FORMAT, Stage, differences, jsonable
from lib.workspace import write_json

ANOTHER = 7  # the value of no option
# What options of a section affect, and those that differ from their section. Nothing here reads the annotations.
OF_SECTION = {
    "preprocess": "tiles", "folds": "folds", "model": "member", "augment": "member", "train": "member",
    "pseudo": "pseudo", "clean": "clean", "infer": "answer", "report": "", "package": "", "competition": "tiles",
    "competition.labels": "tiles", "competition.pixels": "tiles", "competition.submission": "answer",
    "competition.scoring": "score answer",
}  # fmt: skip
NONE = (
    "competition.name competition.root competition.kaggle competition.answers competition.submission.preset "
    "competition.submission.max_mb train.experiment train.folds train.seeds train.workers train.device "
    "train.time_limit train.min_member_time pseudo.rounds pseudo.patience pseudo.mode pseudo.share pseudo.weight "
    "clean.weight infer.coarse infer.coarse_above infer.coarse_margin infer.min_gain infer.trial_limit infer.maps_gib "
    "infer.max_gib report.tracker report.tracker_mode execution.backend "
    "execution.address execution.devices execution.per_member execution.threads execution.lease plugins workspace jobs "
    "debug quiet log_file preflight"
)
OTHERS = {
    **dict.fromkeys(NONE.split(), ""),
    "competition.metadata": "folds", "competition.metadata_id": "folds", "competition.metadata_template": "folds",
    "competition.metric": "score answer", "competition.score_background": "score answer",
    "competition.classes": "tiles pseudo clean", "competition.background": "tiles pseudo clean",
    "competition.multilabel": "tiles pseudo clean", "competition.pixels.colours": "tiles member",
    **{f"preprocess.{name}": "tiles pseudo clean" for name in ("mode", "tile_size", "scale", "fit", "image_format")},
    "preprocess.blank_tolerance": "tiles score pseudo clean answer",
    "preprocess.pixel_size_column": "tiles score pseudo clean answer",
    "preprocess.target_pixel_size": "tiles score pseudo clean answer",
    "preprocess.min_object_pixels": "tiles member pseudo",
    "folds.seed": "folds member",
    "model.stem": "member pseudo clean", "train.crop": "member pseudo clean", "train.scale": "member pseudo clean",
    "pseudo.hard": "pseudo clean", "clean.use": "member", "report.pictures": "report",
    **{f"infer.{name}": "score pseudo clean answer"
       for name in ("window", "overlap", "scale", "blend", "margin", "roi", "tta")},
    "infer.precision": "pseudo clean answer", "infer.backend": "pseudo clean answer",
    "infer.checkpoints": "score answer",
}  # fmt: skip
# Options that another one switches on.
SWITCHED = [
    (["--train.round", "1"], dict.fromkeys(["pseudo.mode", "pseudo.share", "pseudo.weight"], "member")),
    (["--clean.use", "true"], {"clean.weight": "member"}),
    (["--infer.roi", "coarse"], {f"infer.{name}": "answer" for name in ("coarse", "coarse_above", "coarse_margin")}),
]


def changed(config, key):
    """The configuration with another value of one option, checked by nothing."""
    parts = key.split(".")
    if len(parts) == 1:
        return config.model_copy(update={key: ANOTHER})
    section = getattr(config, parts[0])
    return config.model_copy(update={parts[0]: changed(section, ".".join(parts[1:]))})


def affected(config, key):
    other = changed(config, key)
    return {stage for stage in STAGES if settings_of(config, stage) != settings_of(other, stage)}


def expected(key):
    sections = [key.rsplit(".", n)[0] for n in range(1, key.count(".") + 1)]
    said = [OTHERS.get(key), *(OF_SECTION.get(section) for section in sections)]
    return set(next(stages for stages in said if stages is not None).split())


@pytest.mark.parametrize("key", list(flat(Config())))
def test_each_option_affects_exactly_the_stages_that_read_it(key):
    assert affected(Config(), key) == expected(key)


@pytest.mark.parametrize(("flags", "wanted"), SWITCHED, ids=lambda value: str(value)[:30])
def test_options_that_another_one_switches_on(flags, wanted):
    config = load(None, flags)
    assert {key: " ".join(affected(config, key)) for key in wanted} == wanted
    switch = flags[0].removeprefix("--")
    for stages in wanted.values():
        assert set(stages.split()) <= affected(config, switch), "what it switches is noted with it"


def test_external_sources_are_options_of_their_own():
    source = {"name": "web", "root": "web", "labels": {"path": "masks", "format": "mask_images"}}
    config = Config.model_validate({"competition": {"external": [source]}})
    affected_by = {"weight": {"member"}, "scale": {"tiles", "pseudo"}, "root": set()}
    for name in External.model_fields:
        other = External.model_construct(**{**dict(config.competition.external[0]), name: str(ANOTHER)})
        others = config.model_copy(update={"competition": config.competition.model_copy(update={"external": [other]})})
        found = {stage for stage in STAGES if settings_of(config, stage) != settings_of(others, stage)}
        # Another name is another source.
        assert found == affected_by.get(name, {"tiles", *(("member", "pseudo") if name == "name" else ())}), name
    assert settings_of(config, "tiles")["competition.external.web.labels.path"] == "masks"
    assert default_of("competition.external.web.weight", Config) == 1.0
    assert default_of("competition.external.web.labels.order", Config) == "column"


def test_channels_are_options_of_their_own_and_what_01_fitted_is_none():
    def tiles(*channels):
        return settings_of(Config.model_validate({"competition": {"pixels": {"channels": channels}}}), "tiles")

    first, other = {"name": "a", "band": 0}, {"name": "b", "band": 1}
    now = tiles(first, other)
    assert now["competition.pixels.channels"] == ["a", "b"] and now["competition.pixels.channels.b.band"] == 1
    for key, value in {"band": 2, "range": [0, 9], "scaling": "image", "slice": 1, "nodata": 0.0}.items():
        assert tiles(first, {**other, key: value}) != now, key
    assert tiles(other, first) != now, "another order is another input"
    assert tiles(first, {**other, "fitted": [0, 9], "fitted_bits": 8}) == now
    made_from = {f"option {key}": value for key, value in now.items()}
    before = {"option competition.pixels.channels": []}
    assert list(differences(made_from, jsonable(before), FORMAT, {})), "back to red, green and blue"
    assert list(differences({}, jsonable(made_from), FORMAT, {})), "from red, green and blue of an older version"


def test_a_stage_that_does_not_exist_is_no_stage():
    with pytest.raises(ValueError, match="'tests' is not one of tiles"):
        Affects("tests")


def stage_of(tmp_path, settings, contents=None):
    return Stage(tmp_path / "m.json", "m", settings, [], contents)


def test_a_missing_option_had_its_default_and_one_no_longer_read_changes_nothing(tmp_path):
    stage_of(tmp_path, {"train.lr": 0.1}).finish([])
    assert stage_of(tmp_path, {"train.lr": 0.1, "train.clip": 1.0}).changes() == []
    assert stage_of(tmp_path, {"train.lr": 0.1, "train.clip": 2.0}).changes() == ["train.clip changed from 1.0 to 2.0"]
    assert stage_of(tmp_path, {}).changes() == []
    assert stage_of(tmp_path, {"train.lr": 0.2}).changes() == ["train.lr changed from 0.1 to 0.2"]


def test_a_renamed_option_is_the_same_option(tmp_path, monkeypatch):
    stage_of(tmp_path, {"train.rate": 0.1}).finish([])
    assert stage_of(tmp_path, {"train.lr": 0.1}).changes(), "0.1 is not the default"
    monkeypatch.setitem(OLD_NAMES, "train.rate", "train.lr")
    assert stage_of(tmp_path, {"train.lr": 0.1}).changes() == []
    assert stage_of(tmp_path, {"train.lr": 0.2}).changes() == ["train.lr changed from 0.1 to 0.2"]


def test_contents_that_change_come_and_go(tmp_path):
    stage_of(tmp_path, {}, {"labels": {"a": "1", "b": "2"}}).finish([])
    for now, said in [
        ({"a": "1", "b": "2"}, []), ({"a": "1", "b": "3"}, ["b changed"]), ({"a": "1"}, ["b is no longer used"]),
        ({"a": "1", "b": "2", "c": "4"}, ["c changed"]),
    ]:  # fmt: skip
        assert stage_of(tmp_path, {}, {"labels": now}).changes() == said
    assert stage_of(tmp_path, {}, {"labels": {"a": "1", "b": "2"}, "plugins": {"p": "5"}}).changes() == ["p changed"]
    assert stage_of(tmp_path, {}).changes() == ["labels is no longer used"]


def test_a_manifest_of_format_1_holds_and_notes_contents_from_now_on(tmp_path):
    table = tmp_path / "tiles.csv"
    table.write_text("a\n1\n")
    old = Stage(tmp_path / "m.json", "m", {"train.lr": 0.1}, [table])
    old.finish([table])
    record = old.record
    write_json(tmp_path / "m.json", {key: value for key, value in record.items() if key != "format"})
    settings = {"train.lr": 0.1, "preprocess.min_object_pixels": 5}
    now = Stage(tmp_path / "m.json", "m", settings, [table], {"model.weights": {"w.pt": "1"}})
    now.then = lambda: {"preprocess.min_object_pixels": 5}
    other = Stage(tmp_path / "m.json", "m", settings, [table], {})
    other.then = lambda: {"preprocess.min_object_pixels": 1}
    assert other.changes() == ["preprocess.min_object_pixels changed from 1 to 5"]
    assert now.up_to_date() and now.record["format"] == FORMAT, "nothing says that it has changed"
    edited = Stage(tmp_path / "m.json", "m", settings, [table], {"model.weights": {"w.pt": "2"}})
    assert edited.changes() == ["w.pt changed"]


def test_what_older_versions_called_otherwise(tmp_path):
    image, masks = tmp_path / "a.png", tmp_path / "masks"
    masks.mkdir()
    (masks / "a.png").write_bytes(b"123")
    image.write_bytes(b"12")
    about = image.stat()
    made_from = {
        "option weight of web": 0.5,
        "option competition.external": [{"name": "web", "root": "r", "labels": {"path": "p"}}],
        "option the images": {str(image): [2, int(about.st_mtime)]},
        "option competition.kaggle": "x",
        f"file {masks}": "1 files " + json.dumps(0),
    }
    now = {
        "option competition.external.web.weight": 0.5,
        "option competition.external.web.labels.path": "p", "option competition.external.web.labels.order": "column",
    }  # fmt: skip
    assert list(differences(made_from, now, 1, {})) == [f"{masks} changed"], "its name and sizes are not these"
    image.write_bytes(b"123")
    assert f"{image} changed" in list(differences(made_from, now, 1, {}))
    assert list(differences({**made_from, "option weight of web": 1.0}, now, 1, {}))[0].startswith(
        "weight of web changed from 1.0"
    )
