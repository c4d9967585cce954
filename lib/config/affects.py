"""Which stages an option affects, and the options of a stage: what its manifest holds and what makes it run again.

A section's `affects` names the stages that all of its options affect; `Affects` at a field says otherwise:

    overlap: Annotated[float, Interval(ge=0, lt=1), Affects("score", "pseudo", "clean", "answer")] = 0.5
    batch_bar: Annotated[bool, Affects()] = True  # affects no stage
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lib.config.section import is_section

STAGES = {
    "tiles": "01_preprocess",
    "folds": "02_make_folds",
    "member": "03_*",
    "score": "scores/*",
    "pseudo": "04_pseudo_label_round*",
    "clean": "04_clean",
    "answer": "05_infer_ensemble",
    "report": "05_report",
}
"""What options affect -> the names of its manifests."""


class Affects:
    """Which of `STAGES` read an option. `when(config)`: whether they do at all; always, if nothing is said.

    Options that `when` looks at affect the same stages themselves: what they switch is noted with them.
    """

    def __init__(self, *stages: str, when: Callable[[BaseModel], bool] | None = None):
        unknown = set(stages) - set(STAGES)
        if unknown:
            raise ValueError(f"Affects: {sorted(unknown)[0]!r} is not one of {', '.join(STAGES)}")
        self.stages, self.when = stages, when


def settings_of(config: BaseModel, stage: str) -> dict[str, object]:
    """The options that a stage reads, as `{"train.lr": 0.001, ...}`; of a list of sections as `<list>.<name>.<option>`.

    An option that another one switches off is left out.
    """
    every = _options(config, "", ())
    return {key: value for key, value, affects in every if _reads(affects, stage, config)}


def default_of(key: str, root: type[BaseModel]) -> object:
    """The default of an option by its dotted name, as `settings_of` writes it; None for what has none."""
    parts, section = key.split("."), root
    while parts:
        field = section.model_fields.get(parts.pop(0))
        if field is None:
            return None
        if not parts:
            return None if field.default is PydanticUndefined else field.default
        inner = _section_in(field)
        if inner is None:
            return None
        if get_origin(field.annotation) in (list, tuple):
            parts.pop(0)  # the item's name
        section = inner
    return None


def _reads(affects: tuple[Affects, ...], stage: str, config: BaseModel) -> bool:
    return any(stage in one.stages and (one.when is None or one.when(config)) for one in affects)


def _options(section: BaseModel, prefix: str, outer: tuple[Affects, ...]) -> Iterator[tuple[str, object, tuple]]:
    """(dotted name, value, what it affects) of every option; `outer`: said where the section is a field."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        said = tuple(one for one in field.metadata if isinstance(one, Affects)) or outer
        if isinstance(value, BaseModel):
            yield from _options(value, f"{prefix}{name}.", said)
        elif isinstance(value, list | tuple) and value and all(isinstance(item, BaseModel) for item in value):
            if value[0].ordered:
                yield prefix + name, [item.name for item in value], said or (Affects(*section.affects),)
            for item in value:
                yield from _options(item, f"{prefix}{name}.{item.name}.", said)
        else:
            yield prefix + name, value, said or (Affects(*section.affects),)


def _section_in(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds: itself, or an item of its list, or one that may be None."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in kinds if is_section(kind)), None)
