from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_reid.pruning import batch_norm_score, constraint_aware_importance, filter_l1_norm, loss_impact
from lightning_reid.pruning.channel_selection import least_important, least_important_in_turn, protected_channels
from lightning_reid.pruning.cpo_search import performance_sensitivity
from lightning_reid.pruning.filter_criteria import channel_norms, filter_sparsity, ranks_in_group, removal_order
from lightning_reid.pruning.loss_impact import RunningImpact, filter_score, layer_score
from lightning_reid.pruning.resource_impact import effective_resource_impact, pruning_objective, resource_impact


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 99), n=st.integers(1, 6), c=st.integers(1, 4))
@settings(max_examples=20)
def test_sparsity_is_eq_5_1_and_5_2_weight_by_weight(seed, n, c):
    weight = draw(seed, n, c, 3, 2)
    magnitudes = [abs(value) for value in weight.flatten().tolist()]
    mean = sum(magnitudes) / len(magnitudes)
    slow = [sum(abs(value) < mean for value in one.flatten().tolist()) / (c * 6) for one in weight]
    assert filter_sparsity(weight).tolist() == pytest.approx(slow)


def test_equal_weights_are_not_sparse_and_zeros_among_others_are():
    assert filter_sparsity(torch.ones(3, 2, 1, 1)).tolist() == [0, 0, 0]
    assert filter_sparsity(torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(2, 2, 1, 1)).tolist() == [0, 1]


def test_sparse_filters_go_first_and_of_equally_sparse_ones_the_smaller():
    weight = torch.tensor([[9.0, 9.0], [0.1, 9.0], [0.2, 0.2], [0.1, 0.1]]).view(4, 2, 1, 1)
    order = removal_order([(weight, torch.arange(4)[:, None])], gone=torch.zeros(4, dtype=torch.bool))
    assert order.tolist() == [3, 2, 1, 0]
    assert filter_l1_norm(weight).tolist() == pytest.approx([18, 9.1, 0.4, 0.2])


def test_weights_that_diverged_or_are_none_are_refused():
    with pytest.raises(ValueError, match="a weight is NaN or infinite"):
        filter_sparsity(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match=r"must be \[N, C, ...\] with N and C at least 1, got \[0, 3\]"):
        filter_l1_norm(torch.empty(0, 3))


def test_performance_sensitivity_is_eq_5_6():
    assert performance_sensitivity(0.02, 0.25, 9 * 16) == pytest.approx(0.02 / (0.25 * 9 * 16))
    assert performance_sensitivity(-0.01, 0.5, 1) == pytest.approx(-0.02)
    for wrong in ((0.1, 0.0, 9), (0.1, 0.5, 0)):
        with pytest.raises(ValueError, match="need factor_change > 0 and filter_size of at least 1"):
            performance_sensitivity(*wrong)


def test_scores_are_gradients_of_gates_behind_the_layers():
    torch.manual_seed(0)
    conv, norm, gates = nn.Conv2d(3, 4, 3).double(), nn.BatchNorm2d(4).double(), torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    made = conv(draw(1, 5, 3, 6, 5)) * gates[0].view(1, -1, 1, 1)
    loss = (norm(made) * gates[1].view(1, -1, 1, 1)).relu().square().sum()
    loss.backward()
    torch.testing.assert_close(batch_norm_score(norm.weight, norm.bias, norm.weight.grad, norm.bias.grad), gates.grad[1])
    torch.testing.assert_close(filter_score(conv.weight, conv.bias, conv.weight.grad, conv.bias.grad), gates.grad[0])


def test_impacts_of_coupled_layers_are_the_square_of_the_sum_or_the_sum_of_squares():
    scores = [torch.tensor([1.0, -2.0]), torch.tensor([-1.0, -1.0])]
    assert loss_impact(scores).tolist() == [0, 9]
    assert loss_impact(scores, "sum of squares").tolist() == [2, 5]
    with pytest.raises(ValueError, match="coupled must be one of"):
        loss_impact(scores, "mean")
    with pytest.raises(ValueError, match=r"scores of one length, got \[\(2,\), \(1,\)\]"):
        loss_impact([torch.zeros(2), torch.zeros(1)])


def test_running_impact_copies_the_first_value_averages_the_rest_and_starts_anew():
    running = RunningImpact()
    for value in (1.0, 2.0, 5.0):
        running.update({"conv": torch.tensor([value])})
    assert running.values["conv"].item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 5)
    assert running.num_batches == 3
    running.restart()
    running.update({"conv": torch.tensor([7.0])})
    assert running.values["conv"].item() == 7


def test_gradients_that_are_not_finite_are_said_with_their_group_and_change_nothing():
    running = RunningImpact()
    running.update({"a": torch.ones(1), "b": torch.ones(1)})
    with pytest.raises(FloatingPointError, match="the gradients at b are NaN or infinite"):
        running.update({"a": torch.zeros(1), "b": torch.tensor([math.nan])})
    assert (running.values["a"].item(), running.num_batches) == (1, 1)


def test_objective_is_what_is_still_to_go_and_zero_for_what_is_met():
    objective = pruning_objective({"flops": 80.0, "params": 50.0}, {"flops": 60.0, "params": 55.0})
    assert objective == {"flops": pytest.approx(0.25), "params": 0.0}
    assert resource_impact(80, 72) == pytest.approx(0.1)


def test_effective_impact_projects_onto_the_objective_and_is_the_impact_itself_for_one_resource():
    assert effective_resource_impact([0.3, 0.4], [0.6, 0.8]) == pytest.approx((0.3 * 0.6 + 0.4 * 0.8) / 1.0)
    assert effective_resource_impact([0.3], [0.2]) == pytest.approx(0.3)
    assert effective_resource_impact([0.3, 0.4], [0.2, 0.0]) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="every constraint is met"):
        effective_resource_impact([0.3], [0.0])


def test_importance_is_loss_impact_over_effective_impact_and_infinite_where_nothing_is_freed():
    impacts = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([1.0])}
    frees = {"a": {"flops": 0.1, "params": 0.2}, "b": {"flops": 0.0, "params": 0.3}}
    importance = constraint_aware_importance(impacts, frees, {"flops": 0.5})
    assert importance["a"].tolist() == pytest.approx([10, 20])
    assert importance["b"].isinf().all()
    both = constraint_aware_importance(impacts, frees, {"flops": 0.3, "params": 0.4})
    assert both["b"].item() == pytest.approx(1 / (0.3 * 0.4 / 0.5))


def test_the_least_important_of_all_groups_go_and_each_groups_best_tenth_stays():
    importance = {"a": torch.tensor([0.1, 5.0, 0.3]), "b": torch.arange(20.0) + 0.2}
    keep = {"a": torch.tensor([True, True, True]), "b": torch.ones(20, dtype=torch.bool)}
    chosen = least_important(importance, keep, 3)
    assert chosen["a"].tolist() == [False, True, False]
    assert (~chosen["b"]).nonzero().flatten().tolist() == [0]
    assert keep["a"].all()  # its own tensors
    everything = least_important(importance, keep, 99)
    assert everything["a"].tolist() == [False, True, False]
    assert everything["b"].nonzero().flatten().tolist() == [18, 19]
    assert [protected_channels(size, 0.1) for size in (1, 9, 10, 25)] == [1, 1, 1, 2]


def test_channels_that_are_gone_do_not_count_and_ties_go_in_order():
    importance = {"a": torch.zeros(4), "b": torch.zeros(4)}
    keep = {"a": torch.tensor([False, True, True, True]), "b": torch.ones(4, dtype=torch.bool)}
    chosen = least_important(importance, keep, 3)
    assert (chosen["a"].tolist(), chosen["b"].tolist()) == ([False, False, False, True], [False, True, True, True])


def at_the_peak(left):
    """Share of the larger of ``3 a`` and ``2 b`` that a channel holds; half of its own in a tie. To 6 at the most."""
    held = {"a": 3 * left["a"], "b": 2 * left["b"]}
    peak = max(held.values())
    highest = [name for name in held if held[name] == peak]
    return {name: held[name] / left[name] / peak / len(highest) for name in highest} if peak > 6 else {}


def test_channels_go_in_turn_from_the_layer_that_is_at_the_peak_and_no_more_than_the_limit_asks_for():
    impacts = {"a": torch.tensor([9.0, 8.0, 7.0, 6.0]), "b": torch.tensor([0.3, 0.1, 0.4, 0.2, 0.5])}
    keep = {name: torch.ones(len(impact), dtype=torch.bool) for name, impact in impacts.items()}
    # 12 against 10: a; 9 against 10: b; 9 against 8: a, dear as it is; 6 against 8: b; 6 against 6: done
    for count, gone in ((1, (1, 0)), (2, (1, 1)), (3, (2, 1)), (4, (2, 2)), (99, (2, 2))):
        chosen = least_important_in_turn(impacts, keep, count, at_the_peak)
        assert tuple(int((~chosen[name]).sum()) for name in impacts) == gone
    assert (chosen["a"].tolist(), chosen["b"].tolist()) == ([True, True, False, False], [True, False, True, False, True])
    assert all(mask.all() for mask in keep.values())  # its own tensors


def test_layers_that_tie_at_the_peak_are_both_lowered_though_neither_alone_lowers_it():
    impacts = {"a": torch.ones(6), "b": torch.ones(9)}
    keep = {name: torch.ones(len(impact), dtype=torch.bool) for name, impact in impacts.items()}
    chosen = least_important_in_turn(impacts, keep, 99, at_the_peak)
    assert {name: int(mask.sum()) for name, mask in chosen.items()} == {"a": 2, "b": 3}


@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), ratio=st.sampled_from([0.1, 0.3]))
@settings(max_examples=60)
def test_in_turn_is_at_once_where_what_a_channel_frees_does_not_depend_on_what_is_left(seed, count, ratio):
    generator = torch.Generator().manual_seed(seed)
    sizes, frees = {"a": 4, "b": 11, "c": 7}, {"a": 0.3, "b": 0.1, "c": 0.0}
    impacts = {name: torch.randint(0, 9, (size,), generator=generator).double() for name, size in sizes.items()}
    keep = {name: torch.rand(size, generator=generator) < 0.8 for name, size in sizes.items()}
    at_once = constraint_aware_importance(impacts, {name: {"flops": freed} for name, freed in frees.items()}, {"flops": 0.5})
    expected = least_important(at_once, keep, count, min_channel_ratio=ratio)
    chosen = least_important_in_turn(impacts, keep, count, lambda left: frees, min_channel_ratio=ratio)
    assert all(torch.equal(chosen[name], expected[name]) for name in sizes)


@given(seed=st.integers(0, 10_000), filters=st.integers(3, 10), goal=st.floats(0.2, 0.8))
@settings(max_examples=60)
def test_greedy_by_importance_without_its_last_filter_is_at_most_the_optimum_and_equals_it_where_it_fills_the_goal(seed, filters, goal):
    generator = torch.Generator().manual_seed(seed)
    loss, freed = (torch.rand(filters, dtype=torch.float64, generator=generator).tolist() for _ in range(2))
    order = sorted(range(filters), key=lambda f: loss[f] / freed[f])
    greedy = next(order[: k + 1] for k in range(filters) if sum(freed[f] for f in order[: k + 1]) >= goal * sum(freed))

    def optimum(target: float) -> float:
        subsets = itertools.chain.from_iterable(itertools.combinations(range(filters), k) for k in range(filters + 1))
        return min(sum(loss[f] for f in some) for some in subsets if sum(freed[f] for f in some) >= target - 1e-12)

    assert sum(loss[f] for f in greedy[:-1]) <= optimum(goal * sum(freed)) + 1e-12
    assert sum(loss[f] for f in greedy) == pytest.approx(optimum(sum(freed[f] for f in greedy)))


MAKERS = (
    (torch.tensor([[1.0, 1.0], [0.1, 3.0], [0.0, 0.0], [2.0, 2.0]]), torch.tensor([[0], [1], [2], [3]])),
    (torch.tensor([[4.0], [4.0], [4.0], [4.0], [4.0], [4.0], [0.0], [0.0]]), torch.tensor([[0, 1], [2, 3], [6, 7], [4, 5]])),
)
"""Two layers make four channels; the second makes each with two filters. Channel 2 is gone: its filters are zeros."""
GONE = torch.tensor([False, False, True, False])


def test_channels_go_by_mean_sparsity_over_all_layers_that_make_them_and_of_equal_ones_the_smaller_first():
    # magnitudes below 9.1 / 8 in the first layer: 2, 1, 2 and 0 of 2; below 3 in the second: only channel 2's
    assert removal_order(MAKERS, GONE).tolist() == [2, 0, 1, 3]


def test_the_norm_of_a_channel_is_the_mean_over_its_layers_and_infinite_where_it_is_gone():
    # first layer: 2 / 2, 3.1 / 2, -, 4 / 2; second: two filters of 4, a weight each
    assert channel_norms(MAKERS, GONE).tolist() == pytest.approx([4.5, 4.775, math.inf, 5.0])


def test_ranks_count_what_is_gone_before_what_is_left():
    assert ranks_in_group(torch.tensor([3.0, 1.0, math.inf, 2.0])).tolist() == pytest.approx([1, 0.5, math.inf, 0.75])
    assert ranks_in_group(torch.tensor([5.0])).tolist() == [1]


def test_a_layer_is_scored_as_its_kind_asks_and_refused_where_it_cannot_be():
    norm, conv = nn.BatchNorm2d(2), nn.Conv2d(1, 2, 1)
    for layer in (norm, conv):
        layer.weight.grad, layer.bias.grad = torch.full_like(layer.weight, 2), torch.full_like(layer.bias, 3)
    torch.testing.assert_close(layer_score(norm), 2 * norm.weight.detach() + 3 * norm.bias.detach())
    torch.testing.assert_close(layer_score(conv), 2 * conv.weight.detach().flatten() + 3 * conv.bias.detach())
    with pytest.raises(ValueError, match="no weight and bias"):
        layer_score(nn.BatchNorm2d(2, affine=False))
    with pytest.raises(ValueError, match="has no gradient: a frozen layer"):
        layer_score(nn.Conv2d(1, 2, 1))
