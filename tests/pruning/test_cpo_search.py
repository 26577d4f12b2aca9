"""The search of CPO against algorithm 2 written down as it is printed."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.pruning.cpo_search import CPOSearch
from lightning_reid.pruning.filter_search import PrunableLayer, Trial

KERNEL = 9


def chain(filters: list[int]) -> list[PrunableLayer]:
    """3 x 3 layers one behind the other, the first over 3 channels."""
    names = [f"conv{number}" for number in range(len(filters))]
    widths = [3, *filters]
    return [
        PrunableLayer(name, filters[i], KERNEL * widths[i], {names[i + 1]: KERNEL} if i + 1 < len(names) else {})
        for i, name in enumerate(names)
    ]


def algorithm_2(layers: list[PrunableLayer], measure, expected: float) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Lines 1 to 25, loops within loops; the factors it ends with, and everything it tried."""
    tried: list[tuple[str, float]] = []
    sizes = {layer.name: layer.filter_size for layer in layers}
    by_name = {layer.name: layer for layer in layers}

    def removed(name: str, r: float) -> int:
        return min(int(by_name[name].filters * r), by_name[name].filters - 1)

    def drop_of(name: str, r: float, others: dict[str, float]) -> float:
        tried.append((name, r))
        return measure({other: removed(other, factor) for other, factor in (others | {name: r}).items()})

    sensitivity = {layer.name: drop_of(layer.name, 0.5, {}) / (0.5 * sizes[layer.name]) for layer in layers}
    factors: dict[str, float] = {}
    drop = 0.0
    while sensitivity:
        name = min(sensitivity, key=sensitivity.get)
        if removed(name, 0.5) == 0:
            del sensitivity[name]
            continue
        r, previous = 0.5, 0.0
        while True:
            new = drop_of(name, r, factors)
            updated = (new - drop) / ((r - previous) * sizes[name])
            runner_up = min((value for other, value in sensitivity.items() if other != name), default=math.inf)
            if new > expected or updated > runner_up:
                while True:
                    r_back = (r + previous) / 2
                    if removed(name, r_back) in (removed(name, r), removed(name, previous)):
                        break
                    r = r_back
                    back = drop_of(name, r, factors)
                    if back <= expected:
                        factors[name], drop, previous = r, back, r
                        break
                break
            factors[name], drop, previous = r, new, r
            if removed(name, (1 + r) / 2) == removed(name, r):
                break
            r = (1 + r) / 2
        del sensitivity[name]
        for other, weights in by_name[name].feeds.items():
            if other in sizes:
                smaller = max(1, sizes[other] - weights * removed(name, factors.get(name, 0.0)))
                if other in sensitivity:
                    sensitivity[other] *= sizes[other] / smaller
                sizes[other] = smaller
    return factors, tried


def run(search: CPOSearch, measure) -> list[tuple[str, float]]:
    tried, kept = [], {}
    while search.trial is not None:
        trial = search.trial
        tried.append((trial.layer, trial.factor))
        attempt = kept | {trial.layer: search.removed(trial.layer, trial.factor)}
        if search.report(measure(attempt)) == "keep":
            kept = attempt
    return tried


@given(
    filters=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    costs=st.lists(st.floats(0.0, 0.02), min_size=5, max_size=5),
    expected=st.floats(0, 0.2),
)
@settings(max_examples=200)
def test_trials_and_factors_are_those_of_algorithm_2(filters, costs, expected):
    layers = chain(filters)

    def measure(removed: dict[str, int]) -> float:
        """A drop that grows faster the more of a layer is gone, as sensitivities do."""
        return sum(costs[int(name[4:])] * count**1.5 for name, count in removed.items())

    search = CPOSearch(layers, expected)
    factors, tried = algorithm_2(layers, measure, expected)
    assert run(search, measure) == tried
    assert search.factors == factors
    assert measure({name: search.removed(name, factor) for name, factor in factors.items()}) <= expected


def test_a_network_that_loses_nothing_is_pruned_to_its_last_filters():
    search = CPOSearch(chain([8, 4]), 0.0)
    run(search, lambda removed: 0.0)
    assert {name: search.removed(name, factor) for name, factor in search.factors.items()} == {"conv0": 7, "conv1": 3}


def test_a_network_that_cannot_lose_a_filter_keeps_all():
    search = CPOSearch(chain([8, 4]), 0.01)
    tried = run(search, lambda removed: 1.0 * any(removed.values()))
    assert search.factors == {}
    assert tried[:2] == [("conv0", 0.5), ("conv1", 0.5)]


def test_a_pruned_layer_makes_the_next_one_more_sensitive_by_the_channels_that_are_gone():
    search = CPOSearch(chain([4, 4]), 0.1)
    for drop in (0.0, 0.05):
        search.report(drop)
    before = search.sensitivities["conv1"]
    while search.trial == Trial("conv0", search.trial.factor):
        search.report(0.0)
    assert search.sensitivities["conv1"] == pytest.approx(before * 4 / 1)  # three of four input channels are gone


@given(stop=st.integers(1, 12))
@settings(max_examples=12)
def test_a_search_that_is_stored_anywhere_goes_on_as_if_it_had_not_been(stop):
    def measure(removed: dict[str, int]) -> float:
        return 0.002 * sum(count**1.5 for count in removed.values())

    whole, first, second = (CPOSearch(chain([8, 6, 8]), 0.04) for _ in range(3))
    tried, kept = run(whole, measure), {}
    for _ in range(stop):
        attempt = kept | {first.trial.layer: first.removed(first.trial.layer, first.trial.factor)}
        kept = attempt if first.report(measure(attempt)) == "keep" else kept
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = []
    while second.trial is not None:
        rest.append((second.trial.layer, second.trial.factor))
        attempt = kept | {second.trial.layer: second.removed(second.trial.layer, second.trial.factor)}
        kept = attempt if second.report(measure(attempt)) == "keep" else kept
    assert tried[stop:] == rest
    assert second.factors == whole.factors


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"at least one layer to prune and expected_drop of at least 0, got 0 and 0\.1"):
        CPOSearch([], 0.1)
    with pytest.raises(ValueError, match="got 1 and -1"):
        CPOSearch(chain([4]), -1)
    search = CPOSearch(chain([4]), 0.1)
    with pytest.raises(ValueError, match="the drop after pruning conv0 is NaN"):
        search.report(math.nan)
    run(search, lambda removed: 0.0)
    with pytest.raises(RuntimeError, match="the search is over"):
        search.report(0.0)
