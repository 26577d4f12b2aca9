from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_reid.networks.channels.latency import interpolated_latency, measure_latencies, network_latency


@given(inputs=st.floats(0, 1), outputs=st.floats(0, 1))
def test_a_layer_whose_time_grows_with_both_widths_is_interpolated_exactly(inputs, outputs):
    grid = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    assert interpolated_latency(3 * grid.view(4, 1) * grid, inputs, outputs) == pytest.approx(3 * inputs * outputs, abs=1e-12)


def test_every_weighted_layer_is_timed_and_wider_is_never_faster():
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), *pooled)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tables = measure_latencies(network, (1, 3, 32, 16), repetitions=3)
    assert list(tables) == ["0", "2", "5"]
    for table in tables.values():
        assert (table > 0).all()
        assert (table.diff(dim=0) >= 0).all()
        assert (table.diff(dim=1) >= 0).all()
    full = network_latency(tables, dict.fromkeys(tables, (1.0, 1.0)))
    assert full == pytest.approx(sum(float(table[-1, -1]) for table in tables.values()))
    assert network_latency(tables, dict.fromkeys(tables, (0.5, 0.3))) <= full
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
