"""Distances of pairs against loops, and the threshold against its definition."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.metrics import pair_distances, verification_rates
from lightning_reid.metrics.matching import Matching


def drawn(seed: int):
    generator = torch.Generator().manual_seed(seed)
    query, gallery = (torch.randn(count, 6, generator=generator, dtype=torch.float64) for count in (30, 70))
    labels = [torch.randint(low, 6, (count,), generator=generator) for low, count in ((1, 30), (-1, 70), (0, 30), (0, 70))]
    return query, gallery, labels


def slowly(query, gallery, labels, protocol) -> tuple[list[float], list[float]]:
    same, different = [], []
    query_pids, gallery_pids, query_camids, gallery_camids = (one.tolist() for one in labels)
    for q in range(len(query)):
        for g in range(len(gallery)):
            own = query_pids[q] == gallery_pids[g]
            if gallery_pids[g] == -1 or (protocol == "market" and own and query_camids[q] == gallery_camids[g]):
                continue
            cosine = float(query[q] @ gallery[g] / query[q].norm() / gallery[g].norm())
            (same if own else different).append(1 - cosine)
    return same, different


@pytest.mark.parametrize("protocol", ["market", "no-camera"])
@pytest.mark.parametrize("seed", range(3))
def test_every_pair_that_counts_is_in_the_bin_of_its_distance(seed, protocol):
    query, gallery, labels = drawn(seed)
    found = pair_distances(query, gallery, Matching(*labels, protocol), bins=20, false_match_rate=0.1)
    for counts, distances in zip((found.same, found.different), slowly(query, gallery, labels, protocol)):
        expected = [sum(low <= one < high for one in distances) for low, high in zip(found.edges[:-1].tolist(), found.edges[1:].tolist())]
        assert counts.tolist() == expected
    assert int(found.same.sum()) > 20


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_within_the_threshold_lie_no_more_strangers_than_were_allowed_and_beyond_it_more_would(rate):
    query, gallery, labels = drawn(5)
    found = pair_distances(query, gallery, Matching(*labels, "market"), false_match_rate=rate)
    same, different = slowly(query, gallery, labels, "market")
    within = sum(one < found.threshold - 1e-9 for one in different)
    reached = sum(one <= found.threshold + 1e-9 for one in different)
    assert within <= rate * len(different) < reached
    assert found.true_match_rate == pytest.approx(sum(one < found.threshold - 1e-9 for one in same) / len(same))


def test_without_cameras_the_threshold_is_that_of_verification():
    query, gallery, labels = drawn(6)
    labels[1] = labels[1].clamp_min(1)  # verification knows no junk
    found = pair_distances(query, gallery, Matching(*labels, "no-camera"), false_match_rate=0.05)
    rates = verification_rates(query, labels[0], gallery, labels[1], far=[0.05])
    assert found.threshold == pytest.approx(1 - float(rates.thresholds[0]))
    assert found.true_match_rate == pytest.approx(float(rates.true[0]))


def test_too_few_pairs_for_a_rate_have_no_threshold_and_all_others_are_told():
    matching = Matching(torch.tensor([1]), torch.tensor([1, 2]), None, None, "no-camera")
    found = pair_distances(torch.eye(2)[:1], torch.eye(2), matching, false_match_rate=0.5, bins=4)
    assert (found.threshold, found.true_match_rate) == (None, None)
    assert (found.same.tolist(), found.different.tolist()) == ([1, 0, 0, 0], [0, 0, 1, 0])


@pytest.mark.parametrize("pids", [[1, 1], [2, 2]])
def test_pairs_of_one_kind_alone_are_refused(pids):
    matching = Matching(torch.tensor([1]), torch.tensor(pids), None, None, "no-camera")
    with pytest.raises(ValueError, match="distances want pairs of one person and of two, got"):
        pair_distances(torch.eye(2)[:1], torch.eye(2), matching)


@pytest.mark.parametrize(("option", "value"), [("false_match_rate", 0.0), ("false_match_rate", 1.0), ("bins", 0), ("bins", 2.5)])
def test_an_option_out_of_range_is_refused_by_name(option, value):
    matching = Matching(torch.tensor([1]), torch.tensor([1, 2]), None, None, "no-camera")
    with pytest.raises(ValueError, match=f"^{option} must be "):
        pair_distances(torch.eye(2)[:1], torch.eye(2), matching, **{option: value})
