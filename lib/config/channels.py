"""One channel of the network's input: where its values come from, and how they are scaled."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from pydantic import StringConstraints, model_validator

from lib.config.affects import Affects
from lib.config.formula import FUNCTIONS, parsed_formula
from lib.config.section import Section

Scaling = Literal["quantiles", "mean_std", "type", "image", "stack"]
RANGE_WORDS = "two rising values are expected: [0, 4095]"


class Channel(Section):
    """One channel that networks see. A text alone, `B08`, means `{name: B08, file: B08}`."""

    affects = ("tiles",)
    ordered: ClassVar[bool] = True

    name: Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
    """Name of the channel, in formulas, `colours` and `show`: letters, digits, `_`, `-` and dots."""
    file: str = ""
    """The file that holds the channel. How its name ends, without suffix, where the image's own name ends otherwise:
    `B08` beside `chip_B02.tif` is `chip_B08.tif` (the globs of images match the first such ending). With a `/`, or
    `{stem}` for the name of the image without suffix: a path relative to the image's folder, `../nir/{stem}.png`. With
    an arrow: texts in the path and what stands for them, `pre_disaster -> post_disaster`. Empty: the image's own file,
    or, of a channel that has a name alone, the ending `name`."""
    band: Annotated[int, Ge(0)] | None = None
    """The band (channel, page) of the file that is read, counted from 0. Left out for the first."""
    dataset: str = ""
    """The array inside an HDF5 or Zarr file, where it holds several: `images/ct`. Empty: that of
    `competition.pixels.dataset`."""
    slice: int = 0
    """How many slices of the stack later, or earlier (-1), the channel is read: see `competition.pixels.stack`."""
    formula: str = ""
    """Computes the channel from others: `(nir - red) / (nir + red)`. It may hold numbers, names of channels that are
    read from files, `+ - * /`, parentheses, `min`, `max`, `abs`, `sqrt` and `log`. Values that are not finite, as after
    a division by zero, are nodata."""
    range: tuple[float, ...] = ()
    """The two values that become the darkest and the brightest that networks see, `[0, 10000]`; values outside are
    clipped. Empty: as `scaling` says."""
    scaling: Scaling | Literal[""] = ""
    """How the channel's range is found; empty for `competition.pixels.scaling`."""
    nodata: float | None = None
    """The value of pixels that were not measured. Left out: that of `competition.pixels.nodata`, else what the file
    says."""
    input: bool = True
    """Set it to `false` for a channel that is only used in formulas."""
    fitted: Annotated[tuple[float, ...], Affects()] = ()
    """The range that 01 fitted. It is filled in from the workspace; leave it out."""
    fitted_bits: Annotated[Literal[0, 8, 16], Affects()] = 0
    """Whether the files that 01 fitted it on have 8 bits or more (16). It is filled in, too; leave it out."""

    @property
    def limits(self) -> tuple[float, ...]:
        """The range, given or fitted; empty where it is neither."""
        return self.range or self.fitted

    @property
    def ending(self) -> str:
        """How the name of the channel's file ends, where it is named by its ending; else empty."""
        return "" if any(mark in self.file for mark in ("/", "{", "->")) else self.file

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, values: object):
        if isinstance(values, str):
            values = {"name": values}
        if isinstance(values, dict) and not any(
            values.get(key) not in ("", None) for key in ("file", "band", "dataset", "formula")
        ):
            return {**values, "file": values.get("name", "")}
        return values

    @model_validator(mode="after")
    def _consistent(self):
        where = f"competition.pixels.channels {self.name}"
        if self.range and (len(self.range) != 2 or self.range[0] >= self.range[1]):
            raise ValueError(f"{where}: range is {list(self.range)}; {RANGE_WORDS}")
        if self.name in FUNCTIONS:
            raise ValueError(f"{where}: {self.name!r} is a function of formulas; give the channel another name")
        if self.formula:
            of_files = ("file", "band", "dataset", "slice", "nodata")
            read = [key for key in of_files if getattr(self, key) != type(self).model_fields[key].default]
            if read:
                raise ValueError(f"{where} has a formula and {read[0]}; a channel is read or computed: leave one out")
            try:
                parsed_formula(self.formula)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        holes = self.file.replace("{stem}", "")
        if "{" in holes or "}" in holes:
            raise ValueError(f"{where}: file is {self.file!r}; the only placeholder is {{stem}}")
        if self.file.count("->") > 1 or ("->" in self.file and not self.file.split("->")[0].strip()):
            raise ValueError(f"{where}: file is {self.file!r}; write one arrow, as in pre_disaster -> post_disaster")
        return self
