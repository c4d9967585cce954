"""What a section of the configuration is: typed, immutable, no unknown keys, a docstring per field."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections. The string under a field is its documentation (`--help` prints it)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)
