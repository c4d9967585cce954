"""Known competitions: how their answers are written, and how their organisers score them.

`Preset.submission` holds the options of `competition.submission` that differ from the defaults: one row per image,
`id,predicted`, column-major, first pixel 1, nothing for an empty mask. The rest is the metric, with the organiser's own
words for it. `competition.submission.preset` makes all of these the defaults; what a user writes wins.
"""

from dataclasses import dataclass, field

_DICE = "The Dice coefficient is defined to be 1 when both X and Y are empty. The leaderboard score is the mean of "
_IMAGES = f"{_DICE}the Dice coefficients for each image in the test set."


@dataclass(frozen=True)
class Preset:
    """One competition. `rule`: the organiser's words (or formula) for the metric; `source`: where they stand."""

    metric: str
    """`competition.metric`."""
    rule: str
    source: str
    submission: dict[str, object] = field(default_factory=dict)
    """Options of `competition.submission`."""
    scoring: dict[str, object] = field(default_factory=dict)
    """Options of `competition.scoring`."""
    score_background: bool = False
    """`competition.score_background`."""
    multilabel: bool = False
    """`competition.multilabel`."""


COMPETITIONS: dict[str, Preset] = {
    "hubmap2021": Preset("mean_dice", _IMAGES, "kaggle.com/c/hubmap-kidney-segmentation, Evaluation"),
    "hubmap2022": Preset(
        "mean_dice", _IMAGES, "kaggle.com/c/hubmap-organ-segmentation, Evaluation", {"rle_column": "rle"}
    ),
    "severstal": Preset(
        "mean_dice",
        f"{_DICE}the Dice coefficients for each <ImageId, ClassId> pair in the test set.",
        "kaggle.com/c/severstal-steel-defect-detection, Evaluation",
        {"id_column": "ImageId_ClassId", "id_template": "{id}.jpg_{class}", "rle_column": "EncodedPixels"},
    ),
    "clouds": Preset(
        "mean_dice",
        f"{_DICE}the Dice coefficients for each <Image, Label> pair in the test set.",
        "kaggle.com/c/understanding_cloud_organization, Evaluation",
        {
            "id_column": "Image_Label", "id_template": "{id}.jpg_{class}", "rle_column": "EncodedPixels",
            "size": (350, 525), "overlap": True,
        },
        multilabel=True,
    ),
    "airbus": Preset(
        "airbus_f2",
        "F2(t) = 5 TP(t) / (5 TP(t) + 4 FN(t) + FP(t)) [...] calculated as the mean of the above F2 Score values at "
        "each IoU threshold [...] the mean taken over the individual average F2 Scores of each image in the test "
        "dataset. (0 / 0, an image without ship that is found to have none, counts 1.)",
        "kaggle.com/c/airbus-ship-detection, Evaluation",
        {"id_column": "ImageId", "id_template": "{id}.jpg", "rle_column": "EncodedPixels", "instances": True},
    ),
    "carvana": Preset(
        "mean_dice", _IMAGES, "kaggle.com/c/carvana-image-masking-challenge, Evaluation",
        {"id_column": "img", "id_template": "{id}.jpg", "rle_column": "rle_mask", "order": "row"},
    ),
    "tgs": Preset(
        "iou_precision",
        "the mean average precision at different intersection over union (IoU) thresholds [...] 0.5 to 0.95 with a "
        "step size of 0.05 [...] a hit if its intersection over union with a ground truth object is greater than 0.5. "
        "(An image has one object at most, its mask: the precision is 1 or 0 at each threshold, and 1 where neither "
        "side has an object.)",
        "kaggle.com/c/tgs-salt-identification-challenge, Evaluation",
        {"rle_column": "rle_mask"},
    ),
    "siim": Preset(
        "mean_dice", _IMAGES, "kaggle.com/c/siim-acr-pneumothorax-segmentation, Evaluation",
        {"id_column": "ImageId", "rle_column": "EncodedPixels", "base": 0, "relative": True, "empty": "-1"},
    ),
    "uw_madison": Preset(
        "mean_dice",
        "mean Dice coefficient and 3D Hausdorff distance [...] The Dice coefficient is defined to be 0 when both X and "
        "Y are empty. (0.4 of the score is Dice, for each image and class; 0.6 the distance, which is not made here.)",
        "kaggle.com/c/uw-madison-gi-tract-image-segmentation, Evaluation",
        {"class_column": "class", "order": "row", "overlap": True},
        {"empty": "zero"},
        multilabel=True,
    ),
    "sennet": Preset(
        "surface_dice",
        "Surface Dice metric with a tolerance of 0.0. (3-D, of whole kidneys, voxels of 1 x 1 x 1; each leaderboard "
        "has one kidney, so that a mean over kidneys and their pooled surface are the same.)",
        "kaggle.com/c/blood-vessel-segmentation, Evaluation; github.com/google-deepmind/surface-distance",
        {"rle_column": "rle", "order": "row", "empty": "1 0"},
    ),
    "contrails": Preset(
        "dice",
        "the global Dice coefficient [...] X is the entire set of predicted contrail pixels for all observations in "
        "the test data and Y is the ground truth set of all contrail pixels in the test data.",
        "kaggle.com/c/google-research-identify-contrails-reduce-global-warming, Evaluation",
        {"id_column": "record_id", "rle_column": "encoded_pixels", "empty": "-"},
    ),
    "boostcamp_trash": Preset(
        "mean_iou",
        "mIoU of 11 classes, background included: diag(hist) / (hist.sum(1) + hist.sum(0) - diag(hist)) of one "
        "histogram of all test pixels, np.nanmean over classes, so that a class that occurs nowhere is left out.",
        "Boostcamp AI Tech, semantic segmentation of recyclables: label_accuracy_score of the organiser's baseline",
        {
            "codec": "pixels", "id_column": "image_id", "id_template": "{path}.jpg", "rle_column": "PredictionString",
            "size": (256, 256),
        },
        score_background=True,
    ),
    "boostcamp_handbone": Preset(
        "mean_dice",
        "(2 * intersection + eps) / (sum of the truth + sum of the prediction + eps) with eps = 1e-4, the mean over "
        "the 29 classes and all test images. (Where neither side has a class, it counts 1.)",
        "Boostcamp AI Tech, hand bone image segmentation: dice_coef of the organiser's baseline",
        {
            "id_column": "image_name", "id_template": "{id}.png", "class_column": "class", "rle_column": "rle",
            "order": "row", "overlap": True,
        },
        multilabel=True,
    ),
    "epfl_roads": Preset(
        "f_beta",
        "F1 of the patches of all test images; a patch of 16 x 16 pixels is road when more than 0.25 of it are.",
        "aicrowd.com/challenges/epfl-ml-road-segmentation; mask_to_submission.py of the organiser",
        {
            "codec": "patches", "id_template": "{number:03}_{x}_{y}", "rle_column": "prediction", "patch": 16,
            "patch_share": 0.25,
        },
    ),
    # DrivenData scores its competitions differently. The metric here is that of the floods (STAC Overflow) and the
    # clouds (On Cloud N); Kelp Wanted needs `competition.metric: dice` beside the preset.
    "drivendata": Preset(
        "iou",
        "the sum of the intersection of water pixels divided by the sum of the union of water pixels across all images",
        "community.drivendata.org/t/evaluation-metric-clarification/6369 (floods; clouds alike; kelp: metric dice)",
        {"codec": "tif", "sample": "", "id_template": "{id}.tif"},
    ),
    "inria": Preset(
        "iou",
        "Intersection over union (IoU) of the positive (building) class [...] also for the overall test set.",
        "project.inria.fr/aerialimagelabeling/contest",
        {"codec": "tif", "sample": "", "id_template": "{id}.tif", "object_value": 255},
    ),
}  # fmt: skip

PRESETS: dict[str, dict[str, object]] = {name: preset.submission for name, preset in COMPETITIONS.items()}
"""The options of `competition.submission` alone."""
