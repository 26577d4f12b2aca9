from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_reid.networks.memory_layout import in_fast_layout, take_channels_last


@pytest.mark.parametrize(("channels", "stride", "last"), [(16, 2, True), (15, 2, False), (15, 1, True)])
def test_channels_come_last_but_before_narrow_strided_projections(channels, stride, last):
    network = in_fast_layout(nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 4, 1, stride=stride)))
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last) == last
    assert network[0].weight.is_contiguous() != last
    network(torch.randn(16, 3, 18, 10)).square().sum().backward()  # this is what would crash


def test_maps_may_come_channels_last_where_the_weights_do_not():
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 4, 1))
    images = torch.randn(2, 3, 18, 10)
    expected = network(images)
    take_channels_last(network)
    maps = network(images)
    assert expected.is_contiguous()
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert network[0].weight.is_contiguous()
    torch.testing.assert_close(maps, expected)
