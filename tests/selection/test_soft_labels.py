from __future__ import annotations

import math

import pytest
import torch

from lightning_reid.selection import soft_pseudo_labels
from lightning_reid.selection.soft_labels import own_exemplar_distance


def test_soft_labels_equal_hand_computed_values():
    # squared distances 1 and 4: 1 / (1 + e^-3) = 0.952574; distances 1 and 2: 1 / (1 + e^-1) = 0.731059
    embeddings, exemplars = torch.tensor([[1.0]]), torch.tensor([[0.0], [3.0]])
    assert soft_pseudo_labels(embeddings, exemplars)[0].tolist() == pytest.approx([0.952574, 0.047426], abs=1e-6)
    assert soft_pseudo_labels(embeddings, exemplars, distance="euclidean")[0].tolist() == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert soft_pseudo_labels(embeddings, exemplars, temperature=3)[0, 0].item() == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)


def test_the_nearest_exemplar_has_the_largest_share_and_far_ones_do_not_overflow():
    embeddings = 1e3 * torch.randn(20, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    soft = soft_pseudo_labels(embeddings, embeddings[:5])
    assert torch.equal(soft.argmax(1), torch.cdist(embeddings, embeddings[:5]).argmin(1))
    torch.testing.assert_close(soft.sum(1), torch.ones(20, dtype=torch.float64))


def test_one_exemplar_equal_exemplars_and_no_images_are_defined():
    assert soft_pseudo_labels(torch.randn(3, 2), torch.zeros(1, 2)).tolist() == [[1.0]] * 3
    assert soft_pseudo_labels(torch.ones(1, 2), torch.ones(4, 2)).tolist() == [[0.25] * 4]
    assert soft_pseudo_labels(torch.empty(0, 2), torch.ones(4, 2)).shape == (0, 4)


def test_half_precision_comes_back_in_float32_without_gradient():
    soft = soft_pseudo_labels(torch.randn(3, 2).half().requires_grad_(), torch.zeros(1, 2).half())
    assert soft.dtype == torch.float32
    assert not soft.requires_grad


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"at least one exemplar .*, got \(3, 2\) and \(0, 2\)"):
        soft_pseudo_labels(torch.randn(3, 2), torch.empty(0, 2))
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        soft_pseudo_labels(torch.randn(3, 2), torch.ones(1, 2), temperature=0)
    with pytest.raises(ValueError, match="distance must be one of"):
        soft_pseudo_labels(torch.randn(3, 2), torch.ones(1, 2), distance="cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exemplars: 1 of 1 rows hold NaN"):
        soft_pseudo_labels(torch.randn(3, 2), torch.full((1, 2), torch.nan))


def test_the_temperature_of_the_data_is_the_median_distance_to_the_own_exemplar_and_scales_with_the_embeddings():
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(40, 6, generator=draw, dtype=torch.float64)
    exemplars = torch.tensor([3, 17, 30])
    labels = torch.randint(-1, 3, (40,), generator=draw)
    labels[exemplars] = torch.arange(3)
    one_by_one = sorted(
        float((embeddings[row] - embeddings[exemplars[labels[row]]]).square().sum())
        for row in range(40)
        if labels[row] >= 0 and row not in exemplars.tolist()
    )
    middle = len(one_by_one) // 2
    median = one_by_one[middle] if len(one_by_one) % 2 else (one_by_one[middle - 1] + one_by_one[middle]) / 2
    found = own_exemplar_distance(embeddings, labels, exemplars)
    assert found == pytest.approx(median, rel=1e-12)
    assert own_exemplar_distance(10 * embeddings, labels, exemplars) == pytest.approx(100 * found, rel=1e-12)
    assert own_exemplar_distance(10 * embeddings, labels, exemplars, distance="euclidean") == pytest.approx(10 * math.sqrt(found), rel=0.2)
    soft = soft_pseudo_labels(embeddings, embeddings[exemplars], temperature=found)
    longer = soft_pseudo_labels(100 * embeddings, 100 * embeddings[exemplars], temperature=1e4 * found)
    torch.testing.assert_close(soft, longer)


@pytest.mark.parametrize("labels", [[0, 1], [0, -1], [0, 0]])
def test_no_images_beside_exemplars_or_only_copies_of_them_give_no_temperature(labels):
    exemplars = torch.arange(max(labels) + 1)
    with pytest.raises(ValueError, match="gives no temperature: give a number"):
        own_exemplar_distance(torch.ones(2, 3), torch.tensor(labels), exemplars)
