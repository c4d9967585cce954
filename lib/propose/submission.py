"""Recognises the form of the answer: the sample submission's columns, ids and classes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pandas as pd

from lib.competition.image_files import listed_names
from lib.competition.labels.rle_csv import NOTHING
from lib.competition.labels.template import fixed_part
from lib.config.competition import Submission
from lib.config.presets import PRESETS
from lib.errors import UserError
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, abbreviated, choice_if
from lib.propose.labels.found import FoundLabels
from lib.propose.names import Form, form_of

DEFAULTS = {"codec": "rle", "id_column": "id", "class_column": "", "rle_column": "predicted"}
SUBMISSION_COLUMNS = ("id_column", "class_column", "rle_column")
OPTIONS = Submission().model_dump()
FORM = ("order", "base", "relative")
CLASS = re.compile(r"class|category|^label$", re.IGNORECASE)
ANSWER = re.compile(r"rle|encod|predict|run.?length|mask|segment|pixels", re.IGNORECASE)


@dataclass(frozen=True)
class SampleSubmission:
    """A sample submission: its file, its table, the column that names images, and the form of the names."""

    name: str
    table: pd.DataFrame
    id_column: str
    form: Form
    class_column: str

    def answer_column(self, labels_column: str) -> str:
        """The column that answers are written into. `labels_column`: the column of the labels' run-lengths."""
        others = [c for c in self.table.columns if c not in (self.id_column, self.class_column)]
        named = [c for c in others if ANSWER.search(c)]
        constant = [c for c in others if len(set(self.table[c])) == 1]
        return next((c for c in [labels_column, *named, *constant[::-1], *others[::-1]] if c in others), "")


@dataclass(frozen=True)
class Wanted:
    """What the organiser asks for.

    `choices`: options of `competition.submission`, and `competition.test_list`. `ids`: of the test images. `classes`:
    as far as rows name them. `options`: all values of `competition.submission` that differ from the defaults.
    """

    choices: list[OptionChoice]
    ids: set[str]
    classes: list[str]
    options: dict[str, object]
    sample: SampleSubmission | None = None


def wanted_answers(folder: Folder, notes: Notes) -> Wanted | None:
    """The images that the organiser asks for; None, with a note on the reason, where nothing names them."""
    known = folder.known()
    for name in sorted(folder.tables, key=lambda name: ("sample" not in name.lower(), name)):
        table = folder.tables[name]
        if "sample" not in name.lower() and "submission" not in name.lower():
            break
        if table.empty and len(table.columns) > 1:
            return _of_head(name, table, notes)
        forms = [(c, form) for c in table.columns if (form := form_of(list(table[c]), known))]
        if forms:
            return _of_table(name, table, *forms[0])
        notes.unsure.append(
            f"whether {name} is the sample submission: no column holds names such as {next(iter(known.parts))}"
        )
    ids, listed = _test_images(folder)
    return Wanted(listed, ids, [], dict(DEFAULTS)) if ids else None


def _of_head(name: str, table: pd.DataFrame, notes: Notes) -> Wanted:
    """A sample without rows: the organiser adds the test images when a notebook is scored."""
    notes.found.append(
        f"{name} has columns but no rows: the test images are hidden; `python -m lib package` makes a notebook that "
        "answers them"
    )
    class_column = next((column for column in table.columns[1:] if CLASS.search(column)), "")
    sample = SampleSubmission(name, table, table.columns[0], Form("{id}", set(), []), class_column)
    return Wanted([], set(), [], dict(DEFAULTS), sample)


def _of_table(name: str, table: pd.DataFrame, id_column: str, form: Form) -> Wanted:
    """A sample with rows. Where ids repeat, the column that tells the rows apart names classes."""
    others, class_column = [c for c in table.columns if c != id_column], ""
    if not form.classes and table[id_column].duplicated().any():
        keyed = [c for c in others if 2 <= table[c].nunique() <= 64 and not table.duplicated([id_column, c]).any()]
        class_column = keyed[0] if keyed else ""
    classes = form.classes or (list(dict.fromkeys(table[class_column])) if class_column else [])
    return Wanted([], form.ids, classes, dict(DEFAULTS), SampleSubmission(name, table, id_column, form, class_column))


def _test_images(folder: Folder) -> tuple[set[str], list[OptionChoice]]:
    """The images in a folder called test, or the images that a list called test names."""
    ids = {i for i, name in folder.images().items() if "test" in str(PurePosixPath(name).parent).lower()}
    if ids:
        return ids, []
    for name in [*folder.texts, *folder.tables]:
        if "test" in PurePosixPath(name).name.lower() and name.lower().endswith((".txt", ".csv")):
            form = form_of(sorted(listed_names(folder.root / name) - {""}), folder.known())
            if form and not form.classes:
                return form.ids, [OptionChoice("competition.test_list", name, "names the test images")]
    return set(), []


def answer_form(wanted: Wanted, labels: FoundLabels, runs: FoundLabels | None, notes: Notes) -> Wanted:
    """`wanted` with how answers are written: as the sample shows, and in the form of the labels.

    `labels`: those that are trained on. `runs`: labels that are run-lengths, which show how runs are counted. Raises
    UserError where neither a sample nor the labels show the form of an answer.
    """
    form = runs or labels
    if wanted.sample is None:
        return _as_labels(wanted, form if form.answer else labels, notes)
    sample = wanted.sample
    columns = {
        "id_column": sample.id_column,
        "class_column": sample.class_column,
        "rle_column": sample.answer_column(str(form.answer.get("rle_column", ""))),
    }
    given = {key: form.answer[key] for key in FORM if runs and key in form.answer}
    word = _only_cell(sample.table, columns["rle_column"])
    preset = _preset(columns, given, form.rows if runs else "", word, sample)
    start, options = "competition.submission.", dict(DEFAULTS)
    if preset:
        options |= PRESETS[preset]
        choices = [OptionChoice(start + "preset", preset, f"the columns are {', '.join(sample.table.columns)}")]
        notes.found.append(f"{sample.name} has the columns of {preset}")
        notes.unsure.append(f"whether masks are written as in {preset}: its settings are used")
    else:
        choices = [OptionChoice(start + c, columns[c]) for c in SUBMISSION_COLUMNS if columns[c] != DEFAULTS[c]]
        notes.unsure.append(
            f"how {sample.name} wants masks written: no preset has its columns and the form of the labels"
        )
    if sample.name != "sample_submission.csv":
        choices.append(OptionChoice(start + "sample", sample.name))
    template = sample.form.template
    if template != options.get("id_template", "{id}"):
        example = f"as in {sample.table[sample.id_column].iloc[0]}" if len(sample.table) else ""
        choices.append(OptionChoice(start + "id_template", template, example))
    choices += _instances(form, sample, options, preset, notes)
    choices += [OptionChoice(start + key, given[key], "as the labels") for key in FORM if _differs(key, given, options)]
    choices += _word_for_empty(sample.name, word, options, notes)
    if sample.table.attrs["separator"] != ",":
        notes.found.append(f"{sample.name} is separated by {sample.table.attrs['separator']!r}; answers are too")
    return replace(wanted, choices=wanted.choices + choices, options=options)


def with_fixed_folders(wanted: Wanted, test_images: str, image_ids: str) -> Wanted:
    """`wanted` with the fixed folders of `competition.test_images` written out in `id_template`.

    `{path}` begins at the first wildcard: with test images `batch_01/*`, the path of `batch_01/0003` is `0003`.
    """
    template = wanted.sample.form.template if wanted.sample else ""
    folders = PurePosixPath(test_images).parent.parts
    named = fixed_part(test_images).parts[max(0, len(folders) - image_ids.count("/")) :]
    if "{path}" not in template or not named:
        return wanted
    key, whole = "competition.submission.id_template", "/".join([*named, "{path}"])
    others = [choice for choice in wanted.choices if choice.key != key]
    why = f"all test images lie in {'/'.join(named)}"
    return replace(wanted, choices=[*others, OptionChoice(key, template.replace("{path}", whole), why)])


def _differs(key: str, given: dict[str, object], options: dict[str, object]) -> bool:
    return options["codec"] == "rle" and key in given and given[key] != options.get(key, OPTIONS[key])


def _preset(columns: dict[str, str], given: dict[str, object], rows: str, word: str, sample: SampleSubmission) -> str:
    """The preset with the sample's columns that nothing in the labels contradicts; empty where there is none.

    `given`: order, base and relative of run-lengths in the labels. `rows`: what has a row of its own there: `image`,
    `class` or `object`. `word`: the content of all answer cells of the sample.
    """
    fitting = []
    for name, preset in PRESETS.items():
        options = {**OPTIONS, **DEFAULTS, **preset}
        relative, agrees = options["relative"], all(given[key] == options[key] for key in given)
        contradictions = [
            any(options[column] != columns[column] for column in SUBMISSION_COLUMNS),
            relative and given and not agrees,
            rows == "object" and not options["instances"] and not (relative and agrees),
            rows == "image" and options["instances"],
            bool(given) and options["codec"] != "rle",
            options["empty"] and word != options["empty"] and word and word.lower() in NOTHING,
            relative and not given and word != options["empty"],
            options["codec"] == "rle" and options["id_template"] != sample.form.template,
        ]
        if not any(contradictions):
            order = options["id_template"] != sample.form.template, options["empty"] != word, not agrees
            fitting.append((order, name))
    return min(fitting)[1] if fitting else ""


def _instances(
    form: FoundLabels, sample: SampleSubmission, options: dict[str, object], preset: str, notes: Notes
) -> list[OptionChoice]:
    """The choice of `submission.instances`: whether each object has a row of its own."""
    if options["codec"] != "rle" or not form.rows:
        return []
    repeated = sample.table[sample.id_column].duplicated().any() and not sample.class_column and not sample.form.classes
    default = bool(options.get("instances"))
    instances = bool(repeated) or (default if preset and form.rows == "object" else form.rows == "object")
    if instances and form.rows == "object" and not preset:
        notes.unsure.append(
            "whether an answer has a row for each object, as the labels have, or one for each image: a row for each "
            "object is written (submission.instances)"
        )
    why = f"as the labels: a row for each {'object' if instances else 'image'}"
    return choice_if(instances != default, "competition.submission.instances", instances, why)


def _as_labels(wanted: Wanted, labels: FoundLabels, notes: Notes) -> Wanted:
    """`wanted` for a folder without a sample: answers are files like the masks, or rows of a CSV like the labels."""
    answer = labels.answer
    if not answer:
        raise UserError(
            f"nothing shows how answers are written: there is no sample submission, and labels such as {labels.kind} "
            "are not a form of an answer; add the organiser's sample submission (a CSV with sample in its name)"
        )
    start, by_class = "competition.submission.", len(labels.classes) > 1 and answer["codec"] == "rle"
    if by_class and "class_column" not in answer and "{class}" not in str(answer.get("id_template", "")):
        answer = {**answer, "class_column": "class"}
    files = answer["codec"] != "rle"
    kind = f"a ZIP of files {answer['id_template']}" if files else "a CSV of run-lengths"
    polygons = any(choice.value == "polygons" for choice in labels.choices if choice.key.endswith(".format"))
    alike = "as masks; for polygons set id_template to {id}.geojson" if polygons else "like the labels"
    notes.unsure.append(
        f"what to submit: there is no sample submission, so answers are written {alike}: {kind} of all test images "
        "(competition.submission)"
    )
    if files and "palette" in answer:
        notes.unsure.append("what pixels of answers hold: the values or colours of the training masks are written")
    elif files and len(labels.classes) > 1:
        numbered = [f"{i + labels.background} {name}" for i, name in enumerate(labels.classes)]
        notes.unsure.append(
            f"which numbers stand for the classes in answers: {abbreviated(numbered, 12)} are written"
            + ("; for those of the masks set submission.palette to labels" * (not polygons))
        )
    choices = [OptionChoice(start + "sample", "", "there is none")]
    choices += [
        OptionChoice(start + key, value, "as the labels")
        for key, value in answer.items()
        if value != {**OPTIONS, **DEFAULTS}.get(key)
    ]
    return replace(wanted, choices=wanted.choices + choices, options={**DEFAULTS, **answer})


def _only_cell(table: pd.DataFrame, column: str) -> str:
    """The content of all cells of a column; empty where the cells differ."""
    cells = set(table[column]) if column else set()
    return cells.pop() if len(cells) == 1 else ""


def _word_for_empty(name: str, word: str, options: dict[str, object], notes: Notes) -> list[OptionChoice]:
    """The choice of `submission.empty`. `word`: the content of all answer cells of the sample `name`.

    It is chosen where it is a known word for "no object".
    """
    if options["codec"] != "rle" or not word or word == options.get("empty"):
        return []
    if word.lower() in NOTHING:
        return [OptionChoice("competition.submission.empty", word, "as the sample's cells")]
    notes.unsure.append(
        f"whether {word[:20]!r}, in all rows of {name}, means that there is no object: set submission.empty"
    )
    return []
