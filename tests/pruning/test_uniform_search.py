"""Uniform removal, against trying every factor of its grid, and against its rule written out over the list of all trials."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.pruning.filter_search import PrunableLayer
from lightning_reid.pruning.uniform_search import UniformSearch

LAYERS = [PrunableLayer("wide", 64, 27), PrunableLayer("narrow", 3, 576)]


@given(slope=st.floats(0.0, 1.0), power=st.floats(0.5, 3.0), expected=st.floats(0.0, 0.3))
@settings(max_examples=50)
def test_it_finds_the_largest_factor_of_the_grid_whose_drop_is_tolerable(slope, power, expected):
    search, trials = UniformSearch(LAYERS, expected), 0
    while search.trial is not None:
        trials += 1
        factor = search.trial.factor
        assert search.removals == {"wide": int(64 * factor), "narrow": min(int(3 * factor), 2)}
        verdict = search.report(slope * factor**power)
        assert verdict == ("keep" if slope * factor**power <= expected else "undo")
    tolerable = [k / 32 for k in range(1, 32) if slope * (k / 32) ** power <= expected]
    assert search.factors == (dict.fromkeys(("wide", "narrow"), max(tolerable)) if tolerable else {})
    assert search.drop == (slope * max(tolerable) ** power if tolerable else 0)
    assert search.removals == {}
    assert trials <= 6  # five halvings, and what failed once more


def next_factor(tried: list[tuple[float, bool]], resolution: float) -> float | None:
    """The rule, from all trials so far: (factor, whether it was kept)."""
    if not tried:
        return 0.5
    kept = max([factor for factor, good in tried if good], default=0.0)
    last_keep = max([place for place, (_, good) in enumerate(tried) if good], default=-1)
    last_failure = {factor: place for place, (factor, good) in enumerate(tried) if not good and factor > kept}
    ceiling = min(last_failure, default=1.0)
    if ceiling - kept > resolution:
        return (kept + ceiling) / 2
    return ceiling if last_failure and last_failure[ceiling] < last_keep else None


@given(limits=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=32), resolution=st.sampled_from([1.0, 0.3, 1 / 8, 1 / 32]))
@settings(max_examples=200)
def test_what_failed_is_tried_again_from_weights_that_were_trained_for_longer(limits, resolution):
    """``limits``: the largest factor that is tolerable after so many trials were kept; it may fall too, as noise lets it."""
    search = UniformSearch(LAYERS, 0.0, resolution)
    tried: list[tuple[float, bool]] = []
    while search.trial is not None:
        factor, keeps = search.trial.factor, sum(good for _, good in tried)
        assert factor == next_factor(tried, resolution)
        good = factor <= limits[min(keeps, len(limits) - 1)]
        search.report(0.0 if good else 0.1)
        tried.append((factor, good))
    assert next_factor(tried, resolution) is None
    kept = [factor for factor, good in tried if good]
    assert kept == sorted(set(kept))  # it grows
    assert search.factors == (dict.fromkeys(("wide", "narrow"), kept[-1]) if kept else {})
    places = [place for place, (_, good) in enumerate(tried) if good]
    since = tried[places[-1] + 1 :] if places else tried
    ceiling = min([factor for factor, _ in since], default=1.0)  # it failed from the very weights that are kept
    assert ceiling - (kept[-1] if kept else 0.0) <= resolution


def test_a_first_failure_does_not_cap_the_search():
    search, tried = UniformSearch(LAYERS, 0.0), []
    while search.trial is not None:
        factor = search.trial.factor
        tried.append(factor)
        search.report(0.1 if len(tried) == 1 or factor > 0.6 else 0.0)  # 0.5 is too much for the first weights alone
    assert tried[:6] == [0.5, 0.25, 0.375, 0.4375, 0.46875, 0.5]
    assert search.factors["wide"] == 0.59375


def test_it_goes_on_from_its_state_anywhere():
    search = UniformSearch(LAYERS, 0.1)
    tried = []
    while search.trial is not None:
        search, state = UniformSearch(LAYERS, 0.1), json.loads(json.dumps(search.state_dict()))
        search.load_state_dict(state)
        tried.append(search.trial.factor)
        search.report(0.0 if len(tried) > 1 and search.trial.factor <= 0.5 else 0.2)
    assert tried == [0.5, 0.25, 0.375, 0.4375, 0.46875, 0.5, 0.75, 0.625, 0.5625, 0.53125, 0.53125][: len(tried)]
    assert len(tried) == 10


def test_what_it_cannot_work_with_is_refused():
    for arguments in (([], 0.1), (LAYERS, -0.1)):
        with pytest.raises(ValueError, match="need at least one layer to prune and expected_drop of at least 0"):
            UniformSearch(*arguments)
    with pytest.raises(ValueError, match=r"the resolution of a reducing factor must lie in \(0, 1\], got 0"):
        UniformSearch(LAYERS, 0.1, 0.0)
    search = UniformSearch(LAYERS, 0.1, resolution=1.0)
    with pytest.raises(ValueError, match="the drop after pruning all layers is NaN"):
        search.report(math.nan)
    search.report(0.0)
    with pytest.raises(RuntimeError, match="the search is over"):
        search.report(0.0)


@pytest.mark.parametrize(("drops", "older"), [([0.1], 0.5), ([0.0], 1.0)])
def test_the_search_of_an_older_checkpoint_goes_on_where_it_was(drops, older):
    search = UniformSearch(LAYERS, 0.05)
    for drop in drops:
        search.report(drop)
    state = search.state_dict()
    resumed = UniformSearch(LAYERS, 0.05)
    resumed.load_state_dict({name: value for name, value in state.items() if name != "outdated"} | {"failed": older})
    assert resumed.trial == search.trial
    assert (resumed._kept, resumed._failed) == (search._kept, search._failed)
