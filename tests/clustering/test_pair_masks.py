from __future__ import annotations

import pytest
import torch

from lightning_reid.clustering.pair_masks import inter_camera_masks
from lightning_reid.losses import masked_weighted_triplet_loss
from lightning_reid.records import InterCameraPairs


def test_masks_follow_section_4_3_2():
    # image 0 lists 1 (mutual) and 2 (one-sided); 3 is in nobody's list
    pairs = InterCameraPairs(
        ranked=torch.tensor([[1, 2], [0, -1], [-1, -1], [-1, -1]]),
        mutual=torch.tensor([[True, False], [True, False], [False, False], [False, False]]),
    )
    labels = torch.tensor([0, 1, 2, 0])
    positives, negatives = inter_camera_masks(torch.tensor([0, 1, 2, 3]), labels, pairs)
    assert positives.tolist() == [[False, True, False, False], [True, False, False, False], [False] * 4, [False] * 4]
    # 0: 1 and 2 are listed, 3 shares the label; 2 lists nobody, so all of another label are negatives
    assert negatives.tolist() == [[False] * 4, [False, False, True, True], [True, True, False, True], [False, True, True, False]]


def test_an_image_drawn_twice_is_the_same_positive_twice():
    pairs = InterCameraPairs(ranked=torch.tensor([[1], [0]]), mutual=torch.tensor([[True], [True]]))
    positives, negatives = inter_camera_masks(torch.tensor([0, 1, 1]), torch.tensor([0, 1]), pairs)
    assert positives.tolist() == [[False, True, True], [True, False, False], [True, False, False]]
    assert not negatives.any()


def test_noise_shares_a_pseudo_label_with_nobody_but_itself():
    # 0 and 1 are mutual; 1 and 2 are noise; image 1 was drawn twice
    pairs = InterCameraPairs(
        ranked=torch.tensor([[1], [0], [-1], [-1]]), mutual=torch.tensor([[True], [True], [False], [False]]), with_noise=True
    )
    positives, negatives = inter_camera_masks(torch.tensor([0, 1, 1, 2, 3]), torch.tensor([0, -1, -1, 1]), pairs)
    yes, no = True, False
    assert positives.tolist() == [[no, yes, yes, no, no], [yes, no, no, no, no], [yes, no, no, no, no], [no] * 5, [no] * 5]
    assert negatives.tolist() == [
        [no, no, no, yes, yes],  # 1 is listed
        [no, no, no, yes, yes],  # 0 is listed, 1 is itself
        [no, no, no, yes, yes],
        [yes, yes, yes, no, yes],  # 1 is noise too, and not known to be the same person
        [yes, yes, yes, yes, no],
    ]


def test_the_loss_of_a_pair_with_a_noise_end_equals_the_hand_computed_one():
    pairs = InterCameraPairs(ranked=torch.tensor([[1], [0], [-1]]), mutual=torch.tensor([[True], [True], [False]]), with_noise=True)
    positives, negatives = inter_camera_masks(torch.arange(3), torch.tensor([0, -1, -1]), pairs)
    embeddings = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    # anchor 0: softplus(1 - 3) = 0.126928; anchor 1: softplus(1 - 2) = 0.313262; anchor 2 has no positive
    assert masked_weighted_triplet_loss(embeddings, positives, negatives).item() == pytest.approx(0.220095, abs=1e-6)
