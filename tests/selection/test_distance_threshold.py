from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.selection import distance_threshold
from lightning_reid.selection.distance_threshold import best_crossing


def line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def test_histograms_apart_give_the_middle_of_their_gap():
    # squared distances: 1 and 4 within the two identities, 81, 100, 121 and 144 between them
    found = distance_threshold(line(0, 1, 10, 12), torch.tensor([3, 3, 5, 5]), num_bins=2000)
    assert found.crosses
    assert found.error == 0
    assert found.value == pytest.approx((4 + 81) / 2, abs=144 / 2000)
    assert (found.positives.sum(), found.negatives.sum()) == (2, 4)


def test_of_several_crossings_the_one_with_fewest_wrong_pairs_is_taken():
    positives, negatives = torch.tensor([4, 1, 3, 0, 1, 1]), torch.tensor([0, 3, 0, 2, 3, 2])
    # they cross at 1 and at 3; wrong there: 6 + 0 and 2 + 3 of ten each
    assert best_crossing(torch.arange(7.0), positives, negatives) == (3.0, 0.25)


def test_each_histogram_counts_as_its_share_however_many_negative_pairs_there_are():
    positives, negatives = torch.tensor([4, 1, 3, 0, 1, 1]), torch.tensor([0, 3, 0, 2, 3, 2])
    assert best_crossing(torch.arange(7.0), positives, 1000 * negatives) == (3.0, 0.25)


def test_of_equally_good_crossings_the_first_is_taken_not_the_mean_of_all():
    positives, negatives = torch.tensor([2, 0, 2]), torch.tensor([0, 2, 2])
    assert best_crossing(torch.arange(4.0), positives, negatives)[0] == 1.0
    positives, negatives = torch.tensor([3, 1, 1, 0]), torch.tensor([0, 1, 1, 3])
    assert best_crossing(torch.arange(5.0), positives, negatives) == (1.0, 0.2)  # as good at 2 and at 3


@pytest.mark.parametrize(("positives", "negatives"), [([1, 2, 3], [1, 2, 3]), ([0, 0, 5], [5, 0, 0])], ids=["equal", "the wrong way round"])
def test_histograms_that_never_cross_accept_no_pair(positives, negatives):
    assert best_crossing(torch.arange(4.0), torch.tensor(positives), torch.tensor(negatives)) == (0.0, 0.5)


def test_all_points_equal_have_no_crossing():
    found = distance_threshold(torch.ones(6, 3), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert (found.value, found.crosses, found.error) == (0.0, False, 0.5)


@given(seed=st.integers(0, 500), chunk_size=st.integers(1, 30))
@settings(max_examples=30)
def test_no_threshold_at_all_assigns_fewer_pairs_wrongly(seed, chunk_size):
    # points on a grid of whole numbers: squared distances are whole numbers, and bins are narrower than 1
    generator = torch.Generator().manual_seed(seed)
    pids = torch.arange(24) % 5
    points = (pids[:, None] * 2 + torch.randint(0, 6, (24, 2), generator=generator)).double()
    found = distance_threshold(points, pids, num_bins=3000, chunk_size=chunk_size)
    pairs = [(float((points[i] - points[j]).square().sum()), bool(pids[i] == pids[j])) for i, j in itertools.combinations(range(24), 2)]

    def error(threshold: float) -> float:
        missed = sum(same and distance >= threshold for distance, same in pairs) / sum(same for _, same in pairs)
        wrong = sum(not same and distance < threshold for distance, same in pairs) / sum(not same for _, same in pairs)
        return (missed + wrong) / 2

    best = min(error(threshold) for threshold in {0.0, *(distance + 0.5 for distance, _ in pairs)})
    assert found.error == pytest.approx(best, abs=1e-12)
    assert error(found.value) == pytest.approx(best, abs=1e-12)
    assert int(found.positives.sum() + found.negatives.sum()) == len(pairs)


def test_images_without_identity_and_the_order_of_rows_do_not_matter():
    points, pids = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(40) % 6
    points += 2 * pids[:, None]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    found = distance_threshold(points, pids)
    mixed = distance_threshold(torch.cat([points[order], 1e3 * torch.ones(3, 4)]), torch.cat([pids[order], torch.full((3,), -1)]))
    assert found.value == mixed.value
    assert torch.equal(found.negatives, mixed.negatives)


def test_no_pair_of_one_identity_or_of_two_is_an_error_that_counts_them():
    with pytest.raises(ValueError, match="4 labeled images of 1 identities hold no such pairs of both kinds"):
        distance_threshold(line(0, 1, 2, 3), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="4 labeled images of 4 identities"):
        distance_threshold(line(0, 1, 2, 3), torch.arange(4))
    with pytest.raises(ValueError, match="0 labeled images of 0 identities"):
        distance_threshold(torch.empty(0, 2), torch.empty(0, dtype=torch.int64))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="the first is row 2"):
        distance_threshold(line(0, 1, float("nan"), 3), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match=r"got pids \(3,\) for embeddings \(4, 1\)"):
        distance_threshold(line(0, 1, 2, 3), torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match="num_bins >= 2"):
        distance_threshold(line(0, 1, 2, 3), torch.tensor([0, 0, 1, 1]), num_bins=1)


@given(seed=st.integers(0, 99), quantile=st.sampled_from([0.05, 0.5, 0.8, 0.95]))
def test_a_quantile_accepts_that_share_of_the_pairs_of_one_identity_whatever_the_bins(seed, quantile):
    draw = torch.Generator().manual_seed(seed)
    embeddings, pids = torch.randn(24, 3, generator=draw, dtype=torch.float64), torch.arange(24) % 6
    within = [float((embeddings[a] - embeddings[b]).square().sum()) for a, b in itertools.combinations(range(24), 2) if pids[a] == pids[b]]
    between = [float((embeddings[a] - embeddings[b]).square().sum()) for a, b in itertools.combinations(range(24), 2) if pids[a] != pids[b]]
    found = distance_threshold(embeddings, pids, num_bins=7, chunk_size=5, quantile=quantile)
    near = sorted(within)[max(0, math.ceil(quantile * len(within)) - 1)]
    assert found.value == pytest.approx(near, rel=1e-9)
    wrong = (1 - sum(one <= near for one in within) / len(within) + sum(one <= near for one in between) / len(between)) / 2
    assert found.error == pytest.approx(wrong, abs=1e-12)


def test_where_histograms_do_not_touch_a_quantile_stays_within_the_positive_pairs_and_the_crossing_does_not():
    places, pids = line(0, 1, 10, 12), torch.tensor([3, 3, 5, 5])
    assert distance_threshold(places, pids, num_bins=2000, quantile=0.9).value == 4
    assert distance_threshold(places, pids, num_bins=2000).value > 40
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="quantile must be above 0 and below 1"):
            distance_threshold(places, pids, quantile=wrong)
