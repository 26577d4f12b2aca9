from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_reid.networks import NVAN, STENVAN, EmbeddingNetwork, build_backbone, checkpoint_activations, group_batch_norm
from lightning_reid.networks.activation_checkpoints import running_statistics_kept

TINY = {"channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1]}
CLIPS, IMAGES = (2, 4, 3, 64, 32), (4, 3, 64, 32)


def image_network(name: str, **options) -> EmbeddingNetwork:
    return EmbeddingNetwork(build_backbone(name, **options))


def cumulative(network: EmbeddingNetwork) -> EmbeddingNetwork:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    return network


NETWORKS: dict[str, tuple[Callable[[], EmbeddingNetwork], tuple[int, ...]]] = {
    "clips, attention between blocks": (lambda: NVAN("resnet18", **TINY), CLIPS),
    "clips, frames halved": (lambda: STENVAN("resnet18", stripes=4, **TINY), CLIPS),
    "BatchNorm in groups": (lambda: group_batch_norm(image_network("resnet18", **TINY), 2), IMAGES),
    "a mean over all steps": (lambda: cumulative(image_network("resnet18", **TINY)), IMAGES),
    "drawn within the blocks": (
        lambda: image_network("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 8, 16, 16), drop_path_rate=0.5),
        IMAGES,
    ),
    "BatchNorm with activation": (lambda: image_network("mobilenetv2_035"), IMAGES),
    "streams within the blocks": (lambda: image_network("osnet_x0_25"), IMAGES),
    "a transformer": (lambda: image_network("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=2), IMAGES),
}


def one_pass(network: EmbeddingNetwork, inputs: Tensor) -> dict[str, Tensor]:
    """The embedding, every gradient and every buffer after a forward and a backward pass."""
    torch.manual_seed(7)
    embedding = network(inputs).embedding
    embedding.square().sum().backward()
    gradients = {f"grad {name}": parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    return {"embedding": embedding.detach(), **gradients, **{name: buffer.clone() for name, buffer in network.named_buffers()}}


def kept_bytes(network: EmbeddingNetwork, inputs: Tensor) -> int:
    """What autograd keeps between forward and backward, without the parameters."""
    own = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict(keep_vars=True).values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(inputs)
    assert output.embedding.requires_grad  # alive until here: no address is used twice
    return sum(kept.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_computing_twice_changes_no_embedding_no_gradient_and_no_running_statistics(name):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    plain = build().double()
    inputs = torch.randn(shape, dtype=torch.float64)
    thrifty = checkpoint_activations(copy.deepcopy(plain))
    assert list(thrifty.state_dict()) == list(plain.state_dict())
    expected, got = one_pass(plain, inputs), one_pass(thrifty, inputs)
    assert expected.keys() == got.keys()
    for part in expected:
        torch.testing.assert_close(got[part], expected[part], rtol=0, atol=0, msg=lambda said, part=part: f"{part}: {said}")
    assert any(name.startswith("grad") and value.abs().sum() > 0 for name, value in got.items())


def test_of_a_deep_network_autograd_keeps_less_than_half():
    plain = image_network("resnet50", channels=[32, 64, 128, 256])
    thrifty = checkpoint_activations(copy.deepcopy(plain))
    images = torch.randn(IMAGES)
    assert kept_bytes(thrifty, images) < kept_bytes(plain, images) / 2


def test_without_gradients_nothing_is_kept_and_embeddings_are_the_same():
    network = NVAN("resnet18", **TINY).eval()
    clips = torch.randn(CLIPS)
    with torch.no_grad():
        expected = network(clips).embedding
        torch.testing.assert_close(checkpoint_activations(network)(clips).embedding, expected, rtol=0, atol=0)


def test_a_copy_runs_its_own_blocks():
    network = checkpoint_activations(NVAN("resnet18", **TINY))
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.backbone.trunk.layer4.parameters():
            parameter.zero_()
    clips = torch.randn(CLIPS)
    assert not torch.equal(other(clips).before_bnneck, network(clips).before_bnneck)
    other(clips).embedding.sum().backward()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_trunk_without_known_blocks_is_refused():
    with pytest.raises(ValueError, match="cannot tell the stages of a DenseNet"):
        checkpoint_activations(image_network("densenet121", growth_rate=4, block_config=(1, 1, 1, 1)))


def test_running_statistics_go_on_after_they_were_kept():
    layer, rows = nn.BatchNorm1d(3, momentum=0.25), torch.randn(8, 3)
    with running_statistics_kept(layer):
        layer(rows)
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert int(layer.num_batches_tracked) == 0
    layer(rows)
    torch.testing.assert_close(layer.running_mean, 0.25 * rows.mean(0))
    assert int(layer.num_batches_tracked) == 1
