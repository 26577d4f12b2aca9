"""Seconds and bytes of units of a network, some of which take a known time and keep a known memory."""

from __future__ import annotations

import copy
import doctest
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lightning_reid.networks import unit_costs
from lightning_reid.networks.unit_costs import UnitCost, measure_units

FLOAT = 4


class Unit(NamedTuple):
    name: str
    run: Callable[[Tensor], Tensor]


def units_of(network: nn.Module) -> list[Unit]:
    return [Unit(name, part) for name, part in network.named_children()]


def kept(network: nn.Sequential, inputs: Tensor) -> list[int]:
    return [cost.kept_bytes for cost in measure_units(network, units_of(network), inputs, repeats=1)]


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    return nn.Sequential(stem, nn.Dropout(0.5), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 7 * 5, 4), nn.BatchNorm1d(4))


IMAGES = torch.rand(5, 3, 9, 7, generator=torch.Generator().manual_seed(0))


class Naps(torch.autograd.Function):
    """The identity, which takes its time both ways."""

    @staticmethod
    def forward(ctx, rows: Tensor, forward: float, backward: float) -> Tensor:
        ctx.backward = backward
        time.sleep(forward)
        return rows.clone()

    @staticmethod
    def backward(ctx, incoming: Tensor) -> tuple[Tensor, None, None]:
        time.sleep(ctx.backward)
        return incoming, None, None


@pytest.mark.parametrize(("forward", "backward"), [(0.03, 0.0), (0.0, 0.03)])
def test_the_time_of_a_unit_is_that_of_its_own_forward_and_backward(forward, backward):
    units = [
        Unit("quick", lambda rows: 2 * rows),
        Unit("slow", lambda rows: Naps.apply(rows, forward, backward)),
        Unit("quick again", lambda rows: 2 * rows),
    ]
    before, slow, after = (cost.seconds for cost in measure_units(nn.Identity(), units, torch.ones(2, 2, requires_grad=True)))
    assert slow >= 0.03
    assert max(before, after) < 0.03


def test_the_shortest_of_the_timed_runs_counts_and_the_first_run_is_not_timed():
    naps = iter([0.0, 0.2, 0.03, 0.2])
    (cost,) = measure_units(nn.Identity(), [Unit("tires", lambda rows: Naps.apply(rows, next(naps), 0.0))], torch.ones(2, 2), repeats=3)
    assert 0.03 <= cost.seconds < 0.2
    assert next(naps, None) is None, "as many runs as were asked for, and one before"


class Asks(nn.Module):
    """A factor, and whether what came in required a gradient."""

    def __init__(self, learns: bool) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()), requires_grad=learns)
        self.asked: list[bool] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.asked.append(rows.requires_grad)
        return rows * self.factor


@pytest.mark.parametrize(
    ("inputs", "learning", "expected"),
    [(False, (True, True, True), [False, True, True]), (False, (False, True, False), [False, False, True]), (True, (False,), [True])],
)
def test_a_gradient_by_what_comes_in_is_computed_where_something_before_learns(inputs, learning, expected):
    network = nn.Sequential(*map(Asks, learning))
    measure_units(network, units_of(network), torch.ones(2, requires_grad=inputs), repeats=1)
    assert [unit.asked for unit in network] == [[one, one] for one in expected]


def test_bytes_are_counted_once_and_without_parameters_worked_by_hand():
    inputs = torch.rand(16, 4)
    linear = [nn.Linear(4, 8), nn.Linear(8, 8, bias=False)]
    # a layer keeps its input (16 x 4, 16 x 8 numbers) and its weight, which is a parameter
    assert kept(nn.Sequential(*linear), inputs) == [16 * 4 * FLOAT, 16 * 8 * FLOAT]
    # ReLU keeps its output, which then is the input that the next layer keeps
    assert kept(nn.Sequential(linear[0], nn.ReLU(), linear[1]), inputs) == [16 * 4 * FLOAT, 16 * 8 * FLOAT, 0]
    # also where a unit between keeps nothing and passes on what it was given
    assert kept(nn.Sequential(linear[0], nn.ReLU(), nn.Identity(), linear[1]), inputs) == [16 * 4 * FLOAT, 16 * 8 * FLOAT, 0, 0]
    # the same memory kept by two functions of one unit: x * x keeps x twice
    (cost,) = measure_units(nn.Identity(), [Unit("square", lambda rows: rows * rows)], inputs.requires_grad_(), repeats=1)
    assert cost.kept_bytes == 16 * 4 * FLOAT


def test_running_statistics_are_no_memory_of_the_backward():
    layer = nn.BatchNorm1d(4)
    # its input, and the batch's mean and reciprocal deviation
    assert kept(nn.Sequential(layer), torch.rand(16, 4))[0] == (16 * 4 + 2 * 4) * FLOAT


def test_the_units_bytes_add_up_to_those_of_the_whole():
    network = small_network()
    (whole,) = measure_units(network, [Unit("whole", network)], IMAGES, repeats=1)
    costs = measure_units(network, units_of(network), IMAGES, repeats=1)
    assert sum(cost.kept_bytes for cost in costs) == whole.kept_bytes
    assert costs[-1].output_bytes == whole.output_bytes == 5 * 4 * FLOAT
    assert costs[0].output_bytes == 5 * 6 * 7 * 5 * FLOAT


def generators_and_gradients(network: nn.Module) -> tuple:
    return torch.get_rng_state(), [parameter.grad for parameter in network.parameters()], [part.training for part in network.modules()]


class Breaks(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        raise KeyError(len(rows))


@pytest.mark.parametrize("breaks", [False, True])
def test_no_trace_is_left_also_by_a_unit_that_fails(breaks):
    network = small_network()
    network[2].eval()  # frozen, in a network under training
    network(IMAGES).sum().backward()
    if breaks:
        network.append(Breaks())
    state, buffers = copy.deepcopy(network.state_dict()), list(network.buffers())
    before = copy.deepcopy(generators_and_gradients(network))
    if breaks:
        with pytest.raises(KeyError):
            measure_units(network, units_of(network), IMAGES)
    else:
        measure_units(network, units_of(network), IMAGES)
    torch.testing.assert_close(network.state_dict(), state, atol=0, rtol=0)
    torch.testing.assert_close(generators_and_gradients(network), before, atol=0, rtol=0)
    assert all(mine is theirs for mine, theirs in zip(network.buffers(), buffers, strict=True))


def test_a_buffer_that_is_replaced_in_the_forward_is_put_back():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, rows: Tensor) -> Tensor:
            self.seen = self.seen + len(rows)
            return rows

    network = Counts()
    seen = network.seen
    measure_units(network, [Unit("counts", network)], torch.ones(3, 2))
    assert network.seen is seen
    assert seen.item() == 0


def test_units_are_measured_in_training_mode_on_the_same_input_each_time():
    seen: list[tuple[bool, float]] = []

    class Adds(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            seen.append((self.training, rows.sum().item()))
            return rows.add_(1)  # in place: the next run is to find what this one found

    network = nn.Sequential(Adds(), Adds()).eval()
    inputs = torch.zeros(2, 2, requires_grad=True)
    with torch.no_grad():
        measure_units(network, units_of(network), inputs, repeats=2)
    assert seen == [(True, 0.0)] * 3 + [(True, 4.0)] * 3
    assert not inputs.any()
    assert inputs.grad is None


def test_frozen_units_have_no_backward():
    network = small_network().requires_grad_(False)
    assert sum(kept(network, IMAGES)) == 0
    assert kept(nn.Sequential(), IMAGES) == []


def test_what_is_no_tensor_and_no_number_of_runs_is_refused():
    with pytest.raises(ValueError, match="a unit must return one tensor, pair returned"):
        measure_units(nn.Identity(), [Unit("pair", lambda rows: (rows, rows))], torch.ones(2))
    for repeats in (0, 1.5, True, None):
        with pytest.raises(ValueError, match="repeats must be a whole number of at least 1"):
            measure_units(nn.Identity(), [], torch.ones(2), repeats)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_is_waited_for_and_its_generator_restored():
    network = small_network().cuda()
    before = torch.cuda.get_rng_state()
    costs = measure_units(network, units_of(network), IMAGES.cuda())
    assert all(isinstance(cost, UnitCost) and cost.seconds > 0 for cost in costs)
    torch.testing.assert_close(torch.cuda.get_rng_state(), before)


def test_the_examples_run():
    assert doctest.testmod(unit_costs).failed == 0
