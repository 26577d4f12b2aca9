"""Averages and interpolations against sums written out, and what of a model is no number to be averaged."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_reid.federated import FedUReID
from lightning_reid.federated.averaging import WeightedAverage


def model(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(dtype)
    with torch.no_grad():
        for _ in range(seed + 1):
            network(torch.randn(5, 3, 6, 6, dtype=dtype))
    return network.state_dict()


def averaged(models: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    average = WeightedAverage()
    for tensors, weight in zip(models, weights, strict=True):
        average.add(tensors, weight)
    return average.result()


@given(weights=st.lists(st.integers(0, 30_000), min_size=1, max_size=4).filter(any))
@settings(max_examples=20)
def test_the_average_is_eq_7_2_number_by_number_batch_norm_statistics_too(weights):
    models = [model(k) for k in range(len(weights))]
    found = averaged(models, weights)
    for name in ("0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"):
        slow = [
            sum(w * float(one[name].flatten()[k]) for w, one in zip(weights, models)) / sum(weights) for k in range(found[name].numel())
        ]
        assert found[name].flatten().tolist() == pytest.approx(slow, rel=1e-6, abs=1e-9)
        assert found[name].dtype == torch.float32


def test_counters_are_the_largest_and_stay_whole():
    found = averaged([model(0), model(3), model(1)], [1, 1, 1])
    assert found["1.num_batches_tracked"].item() == 4
    assert found["1.num_batches_tracked"].dtype == torch.int64


@given(seed=st.integers(0, 99), count=st.integers(1, 6))
@settings(max_examples=20)
def test_equal_models_average_to_themselves_and_order_is_rounding_only(seed, count):
    same = model(seed % 5)
    for name, tensor in averaged([same] * count, [7.0] * count).items():
        torch.testing.assert_close(tensor, same[name], rtol=0, atol=0)
    models = [model(k) for k in range(count)]
    forth, back = averaged(models, list(range(1, count + 1))), averaged(models[::-1], list(range(count, 0, -1)))
    for name, tensor in forth.items():
        torch.testing.assert_close(tensor, back[name], rtol=1e-6, atol=1e-7)


def test_half_precision_keeps_its_dtype_and_does_not_overflow_in_the_sum():
    big = {"weight": torch.full((2,), 6e4, dtype=torch.float16)}
    found = averaged([big, big], [30_000, 30_000])
    assert found["weight"].dtype == torch.float16
    assert found["weight"].tolist() == big["weight"].tolist()


def test_what_was_added_is_not_changed_by_what_comes_later():
    first, second = {"weight": torch.ones(2), "count": torch.tensor(1)}, {"weight": torch.zeros(2), "count": torch.tensor(9)}
    averaged([first, second], [1, 1])
    assert first["weight"].tolist() == [1, 1]
    assert first["count"].item() == 1


@given(share=st.floats(0, 1))
@settings(max_examples=20)
def test_interpolation_is_mu_local_and_the_rest_global(share):
    local, server = model(1), model(2)
    found = FedUReID(share).receive(local, server)
    for name in ("0.weight", "1.running_var"):
        torch.testing.assert_close(found[name], share * local[name] + (1 - share) * server[name])
    assert found["1.num_batches_tracked"].item() == 2
    for mu, source in ((1, local), (0, server)):
        assert torch.equal(FedUReID(mu).receive(local, server)["0.bias"], source["0.bias"])


def test_models_of_other_networks_and_weights_that_are_none_are_refused():
    average = WeightedAverage()
    with pytest.raises(ValueError, match="the clients' weights sum to zero"):
        average.result()
    average.add({"weight": torch.zeros(2)}, 0)
    with pytest.raises(ValueError, match="the clients' weights sum to zero"):
        average.result()
    with pytest.raises(ValueError, match=r"weight has shape \[3\] in one model and \[2\] in another"):
        average.add({"weight": torch.zeros(3)}, 1)
    with pytest.raises(ValueError, match="bias is in one model and not in the other"):
        average.add({"weight": torch.zeros(2), "bias": torch.zeros(1)}, 1)
    overflowing = WeightedAverage()
    for _ in range(2):
        overflowing.add({"weight": torch.full((2,), 1e308, dtype=torch.float64)}, 10)
    with pytest.raises(ValueError, match="the average of weight is NaN or infinite"):
        overflowing.result()
    for weight in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="a client's weight is its number of images"):
            average.add({"weight": torch.zeros(2)}, weight)
    with pytest.raises(ValueError, match=r"local_share must be a number in \[0, 1\], got 1\.5"):
        FedUReID(1.5)
