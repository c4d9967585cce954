import pytest
import torch

from lib.config.training import Model
from lib.errors import UserError
from lib.training.model import build_network, package_file


def test_the_shipped_imagenet_weights_reach_every_encoder_tensor():
    assert package_file("tf_efficientnet_lite0").is_file()
    random, trained = (build_network(Model(weights=w), 2) for w in ("none", "package"))
    before, after = random.body.encoder.state_dict(), trained.body.encoder.state_dict()
    touched = [k for k in before if before[k].ndim > 1 and not torch.equal(before[k], after[k])]
    assert len(touched) == sum(v.ndim > 1 for v in before.values()) > 40
    assert trained(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape == (1, 2, 64, 96)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (Model(architecture="unett"), "unett"),
        (Model(encoder="tu-nothing", weights="none"), "nothing"),
        (Model(weights="/no/such/file.pt"), "no file"),
        (Model(encoder="tu-resnet18", weights="package"), "no installed package"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_sentence(model, what):
    with pytest.raises(UserError, match=what):
        build_network(model, 1)
