"""01: cutting huge images into tiles."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.section import Section
from lib.config.units import Column

ROI_WORDS = ("none", "content", "coarse")  # of preprocess.roi and infer.roi: what is not a CSV


class Preprocess(Section):
    """How tiles are cut, and which are kept."""

    affects = ("tiles",)

    mode: Annotated[Literal["tiles", "resize"], Affects("tiles", "pseudo", "clean")] = "tiles"
    """How images become tiles: `tiles` cuts a sliding window, and `resize` shrinks each whole image to one tile of
    `tile_size`. Where `roi` is a CSV, `resize` shrinks each of its boxes, so that all objects have one size
    (`infer.roi` then names a CSV, too)."""
    tile_size: Annotated[int, Interval(ge=32, le=65_536), Affects("tiles", "pseudo", "clean")] = 512
    """Side of a stored tile, in pixels after `scale`."""
    stride: Annotated[int, Ge(0)] = 0
    """Step between tiles, in pixels after `scale`: smaller than `tile_size`, tiles overlap. 0 for `tile_size`."""
    scale: Annotated[float, Gt(0), Interval(le=4), Affects("tiles", "pseudo", "clean")] = 1.0
    """Factor by which images are resized before they are stored: with 0.25, 1024 original pixels become 256. Above 1,
    up to 4, images are enlarged (linearly), which helps where objects are a few pixels wide; predictions are averaged
    back to the image's own pixels."""
    pixel_size_column: Annotated[Column, Affects("tiles", "score", "pseudo", "clean", "answer")] = ""
    """Column of `competition.metadata` that says how long a pixel of each image is, in any unit; empty where all images
    show things equally large. Set `target_pixel_size`, too. Test images need a row as well."""
    target_pixel_size: Annotated[float, Ge(0), Affects("tiles", "score", "pseudo", "clean", "answer")] = 0.0
    """Length of a pixel, in the unit of `pixel_size_column`, at which all images are read; `scale` comes on top."""
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
    image_format: Annotated[Literal["png", "bmp", "jpg", "npy"], Affects("tiles", "pseudo", "clean")] = "png"
    """File format of stored tiles: `png` and `bmp` are lossless, and `jpg` has quality 95. BMP is read about ten times
    as fast as PNG and takes two to three times the disk space. `npy`, an array of NumPy, holds any channels of 8 or 16
    bits, so it takes the place of `png` and `bmp` where `competition.pixels.channels` makes others than three of 8
    bits."""

    max_images: Annotated[int, Ge(0)] = 0
    """Use only this many images of each split, spread evenly over the list; 0 for all."""

    @model_validator(mode="after")
    def _consistent(self):
        if bool(self.pixel_size_column) != (self.target_pixel_size > 0):
            raise ValueError(
                f"preprocess.pixel_size_column is {self.pixel_size_column!r} and target_pixel_size "
                f"{self.target_pixel_size:g}; set both (as in pixel_size_um and 0.4), or none of them"
            )
        if self.pixel_size_column and self.mode == "resize":
            raise ValueError(
                "preprocess.mode resize gives all images one size, whatever their pixel size; leave pixel_size_column "
                "and target_pixel_size out, or set mode to tiles"
            )
        if self.stride > self.tile_size:
            raise ValueError(
                f"preprocess.stride {self.stride} is larger than tile_size {self.tile_size}: "
                "pixels between tiles would never be seen; lower it"
            )
        return self
