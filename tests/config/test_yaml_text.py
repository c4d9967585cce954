import time

import pytest
import yaml

from lib.config import load
from lib.config.yaml_text import MOST_VALUES, parse_yaml, read_options
from lib.errors import UserError


def test_a_merged_section_may_be_overridden_and_anchors_may_be_used():
    text = "base: &b {lr: 1, seeds: &s [1, 2]}\nother: {<<: *b, lr: 2, more: *s}\n"
    assert parse_yaml(text)["other"] == {"lr": 2, "seeds": [1, 2], "more": [1, 2]}


@pytest.mark.parametrize("text", ["{a: 1, b: 2, a: 3}", "x: {a: 1}\ny: [{a: 1, 'a': 2}]\n"])
def test_a_key_that_stands_twice_is_refused_wherever_it_stands(text):
    with pytest.raises(yaml.YAMLError, match="'a' stands twice in one section, the second time in line"):
        parse_yaml(text)
    assert parse_yaml("{a: {a: 1}, 1: 2, '1': 3}") == {"a": {"a": 1}, 1: 2, "1": 3}


@pytest.mark.parametrize("join", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_explode_are_refused_at_once(tmp_path, join):
    lines = ["a: &a {x: 1}\n"]
    for old, new in zip("abcdefghijklmn", "bcdefghijklmno", strict=True):
        lines.append(f"{new}: &{new} {join.format(', '.join([f'*{old}'] * 9))}\n")
    (tmp_path / "a.yaml").write_text("".join(lines))
    begun = time.process_time()
    with pytest.raises(UserError, match=rf"a.yaml is not valid YAML \(its aliases stand for more than {MOST_VALUES}"):
        read_options(tmp_path / "a.yaml")
    assert time.process_time() - begun < 5  # some milliseconds; to follow the aliases would take hours


def test_long_lists_are_no_explosion():
    assert len(parse_yaml(f"[{', '.join(['1'] * 20_000)}]")) == 20_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_that_say_what_they_are_are_read(tmp_path, encoding):
    text = "\ufeff" * (encoding == "utf-16-le") + "competition: {name: größer}\n"
    (tmp_path / "a.yaml").write_bytes(text.encode(encoding))
    assert load(tmp_path / "a.yaml").competition.name == "größer"


def test_a_value_that_is_shown_is_short(tmp_path):
    (tmp_path / "a.yaml").write_text(f"train: {{epochs: {list(range(5000))}}}\n")
    with pytest.raises(UserError, match=r"train.epochs: found \[0, 1, 2") as found:
        load(tmp_path / "a.yaml")
    assert len(str(found.value)) < 400
