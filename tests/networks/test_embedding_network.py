import pytest
import torch

from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.pooling import GeneralizedMeanPooling, part_pooling

NARROW = {"channels": [4, 8, 8, 16]}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def small_network(**options) -> EmbeddingNetwork:
    torch.manual_seed(0)
    return EmbeddingNetwork(build_backbone("resnet18", **NARROW), **options)


def test_the_embedding_is_the_normalized_mean_of_the_feature_map(images):
    network = small_network()
    output = network(images)
    before = network.backbone(images).mean((2, 3))
    torch.testing.assert_close(output.before_bnneck, before)
    after = (before - before.mean(0)) / (before.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(output.embedding, after, atol=1e-4, rtol=1e-4)
    assert output.parts is None
    assert network.num_features == 16


def test_parts_come_from_the_same_feature_map_when_asked_for(images):
    network = small_network().eval()
    output = network(images, with_parts=True)
    torch.testing.assert_close(output.parts, part_pooling(network.backbone(images)))
    torch.testing.assert_close(output.parts.mean(1), output.before_bnneck)


def test_the_bias_of_the_neck_stays_zero_and_its_scale_learns(images):
    network = small_network()
    network(images).embedding.square().sum().backward()
    assert network.neck.bias.grad is None
    assert not network.neck.bias.requires_grad
    assert network.neck.bias.abs().sum() == 0
    assert network.neck.weight.grad is not None


def test_without_neck_both_embeddings_are_one(images):
    output = small_network(neck="none")(images)
    assert output.embedding is output.before_bnneck


def test_gem_pooling_learns_its_exponent(images):
    network = small_network(pooling="gem")
    network(images).before_bnneck.sum().backward()
    assert isinstance(network.pooling, GeneralizedMeanPooling)
    assert network.pooling.p.grad is not None


def test_the_side_of_the_neck_can_be_chosen():
    output = EmbeddingOutput(torch.zeros(1, 2), torch.ones(1, 2))
    assert output.on("before") is output.before_bnneck
    assert output.on("after") is output.embedding
    with pytest.raises(ValueError, match="'before' or 'after' the BNNeck, got 'middle'"):
        output.on("middle")  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["pooling", "neck"])
def test_an_unknown_option_is_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be one of .*, got 'max'"):
        small_network(**{option: "max"})


def test_the_network_compiles_without_a_graph_break_and_takes_channels_last(images):
    network = small_network(pooling="gem").eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    expected = network(images, with_parts=True)
    got = compiled(images.contiguous(memory_format=torch.channels_last), with_parts=True)
    torch.testing.assert_close(tuple(got), tuple(expected), atol=1e-5, rtol=1e-4)


def test_bf16_autocast_gives_nearly_the_float32_embedding(images):
    network = small_network().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images)
    exact = network(images)
    assert torch.nn.functional.cosine_similarity(output.embedding.float(), exact.embedding).min() > 0.99
