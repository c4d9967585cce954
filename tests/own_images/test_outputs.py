"""Files of one image of several classes, without networks."""

import numpy as np
import pytest
import tifffile

from lib.decision.decision import Decision
from lib.decision.objects.postprocess import Rule
from lib.inference.windows import Source
from lib.oof.codes import to_probs_u8
from lib.own_images.find import OwnImage
from lib.own_images.outputs import LabeledRows, OutputFolder, write_prediction

RULES = {"argmax": None, "objects": (None, Rule(low=90, high=120, area=9), Rule(low=100, high=130, area=4))}


@pytest.mark.parametrize("rules", RULES)
def test_several_classes_have_labels_and_a_band_of_probabilities_each(tmp_path, rules):
    probs = np.random.default_rng(1).dirichlet(np.full(3, 0.4), (40, 60)).transpose(2, 0, 1).astype(np.float32)
    decision = Decision(None, rules=RULES[rules])
    codes = decision.to_codes(probs[None])
    (expected,) = np.concatenate(list(decision.bands([codes])), axis=1)
    assert len(np.unique(expected)) == 3 and (rules == "argmax") == np.array_equal(expected, probs.argmax(0))
    image, about = OwnImage("a/b", tmp_path / "b.png"), {"made_from": {}, "labels": ["background", "x", "y"]}
    for kind, planes in (("tif", codes), ("probabilities", np.concatenate([codes, to_probs_u8(probs)]))):
        outputs, classes = OutputFolder(tmp_path, kind, overlay=False), len(planes) - len(codes)
        rows = LabeledRows(40, 60, ((y, planes[:, y : y + 16]) for y in range(0, 40, 16)), classes)
        write_prediction(image, Source("a/b", image.path), rows, decision, outputs, about)
    assert np.array_equal(tifffile.imread(tmp_path / "a/b.tif"), expected)
    assert np.array_equal(tifffile.imread(tmp_path / "a/b.probabilities.tif"), to_probs_u8(probs))
