"""Parts of a network divided over two gloo processes, without a Trainer."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.networks.sharding import LOWEST_TORCH, divide_weights, gather_weights, is_sharded, shard

needs_fsdp2 = pytest.mark.skipif(torch.__version__ < LOWEST_TORCH, reason=f"networks are divided by torch {LOWEST_TORCH} or later")
IMAGES = (4, 3, 64, 32)


def network_of(seed: int) -> EmbeddingNetwork:
    torch.manual_seed(seed)
    network = EmbeddingNetwork(build_backbone("resnet18", channels=[16, 16, 32, 32], layers=[1, 1, 1, 1]), pooling="gem")
    return network.double().to(memory_format=torch.channels_last)


def images_of(rank: int) -> torch.Tensor:
    return torch.randn(IMAGES, dtype=torch.float64, generator=torch.Generator().manual_seed(rank))


def loss_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return network(images).embedding.tanh().square().sum()


def divided_pass() -> dict[str, Any]:
    """An evaluation of unequally many passes, then a training pass, of a network that is initialized otherwise in each process."""
    rank = dist.get_rank()
    network, mesh = network_of(seed=rank), init_device_mesh("cpu", (2,))
    network.neck.running_mean.fill_(rank)
    shard(network, mesh)
    shard(network, mesh)  # once is enough
    with torch.inference_mode():
        gather_weights(network)
        embeddings = [network.eval()(images_of(0)).embedding for _ in range(1 + rank)]
        channels_last = network.backbone(images_of(0)).is_contiguous(memory_format=torch.channels_last)
        whole = not any(isinstance(parameter, DTensor) for parameter in network.parameters())
        divide_weights(network)
    loss_of(network.train(), images_of(rank)).backward()
    gradients = {name: one.grad.full_tensor() for name, one in network.named_parameters() if one.requires_grad}
    kinds = {type(parameter).__name__ for parameter in network.parameters()}
    told = (whole, channels_last, kinds, is_sharded(network))
    return {"embedding": embeddings[-1].clone(), "gradients": gradients, "told": told}


@needs_fsdp2
def test_a_divided_network_is_the_first_processes_network_trained_on_both_halves(two_processes):
    plain = network_of(seed=0)
    assert not is_sharded(plain)
    with torch.no_grad():
        expected = copy.deepcopy(plain).eval()(images_of(0)).embedding
    halves = [copy.deepcopy(plain) for _ in range(2)]
    for rank, half in enumerate(halves):
        loss_of(half, images_of(rank)).backward()
    for process in two_processes(divided_pass):
        assert process["told"] == (True, True, {"DTensor"}, True)
        torch.testing.assert_close(process["embedding"], expected, rtol=0, atol=1e-12)
        for name, gradient in process["gradients"].items():
            mean = (halves[0].get_parameter(name).grad + halves[1].get_parameter(name).grad) / 2
            torch.testing.assert_close(gradient, mean, rtol=0, atol=1e-11)
        assert len(process["gradients"]) == sum(parameter.requires_grad for parameter in plain.parameters())


@needs_fsdp2
def test_a_network_of_unknown_blocks_is_refused_before_anything_is_divided():
    network = EmbeddingNetwork(build_backbone("densenet121", growth_rate=4, block_config=(1, 1, 1, 1)))
    with pytest.raises(ValueError, match="cannot tell the stages of a DenseNet"):
        shard(network, None)  # type: ignore[arg-type]
    assert not is_sharded(network)


def test_an_older_torch_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.7.1+cpu"))
    with pytest.raises(RuntimeError, match=re.escape("by torch 2.8 or later, this is 2.7.1+cpu: upgrade torch")):
        shard(nn.Linear(2, 2), None)  # type: ignore[arg-type]
