"""Inter-camera mining: Algorithm 1 by hand and by brute force, and the figures reported of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.clustering import inter_camera_pairs
from lightning_reid.clustering.inter_camera import PairStatistics, pair_statistics
from lightning_reid.records import InterCameraPairs


def test_same_camera_images_are_removed_before_the_nearest_are_taken():
    positions = torch.tensor([[0.0], [0.1], [0.2], [1.0], [1.5]])
    pairs = inter_camera_pairs(positions, torch.tensor([0, 0, 0, 1, 1]), k=1)
    assert pairs.ranked.tolist() == [[3], [3], [3], [2], [2]]
    assert pairs.mutual.tolist() == [[False], [False], [True], [True], [False]]


@settings(max_examples=30)
@given(seed=st.integers(0, 999), total=st.integers(3, 25), k=st.integers(1, 8))
def test_pairs_equal_algorithm_1_by_brute_force(seed, total, k):
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(total, 3, generator=draw, dtype=torch.float64)
    camids = torch.randint(3, (total,), generator=draw)
    camids[:2] = torch.tensor([0, 1])
    rank = [
        sorted((j for j in range(total) if camids[j] != camids[i]), key=lambda j, i=i: float((points[i] - points[j]).norm()))[:k]
        for i in range(total)
    ]
    pairs = inter_camera_pairs(points, camids, k)
    assert [[j for j in row if j >= 0] for row in pairs.ranked.tolist()] == rank
    mutual = [[j for j, both in zip(row, marks) if both] for row, marks in zip(pairs.ranked.tolist(), pairs.mutual.tolist())]
    assert mutual == [[j for j in rank[i] if i in rank[j]] for i in range(total)]


def test_lists_longer_than_the_other_cameras_are_padded_and_padding_is_never_mutual():
    pairs = inter_camera_pairs(torch.eye(3), torch.tensor([0, 0, 5]), k=4)
    assert pairs.ranked[0].tolist() == [2, -1, -1, -1]
    assert not pairs.mutual[pairs.ranked < 0].any()


def test_one_camera_only_is_refused_with_the_way_on():
    with pytest.raises(ValueError, match=r"at least two cameras, all 4 have camid 7: .* leave inter-camera mining out"):
        inter_camera_pairs(torch.eye(4), torch.full((4,), 7))


def test_statistics_equal_hand_counted_values():
    # ranked:   0 -> 2, 3    1 -> 2, -    2 -> 0, 1    3 -> 1, 0; mutual are 0-2, 1-2 and 0-3
    ranked = torch.tensor([[2, 3], [2, -1], [0, 1], [1, 0]])
    mutual = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    pids, labels = torch.tensor([5, 5, 5, 6]), torch.tensor([0, -1, 0, 0])
    # seven entries; same person: 0-2, 1-2, 2-0, 2-1; not in one cluster: 1-2 and 2-1, for 1 is noise
    # mutual entries are six of them, all but 3-1
    assert pair_statistics(InterCameraPairs(ranked, mutual), labels, pids) == PairStatistics(
        num_mutual=3,
        rank_precision=pytest.approx(4 / 7),
        rank_hard_positive_fraction=pytest.approx(2 / 7),
        mutual_precision=pytest.approx(4 / 6),
        mutual_hard_positive_fraction=pytest.approx(2 / 6),
    )


def test_two_noise_images_of_one_person_are_a_hard_positive():
    pairs = InterCameraPairs(torch.tensor([[1], [0]]), torch.ones(2, 1, dtype=torch.bool))
    assert pair_statistics(pairs, torch.tensor([-1, -1]), torch.tensor([4, 4])).mutual_hard_positive_fraction == 1


def test_pairs_with_an_unknown_identity_are_counted_but_not_judged():
    pairs = InterCameraPairs(torch.tensor([[1], [0]]), torch.ones(2, 1, dtype=torch.bool))
    statistics = pair_statistics(pairs, torch.tensor([0, 0]), torch.tensor([4, -1]))
    assert statistics.num_mutual == 1
    assert math.isnan(statistics.rank_precision)
    assert math.isnan(statistics.mutual_hard_positive_fraction)


def test_statistics_of_other_lengths_are_refused():
    pairs = InterCameraPairs(torch.tensor([[1], [0]]), torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"of 2 images, got labels \(3,\) and pids \(2,\)"):
        pair_statistics(pairs, torch.zeros(3), torch.zeros(2))
