"""05 goes on where it was killed, with the same bytes; its report is made again without another submission."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from lib.inference.windows import Source, Windows
from lib.predict import answer_parts as kept
from lib.predict import write_submission as submit
from lib.predict.answer_parts import AnswerParts, in_parts
from lib.workspace import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


class Killed(BaseException):
    pass


@pytest.fixture
def trained(tiny):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, tiny)
    return tiny


def answers_of(config):
    return (config.parent / "work/submission.csv").read_bytes()


def submissions(config):
    return sorted(path.name for path in (config.parent / "work/submissions").glob("*.csv"))


def test_a_killed_05_goes_on_and_writes_the_same_bytes(trained, monkeypatch):
    work, predicted = trained.parent / "work", []
    monkeypatch.setattr(kept, "PART_WINDOWS", 1)  # each image is a part
    real = submit.predict_multi_scale

    def together(sources, *rest):
        predicted.append([source.image_id for source in sources])
        return real(sources, *rest)

    monkeypatch.setattr(submit, "predict_multi_scale", together)
    run("05_infer_ensemble", trained)
    calm = answers_of(trained)
    assert predicted == [["im6"], ["im7"]] and len(calm) > 100 and not list((work / "answers").iterdir())

    def die(sources, *rest):
        if sources[0].image_id == "im7":
            raise Killed
        return together(sources, *rest)

    (work / "manifests/05_infer_ensemble.json").unlink()
    (work / "submission.csv").unlink()
    monkeypatch.setattr(submit, "predict_multi_scale", die)
    with pytest.raises(Killed):
        run("05_infer_ensemble", trained)
    assert len(submissions(trained)) == 2, "the ledger and the first answer: nothing half-written"
    predicted.clear()
    monkeypatch.setattr(submit, "predict_multi_scale", together)
    run("05_infer_ensemble", trained)
    assert predicted == [["im7"]], "im6 was answered before"
    assert answers_of(trained) == calm and not list((work / "answers").iterdir())

    # With another decision or window, nothing that was kept is used.
    with pytest.raises(Killed):
        monkeypatch.setattr(submit, "predict_multi_scale", die)
        run("05_infer_ensemble", trained, "--infer.overlap", "0.25")
    predicted.clear()
    monkeypatch.setattr(submit, "predict_multi_scale", together)
    run("05_infer_ensemble", trained, "--infer.overlap", "0")
    assert predicted == [["im6"], ["im7"]]


def worst_drawn(oof):
    return sum("worst" in item["places"] for item in json.loads(oof.read_text())["gallery"])


def test_the_report_is_made_again_without_another_submission(trained, capsys, monkeypatch):
    run("05_infer_ensemble", trained)
    before, names = answers_of(trained), submissions(trained)
    oof = trained.parent / "work/report/oof.json"
    assert worst_drawn(oof) == 1
    monkeypatch.setattr(submit, "predict_multi_scale", lambda *_: pytest.fail("no test image is predicted again"))
    capsys.readouterr()
    run("05_infer_ensemble", trained, "--report.pictures", "2")
    out = capsys.readouterr().out
    assert "05_infer_ensemble: up to date" in out and submissions(trained) == names and answers_of(trained) == before
    assert worst_drawn(oof) == 2
    changed = oof.stat().st_mtime_ns
    run("05_infer_ensemble", trained, "--report.pictures", "2")
    assert oof.stat().st_mtime_ns == changed, "nothing to do"


def test_killed_before_its_report_05_makes_the_report_alone(trained, monkeypatch):
    script = runpy.run_path(str(ROOT / "05_infer_ensemble.py"))

    def die(*_):
        raise Killed

    script["main"].__globals__["write_findings"] = die
    with pytest.raises(Killed):
        script["main"]([str(trained)])
    names = submissions(trained)
    run("05_infer_ensemble", trained)
    assert submissions(trained) == names and (trained.parent / "work/report/oof.json").is_file()


def test_a_05_of_the_first_version_is_done_with_its_report(trained, monkeypatch):
    run("05_infer_ensemble", trained)
    manifests = trained.parent / "work/manifests"
    record = read_json(manifests / "05_infer_ensemble.json", {})
    made_from = {key: value for key, value in record["made_from"].items() if not key.startswith("content ")}
    made_from["option report.pictures"] = 1
    old = {key: value for key, value in record.items() if key != "format"}
    write_json(manifests / "05_infer_ensemble.json", {**old, "made_from": made_from})
    (manifests / "05_report.json").unlink()
    oof = trained.parent / "work/report/oof.json"
    before = oof.stat().st_mtime_ns
    run("05_infer_ensemble", trained)
    run("05_infer_ensemble", trained)
    assert oof.stat().st_mtime_ns == before
    run("05_infer_ensemble", trained, "--report.pictures", "0")
    assert oof.stat().st_mtime_ns != before


@pytest.mark.parametrize("planes", [1, 3])
def test_what_is_kept_is_read_as_it_was_written(tmp_path, planes):
    rng = np.random.default_rng(2)
    images = {f"im {i}\n": rng.integers(0, 3, (planes, 20 + i, 11), np.uint8) for i in range(3)}
    store = AnswerParts(tmp_path / "answers", planes)
    sources = [Source(name, Path("x")) for name in images]
    with store.writing(4) as noted:
        for name, labels in images.items():
            *_, bands = noted((name, *labels.shape[1:], iter([labels[:, :7], labels[:, 7:]])))
            assert np.array_equal(np.concatenate(list(bands), axis=1), labels)
        assert not store.has(4, sources), "not before all of it is there"
    found = {name: (*size, np.concatenate(list(bands), axis=1)) for name, *size, bands in store.read(4)}
    assert store.has(4, sources) and not store.has(3, sources) and list(found) == list(images)
    for name, (height, width, labels) in found.items():
        assert (height, width) == images[name].shape[1:] and np.array_equal(labels, images[name])
    with pytest.raises(Killed), store.writing(5) as noted:
        raise Killed
    assert not store.has(5, sources)
    store.clear()
    assert not store.has(4, sources)
    nothing = AnswerParts(None)
    with nothing.writing(0) as noted:
        assert noted("answer") == "answer"
    assert not nothing.has(0, [])


def test_parts_hold_every_image_once_in_order_and_enough_windows(monkeypatch):
    monkeypatch.setattr(kept, "PART_WINDOWS", 10)
    windows = Windows(32, 0.0, 1.0, "constant", 0.0)
    sources = [Source(str(i), Path("x"), size=(32, 32 * count)) for i, count in enumerate([4, 4, 4, 30, 1, 9, 2])]
    parts = [[source.image_id for source in part] for part in in_parts(sources, windows)]
    assert parts == [["0", "1", "2"], ["3"], ["4", "5"], ["6"]]
