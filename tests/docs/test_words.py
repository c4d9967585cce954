"""README and docs: short, plain, and every command, option and piece of YAML in them is real."""

import re
import shlex

import pytest
import yaml
from documented import GUIDES, README, ROOT, blocks, name_of, unknown_words

from lib.config import load
from lib.plugins import find

PAGES = [README, ROOT / "CONTRIBUTING.md", *GUIDES]


def prose(text: str) -> str:
    """The text without code, tables, pictures, headings and the targets of links."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    lines = (line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "!", "[Quick")))
    return re.sub(r"\]\([^)]*\)", "]", "\n".join(lines))


def sentences(text: str) -> list[str]:
    paragraphs = re.split(r"\n\s*\n|\n\s*(?=[-*]|\d+\.)", prose(text))
    return [one for part in paragraphs for one in re.split(r"(?<=[.!?:])\s+", " ".join(part.split())) if one]


def test_the_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200 and len(text.split()) <= 1600


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_sentences_are_short_and_numbers_are_plain(path):
    text = path.read_text(encoding="utf-8")
    assert [one for one in sentences(text) if len(one.split()) > 30] == []
    assert "±" not in text
    assert re.findall(r"(?<![\w./`])\.\d+", prose(text)) == [], "a decimal without its leading zero"


def test_sentences_are_found():
    assert sentences("# A\n\nOne two. Three\nfour!\n\n- five\n- six [link](a.md).\n\n```\nno. no.\n```\n") == [
        "One two.", "Three four!", "- five", "- six [link]."
    ]  # fmt: skip


def test_a_cell_of_the_readme_holds_one_number():
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [cell for row in rows for cell in re.sub(r"`[^`]*`", "", row).strip("|").split("|")]
    assert len(cells) > 50
    assert [cell for cell in cells if len(re.findall(r"\d+(?:\.\d+)?", cell)) > 1] == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_name_scripts_verbs_and_options_that_exist(path):
    for line in "\n".join(blocks(path, "bash")).splitlines():
        assert unknown_words(shlex.split(line.split("  #")[0])) == [], line


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_yaml_is_a_configuration(path, tmp_path):
    for text in blocks(path, "yaml"):
        values = yaml.safe_load(text)
        if set(values) == {"labels"}:
            values = {"competition": values}
        values.pop("plugins", None)
        if values.get("competition", {}).get("external"):  # its classes are translated into the competition's
            values["competition"]["classes"] = ["vessel"]
        file = tmp_path / "some.yaml"
        file.write_text(yaml.safe_dump(values))
        assert load(file, []).competition


def test_the_documented_plugins_register_what_they_say():
    code = blocks(ROOT / "docs/how-to/extend.md", "python")
    assert len(code) >= 2
    for text in code:
        exec(compile(text, "extend.md", "exec"), {})
        kind, name = re.search(r'@register\("(\w+)", "([\w.]+)"\)', text).groups()
        assert callable(find(kind, name, "a page"))
