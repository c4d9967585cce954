"""Files that stages write and read back: damaged at random, or with odd values."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fuzzing import bounded_memory, broken, changed, fuzzed, only_sentences  # noqa: F401 (a fixture)
from hypothesis import strategies as st
from records import done, manifest

from lib import tables
from lib.artifacts.read import (
    fit_state,
    read_arrays,
    read_json,
    read_log,
    read_tensors,
    read_yaml,
    sound_json,
    sound_zip,
)
from lib.config.load import saved_sections
from lib.config.training import Model
from lib.decision.decision import Decision
from lib.models.network import build_network
from lib.models.weight_files import load_weights, read_description
from lib.stage import Stage
from lib.training.resume import load_resume, truncate_log

DECISION = {
    "threshold": 128, "score": 0.5, "half_score": 0.5, "cross_score": None,
    "mix": {"weights": [0.5, 0.5], "mean": "arithmetic"},
    "gates": [0.1], "factors": None, "rules": [None, {"low": 3, "high": 9, "area": 1, "hole": 0, "largest": False}],
    "left_out": [1], "weights": {"a": 0.5},
}  # fmt: skip
RECORDS = {
    "runs/base/fold0_seed42/done.json": done(images={"a": 0.5}),
    "runs/base/fold0_seed42/begun.json": {"format": 2, "option train.lr": 0.1, "content plugins": {"a.py": "1 2"}},
    "manifests/02_some.json": manifest(made_from={"option a": 1, "content b": {"c": "1 d"}}, made={"a.csv": "1 b"}),
    "decision.json": DECISION,
    "submissions/a.json": {"decision": DECISION, "members": ["base/fold0_seed42 swa"], "made_from": {"a": "1 b"}},
    "choices/a.json": {"key": "train.batch_size unet", "value": 8},
    "preflight.json": {"identity": "a", "seconds": {"a": 1.0}, "measured": {}, "forecast": {"a": 1.0}},
    "fingerprint.json": {"objects_on_blank": 0.1, "tiles": 3},
    "members.json": {"members": ["a"], "images": ["b"]},
}
STATE = {"network": {"a": torch.ones(2)}, "optimizer": {}, "scaler": {}, "swa": {}, "step": 3, "epoch": 1}
FOLDS = "image_id,group,fold,kept_from\na,a,0,\nb,b,1,\nc,c,-1,0 1\n"


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def archive():
    file = io.BytesIO()
    np.savez_compressed(file, image_ids=np.array(["a"]), counts=np.ones((1, 2, 3)))
    return file.getvalue()


NETWORK = build_network(Model(architecture="tiny"), 1)
WEIGHTS = saved(NETWORK.state_dict())
DESCRIBED = yaml.safe_dump({"channels": 1, "model": Model().model_dump(), "plugins": []})


@pytest.mark.parametrize("name", RECORDS)
@fuzzed(data=st.data())
def test_records_with_odd_values(tmp_path, name, data):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(data.draw(changed(RECORDS[name]))).encode()
    path.write_bytes(data.draw(st.just(content) | broken(content)))
    with only_sentences():
        assert read_json(path, None) is not None
    sound_json(path, {})
    with only_sentences():
        if name == "decision.json":
            Decision.load(path)
    if name.startswith("manifests"):
        stage = Stage(path, "02_some", {"a": 1}, [], {"b": {"c": "1 d"}})
        assert isinstance(stage.changes(), list)


@fuzzed(changed(yaml.safe_load(DESCRIBED)))
def test_descriptions_of_networks(tmp_path, document):
    path = tmp_path / "network.yaml"
    path.write_bytes(yaml.dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))
    with only_sentences():
        assert isinstance(read_description(path).model, Model)


@fuzzed(broken(DESCRIBED.encode()) | st.binary(max_size=60))
def test_damaged_yaml(tmp_path, data):
    for name in ("network.yaml", "resolved.yaml"):
        (tmp_path / name).write_bytes(data)
    with only_sentences():
        assert isinstance(read_yaml(tmp_path / "network.yaml"), dict)
    with only_sentences():
        saved_sections(tmp_path / "resolved.yaml", ("model",))


@fuzzed(broken(WEIGHTS) | st.binary(max_size=200))
def test_damaged_weights(tmp_path, data):
    path = tmp_path / "base" / "fold0_seed42" / "swa_weights.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with only_sentences():
        fit_state(NETWORK, load_weights(path), path, "train it again")


@fuzzed(broken(saved(STATE)) | st.binary(max_size=200))
def test_damaged_states(tmp_path, data):
    (tmp_path / "last.pt").write_bytes(data)
    with only_sentences():
        assert isinstance(load_resume(tmp_path / "last.pt"), dict)


@fuzzed(broken(archive()) | st.binary(max_size=200))
def test_damaged_caches(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    assert sound_zip(tmp_path / "a.npz") in (True, False)
    with only_sentences():
        assert "counts" in read_arrays(tmp_path / "a.npz", ("image_ids", "counts"))


@fuzzed(broken(b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": NaN}\n') | st.binary(max_size=60))
def test_damaged_logs(tmp_path, data):
    (tmp_path / "metrics.jsonl").write_bytes(data)
    assert all("step" in record for record in read_log(tmp_path / "metrics.jsonl"))
    truncate_log(tmp_path / "metrics.jsonl", 1)
    assert all(record["step"] <= 1 for record in read_log(tmp_path / "metrics.jsonl"))


@fuzzed(broken(FOLDS.encode()) | st.binary(max_size=60))
def test_damaged_tables(tmp_path, data):
    (tmp_path / "folds.csv").write_bytes(data)
    images = pd.DataFrame({"image_id": list("abc"), "split": "train"})
    with only_sentences():
        assert len(tables.read_folds(tmp_path / "folds.csv", images)) == 3


def test_what_is_damaged_is_readable_when_it_is_whole(tmp_path):
    for name, record in RECORDS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        assert read_json(path, None) == record
    assert Decision.load(tmp_path / "decision.json").thresholds == (128,)
    (tmp_path / "last.pt").write_bytes(saved(STATE))
    assert load_resume(tmp_path / "last.pt")["step"] == 3
    (tmp_path / "swa_weights.pt").write_bytes(WEIGHTS)
    fit_state(NETWORK, load_weights(tmp_path / "swa_weights.pt"), tmp_path, "")
    assert read_tensors(tmp_path / "swa_weights.pt", "").keys() == NETWORK.state_dict().keys()
    (tmp_path / "a.npz").write_bytes(archive())
    assert sound_zip(tmp_path / "a.npz") and read_arrays(tmp_path / "a.npz")["counts"].shape == (1, 2, 3)
