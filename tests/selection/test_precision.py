from __future__ import annotations

import math

import torch

from lightning_reid.selection import selection_precision


def test_precision_equals_hand_computed_value():
    labels = torch.tensor([0, 0, 0, 1, 1, -1])
    exemplars, pids = torch.tensor([0, 3]), torch.tensor([5, 5, 6, 7, 7, 5])
    everything = torch.ones(6, dtype=torch.bool)
    assert selection_precision(everything, labels, exemplars, pids) == 2 / 3  # rows 1 and 4 are right, 2 is wrong, exemplars do not count
    assert selection_precision(torch.tensor([1, 1, 0, 1, 0, 1]).bool(), labels, exemplars, pids) == 1


def test_images_and_exemplars_of_unknown_identity_do_not_count():
    labels, exemplars = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 3])
    pids = torch.tensor([5, -1, 6, 0, 7])
    assert selection_precision(torch.ones(5, dtype=torch.bool), labels, exemplars, pids) == 0


def test_exemplars_alone_have_no_precision():
    selected = torch.tensor([1, 0, 0]).bool()
    assert math.isnan(selection_precision(selected, torch.tensor([0, 0, 0]), torch.tensor([0]), torch.tensor([1, 1, 1])))
    assert math.isnan(selection_precision(selected, torch.full((3,), -1), torch.empty(0, dtype=torch.int64), torch.tensor([1, 1, 1])))
