"""Bottom-up merging against the public code's labels, and against sorting all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.clustering import merge_closest_clusters
from lightning_reid.clustering.bottom_up import merges_to_reach

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "buc_merge.npz")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def merged_pair_by_pair(embeddings: Tensor, labels: list[int], num_merges: int, penalty: float) -> list[int]:
    """All pairs of points, sorted, joined until enough clusters are gone."""
    sizes = [labels.count(label) for label in range(max(labels) + 1)]
    pairs = sorted(
        (
            float((embeddings[i] - embeddings[j]).square().sum()) + penalty * (sizes[labels[i]] + sizes[labels[j]]),
            *sorted((labels[i], labels[j])),
        )
        for i in range(len(labels))
        for j in range(i)
        if labels[i] != labels[j]
    )
    now, gone = list(range(len(sizes))), 0
    for _, a, b in pairs:
        if gone == num_merges:
            break
        if now[a] != now[b]:
            low, high = sorted((now[a], now[b]))
            now, gone = [low if label == high else label for label in now], gone + 1
    survivors = sorted(set(now))
    return [survivors.index(now[label]) for label in labels]


@pytest.mark.parametrize("penalty", [0.0, 0.003, 0.05])
def test_eight_steps_give_the_labels_of_the_public_code(penalty):
    embeddings, labels = torch.from_numpy(GOLDEN["feat"]), torch.arange(40)
    for step, expected in enumerate(GOLDEN[f"lam{penalty}/labels"]):
        labels = merge_closest_clusters(embeddings, labels, int(GOLDEN["num_to_merge"]), size_penalty=penalty)
        assert labels.tolist() == expected.tolist(), step


@pytest.mark.parametrize("penalty", [0.0, 0.003, 0.1])
def test_two_hundred_points_merge_in_the_order_of_their_sorted_pairs(penalty):
    embeddings, labels = draw(1, 200, 4), torch.arange(200)
    for _ in range(6):
        slow = merged_pair_by_pair(embeddings, labels.tolist(), 30, penalty)
        labels = merge_closest_clusters(embeddings, labels, 30, size_penalty=penalty, tile=64)
        assert labels.tolist() == slow
    assert int(labels.max()) == 19


@given(seed=st.integers(0, 999), points=st.integers(2, 14), grid=st.integers(1, 5), tile=st.integers(1, 16), data=st.data())
@settings(max_examples=60)
def test_ties_duplicates_and_tiles_make_no_difference(seed, points, grid, tile, data):
    # many equal distances; in one dimension they are computed without rounding
    embeddings = torch.randint(0, grid, (points, 1), generator=torch.Generator().manual_seed(seed)).double()
    labels = torch.unique(torch.randint(0, points, (points,), generator=torch.Generator().manual_seed(seed + 1)), return_inverse=True)[1]
    merges = data.draw(st.integers(0, int(labels.max())))
    found = merge_closest_clusters(embeddings, labels, merges, size_penalty=0.25, tile=tile)
    assert found.tolist() == merged_pair_by_pair(embeddings, labels.tolist(), merges, 0.25)


def test_the_penalty_keeps_large_clusters_apart():
    embeddings = torch.tensor([[0.0], [0.1], [0.2], [1.0], [2.1]])
    labels = torch.tensor([0, 0, 0, 1, 2])
    assert merge_closest_clusters(embeddings, labels, 1, size_penalty=0.0).tolist() == [0, 0, 0, 0, 1]  # 0.64 against 1.21
    assert merge_closest_clusters(embeddings, labels, 1, size_penalty=0.5).tolist() == [0, 0, 0, 1, 1]  # 2.64 against 2.21


def test_everything_can_become_one_cluster_and_nothing_can_be_merged():
    assert merge_closest_clusters(draw(0, 5, 3), torch.arange(5), 4).tolist() == [0] * 5
    assert merge_closest_clusters(draw(0, 5, 3), torch.arange(5), 0).tolist() == [0, 1, 2, 3, 4]
    assert merge_closest_clusters(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), 0).shape == (0,)


def test_what_cannot_be_merged_is_refused():
    embeddings = draw(0, 4, 3)
    with pytest.raises(ValueError, match=r"need num_merges in 0\.\.3, .* got 4, 0\.003 and 2048"):
        merge_closest_clusters(embeddings, torch.arange(4), 4)
    for labels in ([0, 1, -1, 2], [0, 1, 3, 3]):
        with pytest.raises(ValueError, match=r"labels must be 0\.\.K-1, each taken"):
            merge_closest_clusters(embeddings, torch.tensor(labels), 1)
    with pytest.raises(ValueError, match=r"for each of the 4 embeddings, got shape \(3,\)"):
        merge_closest_clusters(embeddings, torch.arange(3), 1)
    with pytest.raises(ValueError, match="1 of 4 rows hold NaN"):
        merge_closest_clusters(torch.cat([embeddings[:3], torch.full((1, 3), torch.nan)]), torch.arange(4), 1)


@given(clusters=st.integers(1, 500), expected=st.integers(1, 500), steps=st.integers(1, 30))
@settings(max_examples=40)
def test_the_merges_of_a_profile_reach_the_expected_number_in_the_last_step_and_not_before(clusters, expected, steps):
    merges = merges_to_reach(clusters, expected, steps)
    assert clusters - merges * steps <= max(expected, clusters - steps)
    if merges > 1:
        assert clusters - (merges - 1) * steps > expected
    with pytest.raises(ValueError, match="must be at least 1"):
        merges_to_reach(clusters, expected, 0)
