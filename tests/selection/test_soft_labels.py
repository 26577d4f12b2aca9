from __future__ import annotations

import math

import pytest
import torch

from lightning_reid.selection import soft_pseudo_labels


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
