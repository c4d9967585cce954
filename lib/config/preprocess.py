"""01: cutting huge images into tiles."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.section import Section

ROI_WORDS = ("none", "content", "coarse")  # of preprocess.roi and infer.roi: what is not a CSV


class Preprocess(Section):
    """How tiles are cut, and which are kept."""

    affects = ("tiles",)

    mode: Annotated[Literal["tiles", "resize"], Affects("tiles", "pseudo", "clean")] = "tiles"
    """How images become tiles: `tiles` cuts a sliding window, and `resize` shrinks each whole image to one tile of
    `tile_size`. Where `roi` is a CSV, `resize` shrinks each of its boxes, so that all objects have one size
    (`infer.roi` then names a CSV, too)."""
    tile_size: Annotated[int, Ge(32), Affects("tiles", "pseudo", "clean")] = 512
    """Side of a stored tile, in pixels after `scale`."""
    stride: Annotated[int, Ge(0)] = 0
    """Step between tiles, in pixels after `scale`: smaller than `tile_size`, tiles overlap. 0 for `tile_size`."""
    scale: Annotated[float, Gt(0), Interval(le=1), Affects("tiles", "pseudo", "clean")] = 1.0
    """Factor by which images are shrunk before they are stored: with 0.25, 1024 original pixels become 256."""
    fit: Annotated[Literal["letterbox", "stretch"], Affects("tiles", "pseudo", "clean")] = "letterbox"
    """How mode resize fits an image into a square: `letterbox` keeps the proportions and pads with a mirror image, and
    `stretch` does not."""
    roi: str = "content"
    """Where tiles are cut: `none` (everywhere), `content` (not on blank areas), or a CSV of boxes with columns
    `image_id,y,x,height,width` in original pixels. Tiles with object are also cut on blank areas. With
    `competition.background: false` blank areas have a class, too, and `content` means `none`."""
    blank_tolerance: Annotated[float, Ge(0), Affects("tiles", "score", "pseudo", "clean", "answer")] = 6.0
    """Difference to the blank colour, in grey levels, up to which a pixel counts as blank."""
    background_keep: Annotated[float, Interval(ge=0, le=1)] = 0.3
    """Share of the tiles without object that is kept, per image and stratified by contrast."""
    min_object_pixels: Annotated[int, Ge(1), Affects("tiles", "member", "pseudo")] = 1
    """Object pixels, as stored, from which a tile counts as a tile with object."""
    image_format: Annotated[Literal["png", "bmp", "jpg"], Affects("tiles", "pseudo", "clean")] = "png"
    """File format of stored tiles: `png` and `bmp` are lossless, and `jpg` has quality 95. BMP is read about ten times
    as fast as PNG and takes two to three times the disk space."""

    max_images: Annotated[int, Ge(0)] = 0
    """Use only this many images of each split, spread evenly over the list; 0 for all."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.stride > self.tile_size:
            raise ValueError(
                f"preprocess.stride {self.stride} is larger than tile_size {self.tile_size}: "
                "pixels between tiles would never be seen; lower it"
            )
        return self
