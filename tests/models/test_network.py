import pytest
import torch

from lib.config.load import load
from lib.config.training import Model, Train
from lib.errors import UserError
from lib.models.encoder_weights import package_file
from lib.models.network import build_network
from lib.models.outputs import probabilities
from lib.models.weight_files import load_network, save_weights, write_description
from lib.training.averaging import WeightAverage, update_bn
from lib.training.optimizers import build_optimizer


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
        (Model(architecture="unett"), "cannot build unett"),
        (Model(encoder="tu-nothing", weights="none"), "nothing"),
        (Model(weights="/no/such/file.pt"), "no file"),
        (Model(encoder="tu-resnet18", weights="package"), "no installed package"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_sentence(model, what):
    with pytest.raises(UserError, match=what):
        build_network(model, 1)


def test_frozen_modules_keep_weights_and_statistics_the_others_do_not():
    network = build_network(Model(weights="none"), 1)
    network.freeze(["encoder.model.conv_stem", "encoder.model.bn1"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = build_optimizer(Train(lr=0.1), network.train())
    network(torch.rand(2, 3, 64, 64) * 255).square().mean().backward()
    optimizer.step()
    average = WeightAverage(network).network(network)
    update_bn(average, [torch.rand(2, 3, 64, 64) * 255], "fp32")
    frozen = ("body.encoder.model.conv_stem", "body.encoder.model.bn1")
    for after in (network, average):
        same = {name: torch.equal(value, before[name]) for name, value in after.state_dict().items()}
        kept = [name for name in same if name.startswith(frozen)]
        assert len(kept) == 6 and all(same[name] for name in kept)
        moved = [name for name in same if not name.startswith(frozen) and "num_batches" not in name]
        assert not any(same[name] for name in moved if "running" in name or "conv" in name)
    with pytest.raises(UserError, match=r"train.frozen: the network has no module 'stem'; it has encoder, decoder"):
        network.freeze(["stem"])
    with pytest.raises(UserError, match="leave nothing to train"):
        network.freeze(["encoder", "decoder", "segmentation_head"])


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_network_is_loaded_with_the_activation_that_it_was_trained_with(multilabel, tmp_path):
    options = ["--model.architecture", "tiny", "--competition.classes", "[artery, vein]"]
    config = load(None, [*options, "--competition.multilabel", str(multilabel)])
    built = build_network(config.model, 2, multilabel=config.competition.multilabel).eval()
    save_weights(tmp_path / "last_weights.pt", built)
    write_description(tmp_path, config, 2)
    loaded = load_network(tmp_path, "last", torch.device("cpu"))
    assert (built.multilabel, loaded.multilabel) == (multilabel, multilabel)
    assert ("multilabel" in (tmp_path / "network.yaml").read_text()) == multilabel, "others are what they were"
    sums = probabilities(torch.full((1, 2, 1, 1), 3.0), loaded.multilabel).sum(1)
    assert sums.item() == pytest.approx(2 * 0.95257 if multilabel else 1, abs=1e-4)
