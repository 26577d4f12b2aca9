"""Uniform removal, against trying every factor of its grid."""

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
    search = UniformSearch(LAYERS, expected)
    while search.trial is not None:
        factor = search.trial.factor
        assert search.removals == {"wide": int(64 * factor), "narrow": min(int(3 * factor), 2)}
        verdict = search.report(slope * factor**power)
        assert verdict == ("keep" if slope * factor**power <= expected else "undo")
    tolerable = [k / 32 for k in range(1, 32) if slope * (k / 32) ** power <= expected]
    assert search.factors == (dict.fromkeys(("wide", "narrow"), max(tolerable)) if tolerable else {})
    assert search.drop == (slope * max(tolerable) ** power if tolerable else 0)
    assert search.removals == {}


def test_it_goes_on_from_its_state_anywhere():
    search = UniformSearch(LAYERS, 0.1)
    tried = []
    while search.trial is not None:
        search, state = UniformSearch(LAYERS, 0.1), json.loads(json.dumps(search.state_dict()))
        search.load_state_dict(state)
        tried.append(search.trial.factor)
        search.report(0.2 * search.trial.factor)
    assert tried == [0.5, 0.75, 0.625, 0.5625, 0.53125]


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
