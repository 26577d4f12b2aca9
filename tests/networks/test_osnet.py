"""OSNet has the released names, shapes and costs, gives what a slow version gives, and takes part in everything a backbone does."""

from __future__ import annotations

import logging
from functools import cache

import onnxruntime
import pytest
import pytorch_lightning as pl
import timm
import torch
from released_osnet import released, released_shapes, slow_embedding, slow_map
from torch import nn

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.inference import crop_embedder
from lightning_reid.inference.capture import PixelEmbedder
from lightning_reid.inference.onnx_export import onnx_content
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import EmbeddingNetwork, build_backbone, count_multiply_adds, load_embedding_network
from lightning_reid.networks.channels.groups import find_channel_groups
from lightning_reid.networks.foreign import load_foreign_state_dict
from lightning_reid.networks.front import front_modules
from lightning_reid.networks.omni_scale import ChannelGate, OSBlock
from lightning_reid.networks.osnet import WIDTHS
from lightning_reid.networks.reduced_embedding import ReducedEmbeddingNetwork
from lightning_reid.networks.repeated_blocks import repeated_blocks

AIN = "osnet_ain_x1_0"
IMAGES = torch.randn(2, 3, 70, 45, generator=torch.Generator().manual_seed(1))  # no multiples of 16: every rounding counts


@pytest.fixture(scope="module", params=["osnet_x0_25", AIN])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def file(name, tmp_path_factory):
    """A file as torchreid's ``save_checkpoint`` writes it, of a network trained on several GPUs."""
    path = tmp_path_factory.mktemp("released") / f"{name}_market1501.pth"
    state = {f"module.{key}": tensor for key, tensor in released(WIDTHS[name], ain=name == AIN).items()}
    torch.save({"state_dict": state, "epoch": 150, "rank1": 0.94}, path)
    return path


@cache
def embedding_network(name: str) -> ReducedEmbeddingNetwork:
    """A network without numbers, as long as it is only looked at."""
    with torch.device("meta"):
        return ReducedEmbeddingNetwork(build_backbone(name))


@cache
def costs(name: str) -> tuple[int, int]:
    """Parameters, and multiply-adds at 256 x 128."""
    network = embedding_network(name)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, count_multiply_adds(network.backbone, (1, 3, 256, 128)).total + network.pooling.fc[0].weight.numel()


@pytest.mark.parametrize(
    ("name", "millions", "multiply_adds"),
    [("osnet_x1_0", 2.2, 978.9), ("osnet_x0_75", 1.3, 571.8), ("osnet_x0_5", 0.6, 272.9), ("osnet_x0_25", 0.2, 82.3), (AIN, 2.2, 978.9)],
)
def test_costs_are_the_published_ones(name, millions, multiply_adds):
    assert [round(cost / 1e6, 1) for cost in costs(name)] == [millions, multiply_adds]


@pytest.mark.parametrize(
    ("name", "printed"),
    [("osnet_x1_0", (2_193_616, 978_878_352)), ("osnet_x0_5", (636_520, 272_901_064)), ("osnet_x0_25", (203_568, 82_316_000))],
)
def test_costs_are_to_the_last_one_those_that_torchreid_prints(name, printed):
    parameters, multiply_adds = costs(name)
    gates = [part for part in embedding_network(name).modules() if isinstance(part, ChannelGate)]
    # it adds up the parameters of a gate at each of its four calls, and counts biases as multiply-adds
    parameters += 3 * sum(parameter.numel() for gate in gates for parameter in gate.parameters())
    multiply_adds += 512 + 4 * sum(len(gate.fc1.bias) + len(gate.fc2.bias) for gate in gates)
    assert (parameters, multiply_adds) == printed


@pytest.mark.parametrize("name", WIDTHS)
def test_names_and_shapes_are_the_released_ones(name):
    network = embedding_network(name)
    own = network.backbone.trunk.state_dict() | {f"fc.{key}": tensor for key, tensor in network.pooling.fc.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in own.items() if not key.endswith("num_batches_tracked")}
    assert found == released_shapes(WIDTHS[name], ain=name == AIN)


@torch.no_grad()
def test_a_released_file_embeds_as_a_slow_version_of_torchreids_network_does(name, file, caplog):
    caplog.set_level(logging.INFO)
    network = load_embedding_network(file)
    expected = slow_embedding(released(WIDTHS[name], ain=name == AIN), IMAGES, ain=name == AIN)
    assert (expected > 0).double().mean() > 0.2  # or the ReLU would agree with anything
    output = network.double()(IMAGES.double(), with_parts=True)
    torch.testing.assert_close(output.embedding, expected, rtol=1e-9, atol=1e-9)
    assert output.before_bnneck is output.embedding
    assert (network.num_features, output.parts.shape) == (512, (2, 2, 512))
    assert f"{name} of torchreid" in caplog.text


@torch.no_grad()
def test_the_halves_of_a_body_are_reduced_as_the_whole_is(file):
    network = load_embedding_network(file).double()
    maps = network.backbone(IMAGES[:, :, :64].double())  # of four rows
    parts = network.parts(maps, len(maps))
    torch.testing.assert_close(parts, torch.stack([network.pooling(maps[:, :, :2]), network.pooling(maps[:, :, 2:])], 1))


@torch.no_grad()
def test_a_backbone_starts_from_a_released_file_and_keeps_its_stride(name, file, caplog):
    caplog.set_level(logging.INFO)
    backbone = build_backbone(name, weights=str(file)).eval()
    expected = slow_map(
        {key: tensor.double() for key, tensor in released(WIDTHS[name], ain=name == AIN).items()}, IMAGES.double(), ain=name == AIN
    )
    torch.testing.assert_close(backbone.double()(IMAGES.double()), expected, rtol=1e-9, atol=1e-9)
    assert (backbone.num_features, backbone.stride, expected.shape[2:]) == (WIDTHS[name][3], 16, (4, 3))
    assert f"{name}: made for re-ID, its stride stays 16" in caplog.text


def test_a_classifier_is_left_out_and_everything_else_has_its_place(name, file):
    kind, state = load_foreign_state_dict(file)
    assert kind == "torchreid"
    assert set(state) == set(embedding_network(name).state_dict()) | {key for key in state if key.endswith("num_batches_tracked")}


def changed(path, **tensors):
    """A released osnet_x0_25 with other tensors, or without those that are ``None``."""
    state = released(WIDTHS["osnet_x0_25"]) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, path)
    return path


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"conv3__0__conv1__conv__weight": torch.zeros(24, 60, 1, 1)},
            r"conv3\.0\.conv1\.conv\.weight \[24, 60, 1, 1\] instead of \[24, 64, 1, 1\]",
        ),
        ({"fc__0__weight": torch.zeros(256, 128)}, r"pooling\.fc\.0\.weight \[256, 128\] instead of \[512, 128\]"),
        ({"conv4__1__gate__fc1__bias": None}, r"1 missing \(backbone\.trunk\.conv4\.1\.gate\.fc1\.bias\)"),
        ({"conv4__2__conv1__weight": torch.zeros(1)}, r"1 unexpected \(backbone\.trunk\.conv4\.2\.conv1\.weight\)"),
        ({"conv2__0__IN__weight": torch.zeros(64)}, "is torchreid's osnet_ibn, with instance normalization .* conv2.0.IN.weight"),
        (
            {"conv1__conv__weight": torch.zeros(20, 3, 7, 7)},
            "holds an OSNet of 20 channels behind its first convolution, known are osnet_x1_0",
        ),
    ],
)
def test_a_file_that_is_none_of_them_is_refused_by_what_is_wrong(tmp_path, tensors, message):
    with pytest.raises(ValueError, match=rf"osnet\.pth .*{message}"):
        load_embedding_network(changed(tmp_path / "osnet.pth", **tensors))


def test_other_widths_of_osnet_ain_are_refused(tmp_path):
    torch.save(released(WIDTHS["osnet_x0_25"], ain=True), tmp_path / "narrow.pth")
    with pytest.raises(ValueError, match=r"narrow\.pth holds an OSNet-AIN of 16 channels"):
        load_embedding_network(tmp_path / "narrow.pth")


def test_a_network_without_the_reducing_layer_embeds_with_the_pooled_map(tmp_path):
    missing = {name.replace(".", "__"): None for name in released_shapes(WIDTHS["osnet_x0_25"]) if name.startswith("fc.")}
    network = load_embedding_network(changed(tmp_path / "osnet.pth", fc__1__num_batches_tracked=None, **missing))
    with torch.no_grad():
        torch.testing.assert_close(network(IMAGES).embedding, network.backbone(IMAGES).mean((2, 3)))
    assert network.num_features == 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [16, 64, 96]}, "channels must be four numbers"),
        ({"channels": [16, 64, 96, 130]}, "channels of the three stages must be multiples of 4"),
        ({"channels": [0, 64, 96, 128]}, "channels must be a whole number of at least 1"),
        ({"num_classes": 5}, "without classifier and released weights.*num_classes=5"),
        ({"drop_rate": 0.1}, "drop_rate=0.1"),
        ({"pretrained": True}, "timm has no pretrained weights for osnet_x0_25: give a file of weights"),
    ],
)
def test_options_that_it_has_not_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_backbone("osnet_x0_25", **options)


def test_timm_itself_gives_no_weights_where_there_are_none():
    with pytest.raises(ValueError, match="got pretrained=True"):
        timm.create_model("osnet_x0_25", pretrained=True)


def test_its_blocks_and_its_front_are_known():
    plain, ain = embedding_network("osnet_x0_25"), embedding_network(AIN)
    for network in (plain, ain):
        assert [type(block) for block in repeated_blocks(network)] == 6 * [OSBlock]
    assert front_modules(plain.backbone.trunk, 1) == ("conv1", "maxpool", "conv2.0", "conv2.1")
    assert front_modules(ain.backbone.trunk, 2) == ("conv1", "maxpool", "conv2", "pool2", "conv3")


def test_pruning_refuses_instance_normalization_by_name():
    network = EmbeddingNetwork(build_backbone(AIN, channels=[8, 32, 32, 32]))
    with pytest.raises(ValueError, match=r"cannot trace backbone\.trunk\.conv1\.bn \(InstanceNorm2d\)"):
        find_channel_groups(network, (1, 3, 64, 32))


@pytest.mark.slow
def test_an_exported_file_gives_what_a_released_network_gives(tmp_path):
    torch.save(released(WIDTHS[AIN], ain=True), tmp_path / "osnet.pth")
    network = load_embedding_network(tmp_path / "osnet.pth")
    crops = torch.randint(0, 256, (3, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    graph = onnx_content(PixelEmbedder(network), crops)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    expected = crop_embedder(network, (64, 32))(list(crops))
    for size in (1, 3):
        (found,) = session.run(None, {"input": crops[:size].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected[:size], rtol=0, atol=1e-4)


def test_it_learns_in_a_module_and_its_checkpoint_is_the_same_network(market_folder, tmp_path):
    torch.manual_seed(0)
    data = ImageReIDDataModule(str(market_folder), image_size=(64, 32), p=4, k=2, num_workers=0, val_identities=0)
    model = SupervisedReID(backbone="osnet_x0_25", lr=1e-3)
    before = {name: parameter.clone() for name, parameter in model.network.named_parameters()}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_steps=1, limit_val_batches=0, default_root_dir=tmp_path, **quiet)
    trainer.fit(model, data)
    learnt = {name for name, parameter in model.network.named_parameters() if not torch.equal(parameter, before[name])}
    # the first gates have a single hidden unit, which may see nothing positive for a step
    assert {name for name in before if name not in learnt and "gate.fc1" not in name} == {"neck.bias"}
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    torch.save(model.network.state_dict(), tmp_path / "weights.pth")
    for path in ("last.ckpt", "weights.pth"):
        network = load_embedding_network(tmp_path / path)
        assert isinstance(network.neck, nn.BatchNorm1d)
        with torch.no_grad():
            torch.testing.assert_close(network(IMAGES).embedding, model.network.eval()(IMAGES).embedding)
