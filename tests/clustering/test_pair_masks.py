from __future__ import annotations

import torch

from lightning_reid.clustering import inter_camera_masks
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
