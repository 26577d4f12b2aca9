from __future__ import annotations

import math

import pytest
import torch

from lightning_reid.selection.precision import precision_of_nearest, selection_precision


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


def test_the_nearest_are_taken_first_and_their_threshold_is_the_farthest_of_them():
    places = torch.tensor([[0.0], [1.0], [-2.0], [3.0], [10.0], [10.5]], dtype=torch.float64)
    labels, exemplars, pids = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 4]), torch.tensor([5, 5, 5, 6, 7, 8])
    thresholds, precisions = precision_of_nearest(places, labels, exemplars, pids, [0.25, 0.5, 0.75, 1.0])
    assert thresholds == [0.25, 1, 4, 9]  # squared distances of rows 5, 1, 2, 3
    assert precisions == pytest.approx([0, 1 / 2, 2 / 3, 1 / 2])


def test_every_threshold_selects_what_its_precision_is_of():
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(60, 4, generator=generator, dtype=torch.float64), torch.arange(60) % 5
    exemplars, pids = torch.arange(5), torch.randint(1, 4, (60,), generator=generator)
    thresholds, precisions = precision_of_nearest(points, labels, exemplars, pids, [0.3, 0.9])
    for threshold, precision in zip(thresholds, precisions, strict=True):
        selected = (points - points[exemplars[labels]]).square().sum(1) <= threshold
        assert selection_precision(selected, labels, exemplars, pids) == pytest.approx(precision)


def test_without_counted_images_the_precision_of_the_nearest_is_nan():
    thresholds, precisions = precision_of_nearest(torch.ones(2, 1), torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1, 2]), [1.0])
    assert math.isnan(thresholds[0])
    assert math.isnan(precisions[0])
