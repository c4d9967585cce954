"""Every kind of network that people ask for: built, trained one step, saved, loaded, and asked for a mask."""

import pytest
import timm
import torch

from lib.config import Config
from lib.config.training import Model, Train
from lib.errors import UserError
from lib.inference.backends.engines import EAGER
from lib.models.encoder_weights import plain_name
from lib.models.network import build_network
from lib.models.weight_files import load_network, save_weights, write_description
from lib.training.distributed import unused_parameters
from lib.training.optimizers import build_optimizer, encoder_stages

CPU = torch.device("cpu")
KINDS = [
    ("unet", "tu-convnext_atto"),
    ("unet", "tu-swin_tiny_patch4_window7_224"),
    ("unet", "tu-maxvit_pico_rw_256"),
    ("unet", "mit_b0"),
    ("unet", "tu-tf_efficientnetv2_b0"),
    ("unet", "tu-hrnet_w18_small"),
    ("dpt", "tu-vit_tiny_patch16_224"),
    ("unetplusplus", "tu-resnet10t"),
    ("fpn", "tu-resnet10t"),
    ("upernet", "tu-resnet10t"),
    ("segformer", "mit_b0"),
    ("deeplabv3plus", "tu-resnet10t"),
    ("pan", "tu-resnet10t"),
    ("manet", "tu-resnet10t"),
    ("pspnet", "tu-resnet10t"),
    ("linknet", "tu-resnet10t"),
]


@pytest.mark.parametrize(("architecture", "encoder"), KINDS)
def test_a_network_is_built_trained_saved_loaded_and_predicts(architecture, encoder, tmp_path):
    torch.manual_seed(0)
    config = Config(model=Model(architecture=architecture, encoder=encoder, weights="none"))
    network = build_network(config.model, 2)
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = build_optimizer(Train(lr=1e-4, encoder_lr=0.5, layer_decay=0.8), network)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)
    images = torch.randint(0, 256, (2, 3, 130, 136), dtype=torch.uint8)  # no multiples of 32
    network.train()(images).square().mean().backward()
    optimizer.step()
    moved = [name for name, value in network.named_parameters() if not torch.equal(value, before[name])]
    assert any(".encoder." in f".{name}" for name in moved) and any("segmentation_head" in name for name in moved)

    save_weights(tmp_path / "last_weights.pt", network)
    write_description(tmp_path, config, 2)
    loaded = load_network(tmp_path, "last", CPU)
    with torch.inference_mode():
        wanted = network.eval()(images).sigmoid()
        found = EAGER.build(loaded, CPU)(images.float()).sigmoid()
    assert found.shape == (2, 2, 130, 136)
    assert (found - wanted).abs().max() < 0.01  # weights are saved in half precision


@pytest.mark.parametrize(
    "encoder",
    ["convnext_atto", "edgenext_xx_small", "maxvit_pico_rw_256", "swin_tiny_patch4_window7_224", "hrnet_w18_small"],
)
def test_a_local_file_of_timm_reaches_every_tensor_of_the_encoder(encoder, tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model(encoder, pretrained=False).state_dict()
    whole = {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in whole.items()}
    torch.save({"state_dict": whole}, tmp_path / "weights.pt")
    model = Model(encoder=f"tu-{encoder}", weights=str(tmp_path / "weights.pt"))
    saved = {plain_name(name): value for name, value in whole.items()}
    state = build_network(model, 1).body.encoder.state_dict()
    assert len(state) > 50
    for name, value in state.items():
        assert torch.equal(value, saved[plain_name(name.removeprefix("model."))]), name


def test_weights_of_another_input_size_are_resized(tmp_path):
    whole = timm.create_model("maxvit_pico_rw_256", pretrained=False)
    tables = [name for name, _ in whole.named_parameters() if name.endswith("relative_position_bias_table")]
    for name in tables:
        torch.nn.init.constant_(whole.get_parameter(name), 3.0)
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    options = {"img_size": 128}
    model = Model(encoder="tu-maxvit_pico_rw_256", weights=str(tmp_path / "weights.pt"), options=options)
    network = build_network(model, 1)
    assert network.multiple == 128  # windows of 4 at stride 32, and not of 8
    state = network.body.encoder.state_dict()
    resized = [value for name, value in state.items() if name.endswith("relative_position_bias_table")]
    assert len(resized) == len(tables) > 4
    for value in resized:
        assert value.shape[0] == 7 * 7
        torch.testing.assert_close(value, torch.full_like(value, 3.0))


def test_an_image_is_grown_to_what_the_network_takes_and_the_mask_is_cut_back():
    torch.manual_seed(0)
    network = build_network(Model(architecture="fpn", encoder="tu-resnet10t", weights="none"), 1).eval()
    image = torch.randint(0, 256, (1, 3, 70, 64), dtype=torch.uint8)
    grown = torch.cat([image, image[:, :, -1:].expand(-1, -1, 26, -1)], 2)
    with torch.inference_mode():
        assert torch.equal(network(image), network(grown)[:, :, :70])


@pytest.mark.parametrize("damage", ["another encoder", "cut short", "no weights", "one tensor lost"])
def test_a_weight_file_that_does_not_fit_is_one_sentence(damage, tmp_path):
    path = tmp_path / "weights.pt"
    state = timm.create_model("resnet10t", pretrained=False).state_dict()
    if damage == "one tensor lost":
        del state["layer3.0.conv1.weight"]
    torch.save({"epoch": 3} if damage == "no weights" else state, path)
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:5000])
    encoder = "tu-convnext_atto" if damage == "another encoder" else "tu-resnet10t"
    what = {
        "another encoder": r"weights\.pt does not fit the encoder: .* is not in it",
        "cut short": r"weights\.pt cannot be read as weights",
        "no weights": r"weights\.pt holds no named tensors",
        "one tensor lost": r"does not fit the encoder: model\.layer3\.0\.conv1\.weight .* is not in it",
    }[damage]
    with pytest.raises(UserError, match=what):
        build_network(Model(encoder=encoder, weights=str(path)), 1)


def test_what_the_library_cannot_build_is_one_sentence():
    for model, what in [
        (Model(architecture="unet", encoder="tu-vit_tiny_patch16_224", weights="none"), "cannot build unet around"),
        (Model(architecture="fpn", weights="none", options={"no_such": 1}), "model.options {'no_such': 1}"),
        (Model(architecture="dpt", encoder="resnet18", weights="none"), "cannot build dpt"),
    ]:
        with pytest.raises(UserError, match=what):
            build_network(model, 1)


@pytest.mark.parametrize("options", [{"decoder_channels": [32, 16, 16, 8]}, {"architecture": "pspnet"}])
def test_parameters_that_a_real_network_does_not_use_are_found_for_several_processes(options):
    """The default encoder's last blocks are behind what these decoders look at."""
    network = build_network(Model(weights="none", **options), 1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)

    def unused() -> list[str]:
        return unused_parameters(network, lambda net: net(images).square().mean())

    found = unused()
    assert found and all(".encoder." in name for name in found)
    for name in found:
        network.get_parameter(name).requires_grad_(False)
    assert unused() == []


def test_every_stage_of_a_vit_has_a_rate_of_its_own():
    network = build_network(Model(architecture="dpt", encoder="tu-vit_tiny_patch16_224", weights="none"), 1)
    stages = encoder_stages(name for name, _ in network.named_parameters())
    by_part = {part: {stage for name, stage in stages.items() if part in name} for part in ("pos_embed", "blocks.0.")}
    assert by_part["pos_embed"] == {0} and len(by_part["blocks.0."]) == 1 and by_part["blocks.0."] != {0}
