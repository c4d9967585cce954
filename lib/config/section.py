"""What a section of the configuration is: typed, immutable, no unknown keys, a docstring per field."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections. The string under a field is its documentation (`--help` prints it)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    affects: ClassVar[tuple[str, ...]] = ()
    """Stages that this section's options affect where they do not say otherwise (lib/config/affects.py)."""
    ordered: ClassVar[bool] = False
    """Whether a list of such sections in another order means something else."""


def is_section(annotation: object) -> bool:
    """Whether a field of this type is a section of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def flat(section: BaseModel, prefix: str = "") -> dict[str, object]:
    """All options as one dictionary with dotted names.

    >>> class Folds(Section):
    ...     k: int = 5
    >>> class Settings(Section):
    ...     folds: Folds = Folds()
    ...     jobs: int = 0
    >>> flat(Settings())
    {'folds.k': 5, 'jobs': 0}
    """
    options: dict[str, object] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            options.update(flat(value, f"{prefix}{name}."))
        else:
            options[prefix + name] = value
    return options
