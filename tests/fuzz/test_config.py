"""Configuration files and command lines with odd values."""

import pytest
import yaml
from fuzzing import bounded_memory, broken, changed, fuzzed, only_sentences  # noqa: F401 (a fixture)
from hypothesis import strategies as st

from lib.config import Config, flat, load, saved_config

DOCUMENT = {
    "competition": {
        "name": "demo", "root": "data", "classes": ["a", "b"],
        "labels": {"format": "coco", "palette": {"a": [1, 2, 3]}},
        "submission": {"preset": "airbus", "size": [3, 4]}, "pixels": {"range": [0, 255.5], "files": ["a", "b", "c"]},
        "external": [{"name": "x", "root": "y", "classes": {"a": "b"}, "labels": {"format": "coco"}}],
        "scoring": {"classes": ["a"], "empty": "one"},
    },
    "train": {"epochs": 3, "seeds": [1, 2], "folds": ["all"], "swa": {"start": 0.5}, "time_limit": "5m",
              "workers": "auto", "loss": {"terms": {"bce": 1.0}, "then": {0.5: {"dice": 1}}}},
    "infer": {"tta": "flips", "tag": "x", "checkpoints": ["swa"], "window": "auto"},
    "plugins": [], "debug": False, "jobs": 1,
}  # fmt: skip
MORE = ["all", "auto", "5m", "{id}", "**a", "[", "hflip rotate=90", 255, [256] * 300, ["a"] * 300]
WORDS = st.text(max_size=8) | st.sampled_from(["--", "--debug", "--train.lr=1", "--=", "--train"])
KEYS = sorted(flat(Config()))
TEXTS = st.sampled_from(["", "[", "[1", "{a: 1}", "{a", ".inf", ".nan", "1e300", "-1", "null", "true", "[.nan]", "*a",
                         "&a [*a]", "!!python/object:os.system x", "2024-99-99", "{a: 1, a: 2}"])  # fmt: skip


@fuzzed(changed(DOCUMENT, MORE), st.booleans())
def test_configurations_with_odd_values(tmp_path, document, debug):
    path = tmp_path / "a.yaml"
    path.write_bytes(yaml.dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))
    with only_sentences():
        assert isinstance(load(path, ["--debug"] * debug), Config)
    with only_sentences():
        assert isinstance(saved_config(path), Config)


@fuzzed(broken(yaml.safe_dump(DOCUMENT).encode()) | st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_damaged_configurations(tmp_path, data):
    (tmp_path / "a.yaml").write_bytes(data)
    with only_sentences():
        assert isinstance(load(tmp_path / "a.yaml"), Config)


@fuzzed(st.lists(st.tuples(st.sampled_from(KEYS), TEXTS | st.text(max_size=8)), min_size=1, max_size=3))
def test_command_lines_with_odd_values(options):
    with only_sentences():
        assert isinstance(load(None, [word for key, text in options for word in (f"--{key}", text)]), Config)


@fuzzed(
    st.lists(st.text(max_size=8) | st.sampled_from(["--", "--debug", "--train.lr=1", "--=", "--train"]), max_size=5)
)
def test_odd_command_lines(words):
    with only_sentences():
        assert isinstance(load(None, words), Config)


def test_the_document_that_is_changed_is_a_configuration(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(DOCUMENT))
    assert load(tmp_path / "a.yaml").competition.classes == ["a", "b"]
    assert pytest.approx(0.5) == load(tmp_path / "a.yaml").train.swa.start
