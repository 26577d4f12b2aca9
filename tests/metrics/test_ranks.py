"""Ranks of single entries, by counting and by search, against a stable sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.metrics import ranks


def ranks_by_sorting(similarity, rows, columns):
    order = similarity.argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) + 1)[rows, columns]


def table_of(seed, height, width, levels, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    similarity = torch.randint(-levels, levels + 1, (height, width), generator=draw).to(dtype) / levels
    similarity[torch.rand(height, width, generator=draw) < 0.2] = -torch.inf
    rows, columns = similarity.isfinite().nonzero().T
    chosen = torch.rand(len(rows), generator=draw) < 0.4
    return similarity, rows[chosen], columns[chosen]


@pytest.mark.parametrize("way", ["_ranks_by_counting", "_ranks_by_search", "ranks_in_chunk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_equal_those_of_a_stable_sort(way, dtype):
    @settings(max_examples=40)
    @given(seed=st.integers(0, 10**6), height=st.integers(1, 8), width=st.integers(1, 40), levels=st.sampled_from([1, 3, 10**5]))
    def check(seed, height, width, levels):
        table = table_of(seed, height, width, levels, dtype)
        assert getattr(ranks, way)(*table).tolist() == ranks_by_sorting(*table).tolist()

    check()


@pytest.mark.parametrize("way", ["_ranks_by_counting", "_ranks_by_search"])
def test_entries_that_are_all_equal_rank_from_left_to_right(way):
    rows, columns = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 4, 0, 3])
    assert getattr(ranks, way)(torch.full((2, 5), 0.25), rows, columns).tolist() == [2, 5, 1, 4]


def test_a_chunk_in_which_no_query_has_a_match_has_no_ranks():
    nothing = torch.zeros(0, dtype=torch.int64)
    for way in (ranks._ranks_by_counting, ranks._ranks_by_search):
        assert way(torch.rand(3, 5), nothing, nothing).shape == (0,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_ranks_on_a_cuda_device_equal_those_on_the_cpu():
    table = table_of(5, 50, 400, 20)
    assert ranks.ranks_in_chunk(*(part.cuda() for part in table)).tolist() == ranks.ranks_in_chunk(*table).tolist()
