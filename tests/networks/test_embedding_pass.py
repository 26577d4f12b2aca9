"""The one pass in which everything is embedded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.embedding_pass import embedding_pass


def network_of(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).to(dtype).train()


def test_a_pass_evaluates_without_gradients_and_leaves_the_network_as_it_was():
    network = network_of()
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batches = list(torch.randn(6, 3).split(2))
    outputs = []
    for batch, output in embedding_pass(network, batches, lambda rows: EmbeddingOutput(rows, network(rows))):
        assert not network.training
        assert torch.equal(output.before_bnneck, batch)
        outputs.append(output.embedding)
    assert not any(one.requires_grad for one in outputs)
    assert [part.training for part in network] == [True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    torch.testing.assert_close(torch.cat(outputs), network.eval()(torch.cat(batches)).detach())


def test_outputs_are_float32_whatever_the_forward_pass_runs_in():
    network = network_of()

    def embed(rows: torch.Tensor) -> EmbeddingOutput:
        output = network(rows)
        assert output.dtype == torch.bfloat16
        return EmbeddingOutput(output, output, output[:, None])

    def bfloat16() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    network[1] = nn.Identity()  # normalization leaves autocast in float32
    ((_, output),) = embedding_pass(network, [torch.randn(2, 3)], embed, precision=bfloat16)
    assert {part.dtype for part in output} == {torch.float32}


def test_a_pass_that_dies_or_is_left_gives_the_network_back():
    network = network_of()
    outputs = embedding_pass(network, [torch.zeros(1, 3)] * 2, lambda rows: EmbeddingOutput(rows, network(rows)))
    next(outputs)
    assert not network.training
    outputs.close()
    assert network.training
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(embedding_pass(network, [torch.zeros(1, 5)], lambda rows: EmbeddingOutput(rows, network(rows))))
    assert network.training
