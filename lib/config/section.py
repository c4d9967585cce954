"""What a section of the configuration is: typed, immutable, no unknown keys, a docstring per field."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections. The string under a field is its documentation (`--help` prints it)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    affects: ClassVar[tuple[str, ...]] = ()
    """Stages that this section's options affect where they do not say otherwise (lib/config/affects.py)."""
