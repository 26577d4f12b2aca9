"""Activation maps against loops over positions."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.networks.activation_maps import activation_maps

IMAGES = torch.randint(256, (3, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    return EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]))


def test_strength_is_the_length_of_the_feature_over_the_longest_of_its_picture(network):
    found = activation_maps(network, IMAGES)
    with torch.no_grad():
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        maps = network.eval().backbone((IMAGES.float() / 255 - mean) / std)
    for picture in range(3):
        lengths = [[maps[picture, :, y, x].norm().item() for x in range(maps.shape[3])] for y in range(maps.shape[2])]
        expected = torch.tensor(lengths) / max(map(max, lengths))
        torch.testing.assert_close(found.strength[picture], expected, rtol=1e-4, atol=1e-5)
    upper = torch.nn.functional.normalize(maps[:, :, :2].mean((2, 3)))
    torch.testing.assert_close(found.halves[:, 0], upper, rtol=1e-4, atol=1e-5)
    assert found.halves.norm(dim=2) == pytest.approx(1, abs=1e-5)


def test_a_network_under_training_goes_on_as_it_was(network):
    network.train()
    network.neck.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    activation_maps(network, IMAGES)
    assert network.training
    assert not network.neck.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_picture_without_features_is_weak_everywhere(network):
    for parameter in network.backbone.parameters():
        parameter.data.zero_()
    assert activation_maps(network, IMAGES).strength.count_nonzero() == 0
