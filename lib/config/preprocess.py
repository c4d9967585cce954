"""01: cutting huge images into tiles."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.section import Section

ROI_WORDS = ("none", "content", "coarse")  # of preprocess.roi and infer.roi: what is no CSV


class Preprocess(Section):
    """How tiles are cut, and which are kept."""

    affects = ("tiles",)

    mode: Annotated[Literal["tiles", "resize"], Affects("tiles", "pseudo", "clean")] = "tiles"
    """`tiles` cuts a sliding window; `resize` shrinks each whole image to one tile of `tile_size`, or, where `roi` is a
    CSV, each of its boxes: objects, one at a time and all of one size (`infer.roi` names a CSV too)."""
    tile_size: Annotated[int, Ge(32), Affects("tiles", "pseudo", "clean")] = 512
    """Side of a tile as stored, in pixels after `scale`."""
    stride: Annotated[int, Ge(0)] = 0
    """Step between tiles in the same pixels; smaller than `tile_size` overlaps; 0 means `tile_size`."""
    scale: Annotated[float, Gt(0), Interval(le=1), Affects("tiles", "pseudo", "clean")] = 1.0
    """Read at full resolution, store this many times smaller (0.25: a 1024 window becomes 256)."""
    fit: Annotated[Literal["letterbox", "stretch"], Affects("tiles", "pseudo", "clean")] = "letterbox"
    """Mode resize: keep the proportions and pad with a mirror image, or stretch."""
    roi: str = "content"
    """Where tiles are cut: `none` (everywhere), `content` (not on blank areas), or a CSV of boxes
    with columns `image_id,y,x,height,width` in original pixels. Tiles with object are cut on blank areas, too. With
    `competition.background: false` blank areas have a class, too, and `content` means `none`."""
    blank_tolerance: Annotated[float, Ge(0), Affects("tiles", "score", "pseudo", "clean", "answer")] = 6.0
    """How far (grey levels) a pixel may be from the blank colour and still be blank."""
    background_keep: Annotated[float, Interval(ge=0, le=1)] = 0.3
    """Share of the tiles without object that is kept, per image and stratified by contrast."""
    min_object_pixels: Annotated[int, Ge(1), Affects("tiles", "member", "pseudo")] = 1
    """Object pixels (as stored) that make a tile a foreground tile."""
    image_format: Annotated[Literal["png", "bmp", "jpg"], Affects("tiles", "pseudo", "clean")] = "png"
    """Storage of tiles: lossless, as well but read some ten times as fast from two to three times the disk, or JPEG at
    quality 95."""

    max_images: Annotated[int, Ge(0)] = 0
    """Use only this many images of each split, spread evenly over the list; 0 means all."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.stride > self.tile_size:
            raise ValueError(
                f"preprocess.stride {self.stride} is larger than tile_size {self.tile_size}: "
                "pixels between tiles would never be seen; lower it"
            )
        return self
