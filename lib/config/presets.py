"""Submission formats of known competitions: options of `competition.submission` that differ from their defaults.

The defaults: one row per image, `id,predicted`, column-major, first pixel 1, nothing for an empty mask.
"""

PRESETS: dict[str, dict[str, object]] = {
    "hubmap2021": {},
    "hubmap2022": {"rle_column": "rle"},
    "severstal": {"id_column": "ImageId_ClassId", "id_template": "{id}.jpg_{class}", "rle_column": "EncodedPixels"},
    "clouds": {
        "id_column": "Image_Label", "id_template": "{id}.jpg_{class}", "rle_column": "EncodedPixels",
        "size": (350, 525), "overlap": True,
    },
    "airbus": {
        "id_column": "ImageId", "id_template": "{id}.jpg", "rle_column": "EncodedPixels", "instances": True,
    },
    "carvana": {"id_column": "img", "id_template": "{id}.jpg", "rle_column": "rle_mask", "order": "row"},
    "tgs": {"rle_column": "rle_mask"},
    "siim": {
        "id_column": "ImageId", "rle_column": "EncodedPixels", "base": 0, "relative": True, "empty": "-1",
    },
    "uw_madison": {"class_column": "class", "order": "row", "overlap": True},
    "sennet": {"rle_column": "rle", "order": "row", "empty": "1 0"},
    "contrails": {"id_column": "record_id", "rle_column": "encoded_pixels", "empty": "-"},
    "boostcamp_trash": {
        "codec": "pixels", "id_column": "image_id", "id_template": "{id}.jpg", "rle_column": "PredictionString",
        "size": (256, 256),
    },
    "epfl_roads": {
        "codec": "patches", "id_template": "{number:03}_{x}_{y}", "rle_column": "prediction", "patch": 16,
        "patch_share": 0.25,
    },
    "drivendata": {"codec": "tif", "sample": "", "id_template": "{id}.tif"},
    "inria": {"codec": "tif", "sample": "", "id_template": "{id}.tif", "object_value": 255},
}  # fmt: skip
