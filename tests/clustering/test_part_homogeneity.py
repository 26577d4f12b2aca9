"""Part-based homogeneity: which clusters are split, into what, and how they are numbered."""

import warnings

import numpy as np
import pytest
import torch

from lightning_reid.clustering import part_based_homogeneity
from lightning_reid.clustering.silhouette import silhouette_samples


def one_bad_cluster(good=12, size=8):
    """``good`` tight clusters, and as the last number one that mixes two upper with two lower looks; one point of noise at the end."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(good + 1).repeat_interleave(size)
    centers = 10 * torch.randn(good + 1, 6, generator=draw)
    looks = torch.stack([torch.arange(size) % 4 // 2, torch.arange(size) % 2])  # [2, size]: upper and lower, all four pairs
    embeddings = centers[labels] + 0.05 * torch.randn(len(labels), 6, generator=draw)
    embeddings[-size:] += 8 * torch.randn(size, 6, generator=draw)
    upper, lower = (embeddings + 0.01 * torch.randn(len(labels), 6, generator=draw) for _ in range(2))
    upper[-size:], lower[-size:] = (50.0 * looks[part][:, None] + 0.01 * torch.randn(size, 6, generator=draw) for part in range(2))
    with_noise = [torch.cat([rows, torch.zeros(1, 6)]) for rows in (embeddings, upper, lower)]
    return torch.cat([labels, torch.tensor([-1])]), *with_noise, looks[0] * 2 + looks[1]


def test_the_imperfect_cluster_is_split_by_upper_and_lower_looks_and_nothing_else_changes():
    labels, embeddings, upper, lower, pairs = one_bad_cluster()
    result = part_based_homogeneity(labels, embeddings, upper, lower)
    assert result.imperfect.tolist() == [12]
    assert (result.num_imperfect, result.num_added) == (1, 3)
    split = result.labels[labels == 12]
    assert sorted(split.unique().tolist()) == [12, 13, 14, 15]
    assert ((split[:, None] == split) == (pairs[:, None] == pairs)).all()
    assert split[0] == 12
    assert result.labels[labels != 12].equal(labels[labels != 12])


def test_one_part_that_differs_splits_in_two():
    labels, embeddings, upper, lower, pairs = one_bad_cluster()
    lower[labels == 12] = 1.0
    result = part_based_homogeneity(labels, embeddings, upper, lower)
    split = result.labels[labels == 12]
    assert result.num_added == 1
    assert ((split[:, None] == split) == (pairs[:, None] // 2 == pairs // 2)).all()


def test_a_cluster_whose_images_all_look_the_same_is_not_split_and_nothing_is_warned_of():
    labels, embeddings, upper, lower, _ = one_bad_cluster()
    upper[labels == 12], lower[labels == 12] = 1.0, 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = part_based_homogeneity(labels, embeddings, upper, lower)
    assert result.num_imperfect == 1
    assert result.num_added == 0
    assert result.labels.equal(labels)


def test_threshold_is_three_population_standard_deviations_below_the_mean_of_the_clusters():
    labels, embeddings, upper, lower, _ = one_bad_cluster()
    scores = silhouette_samples(embeddings, labels).double().numpy()
    means = np.array([scores[labels.numpy() == number].mean() for number in range(13)])
    result = part_based_homogeneity(labels, embeddings, upper, lower)
    np.testing.assert_allclose(result.silhouettes, means, atol=1e-6)
    assert result.threshold == pytest.approx(means.mean() - 3 * means.std(), abs=1e-6)


def test_among_ten_clusters_none_lies_three_standard_deviations_out_but_two_do_reach():
    labels, embeddings, upper, lower, _ = one_bad_cluster(good=9)
    assert part_based_homogeneity(labels, embeddings, upper, lower).num_imperfect == 0
    assert part_based_homogeneity(labels, embeddings, upper, lower, num_std=2.0).imperfect.tolist() == [9]


def test_a_part_of_a_single_image_is_kept_as_a_cluster():
    labels, embeddings, upper, lower, _ = one_bad_cluster()
    lower[labels == 12] = 1.0
    upper[labels == 12] = 1.0
    upper[torch.nonzero(labels == 12)[3]] = 40.0
    result = part_based_homogeneity(labels, embeddings, upper, lower)
    assert (result.labels == 13).sum() == 1


def test_the_same_seed_gives_the_same_labels_and_arguments_are_left_as_they_were():
    labels, embeddings, upper, lower, _ = one_bad_cluster()
    before = [part.clone() for part in (labels, embeddings, upper, lower)]
    first = part_based_homogeneity(labels, embeddings, upper, lower, seed=4)
    assert part_based_homogeneity(labels, embeddings, upper, lower, seed=4).labels.equal(first.labels)
    assert all(now.equal(then) for now, then in zip((labels, embeddings, upper, lower), before))


@pytest.mark.parametrize("part", ["upper", "lower"])
def test_nan_in_a_part_is_reported_with_the_part(part):
    labels, embeddings, upper, lower, _ = one_bad_cluster()
    (upper if part == "upper" else lower)[5] = torch.nan
    with pytest.raises(ValueError, match=f"part-based homogeneity: {part} parts: 1 of 105 rows hold NaN"):
        part_based_homogeneity(labels, embeddings, upper, lower)


def test_one_cluster_is_refused_by_the_silhouette():
    points = torch.ones(4, 2)
    with pytest.raises(ValueError, match="silhouette: needs at least two clusters, got 1"):
        part_based_homogeneity(torch.zeros(4).long(), points, points, points)


def test_a_number_no_cluster_has_is_refused():
    points = torch.rand(4, 2)
    with pytest.raises(ValueError, match=r"every number in 0\.\.2, 1 is unused"):
        part_based_homogeneity(torch.tensor([0, 0, 2, 2]), points, points, points)


def test_parts_of_other_images_are_refused():
    points = torch.rand(4, 2)
    with pytest.raises(ValueError, match=r"same N images, got \(4,\), \(4, 2\), \(3, 2\), \(4, 2\)"):
        part_based_homogeneity(torch.tensor([0, 0, 1, 1]), points, points[:3], points)
