"""The threshold that is read off distances to exemplars."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.selection.exemplar_threshold import exemplar_threshold


def threshold_of(distances: list[float], right: list[bool], **options):
    """Of labeled images so far from an exemplar of their person, or of an unlabeled one; the exemplar of person 0 stands at 0."""
    rows = [0.0, *[distance**0.5 for distance in distances]]
    embeddings = torch.tensor([[*rows, 0.0]]).T
    labels = torch.tensor([0, *[0 if one else 1 for one in right], 1])
    exemplars = torch.tensor([0, len(rows)])
    return exemplar_threshold(embeddings, labels, exemplars, torch.zeros(len(rows)).long(), **options)


def test_it_lies_where_right_exemplars_end_and_wrong_ones_begin():
    found = threshold_of([1.0, 2.0, 3.0, 7.0, 8.0], [True, True, True, False, False])
    assert 3 < found.value <= 7
    assert (found.crosses, found.error) == (True, 0.0)
    assert (int(found.positives.sum()), int(found.negatives.sum())) == (3, 2)  # the exemplar itself is not counted


def test_the_error_is_the_mean_share_of_images_on_the_wrong_side():
    found = threshold_of([1.0, 2.0, 9.0, 8.0, 8.5], [True, True, True, False, False])
    assert 2 < found.value <= 8
    assert found.error == pytest.approx(1 / 6)  # one of three right ones lies beyond


def test_an_exemplar_of_another_labeled_person_is_wrong():
    embeddings, labels = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 0])
    found = exemplar_threshold(embeddings, labels, torch.tensor([0]), torch.tensor([0, 0, 1]))
    assert 1 < found.value <= 9
    assert int(found.negatives.sum()) == 1


def test_where_all_are_right_all_are_accepted_and_where_none_is_none():
    every = threshold_of([1.0, 4.0], [True, True])
    assert every.value > 4
    assert every.crosses
    none = threshold_of([1.0, 4.0], [False, False])
    assert (none.value, none.crosses, none.error) == (0.0, False, 0.5)


def test_noise_is_not_counted_and_without_a_labeled_image_in_a_cluster_it_says_so():
    embeddings, exemplars, pids = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0]), torch.tensor([0, 0])
    with pytest.raises(ValueError, match="none of 2 labeled images is in a cluster of which it is not the exemplar"):
        exemplar_threshold(embeddings, torch.tensor([0, -1, 0]), exemplars, pids)
    with pytest.raises(ValueError, match="at most as many pids, got 3 embeddings, 3 labels and 4 pids"):
        exemplar_threshold(embeddings, torch.tensor([0, 0, 0]), exemplars, torch.zeros(4).long())
    with pytest.raises(ValueError, match="num_bins must be"):
        exemplar_threshold(embeddings, torch.tensor([0, 0, 0]), exemplars, pids, num_bins=1)


def test_a_nobody_a_broken_row_and_labels_that_are_none_are_refused():
    embeddings, labels, exemplars, pids = torch.rand(3, 2), torch.zeros(3).long(), torch.tensor([0]), torch.tensor([0, 0])
    with pytest.raises(ValueError, match="labeled images show somebody, from 0 on, got pid -1"):
        exemplar_threshold(embeddings, labels, exemplars, pids - torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"must be rows of int64, got torch\.float32"):
        exemplar_threshold(embeddings, labels.float(), exemplars, pids)
    with pytest.raises(ValueError, match="1 of 3 rows hold NaN"):
        exemplar_threshold(embeddings.index_fill(0, torch.tensor([1]), float("nan")), labels, exemplars, pids)
