from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.linking.alignment import candidates_to_embed, largest_box, link_candidates


def box(width: float, height: float = 10.0) -> list[float]:
    return [0.0, 0.0, width, height]


def slow_links(boxes: list[list[list[float]]], embeddings: list[list[list[float]]], alpha: float) -> list[int]:
    """Eq. 2.2 in plain numbers: every candidate is compared in every frame, nothing is left out."""
    chosen, running = [], None
    for candidates, theirs in zip(boxes, embeddings):
        if not candidates:
            chosen.append(-1)
            continue
        if running is None:
            areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in candidates]
            row = areas.index(max(areas))
            running = theirs[row]
        else:
            distances = [math.dist(one, running) for one in theirs]
            row = distances.index(min(distances))
            running = [alpha * old + (1 - alpha) * new for old, new in zip(running, theirs[row])]
        chosen.append(row)
    return chosen


def random_tracklet(seed: int, num_frames: int, most: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, most + 1, (num_frames,), generator=generator).tolist()
    boxes = [torch.rand(count, 4, generator=generator, dtype=torch.float64) + torch.tensor([0, 0, 2, 2]) for count in counts]
    return boxes, [torch.randn(count, 3, generator=generator, dtype=torch.float64) for count in counts]


def test_the_largest_box_begins_and_the_nearest_embedding_goes_on():
    boxes = [torch.tensor([box(3), box(5)]), torch.tensor([box(9), box(2)]), torch.tensor([box(9), box(2)])]
    embeddings = [torch.tensor([[0.0], [10.0]]), torch.tensor([[2.0], [8.0]]), torch.tensor([[9.0], [1.0]])]
    assert link_candidates(boxes, embeddings).tolist() == [1, 1, 0]


def test_the_running_embedding_moves_by_a_tenth():
    # f_g = 10, then 0.9 * 10 + 0.1 * 0 = 9, so that 7.6 is nearer than 10.5; with the first one alone, or with the last, 10.5 or 7.6 were
    boxes = [torch.tensor([box(5)]), torch.tensor([box(5)]), torch.tensor([box(5), box(5)])]
    embeddings = [torch.tensor([[10.0]]), torch.tensor([[0.0]]), torch.tensor([[10.5], [7.6]])]
    assert link_candidates(boxes, embeddings, alpha=0.9).tolist() == [0, 0, 1]
    assert link_candidates(boxes, embeddings, alpha=1).tolist() == [0, 0, 0]


@given(seed=st.integers(0, 10_000), num_frames=st.integers(1, 8), most=st.integers(0, 4), alpha=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_links_are_those_of_the_slow_version(seed, num_frames, most, alpha):
    boxes, embeddings = random_tracklet(seed, num_frames, most)
    expected = slow_links([rows.tolist() for rows in boxes], [rows.tolist() for rows in embeddings], alpha)
    assert link_candidates(boxes, embeddings, alpha=alpha).tolist() == expected


@given(seed=st.integers(0, 10_000), num_frames=st.integers(1, 8), most=st.integers(0, 3))
def test_embeddings_that_are_not_asked_for_may_hold_anything(seed, num_frames, most):
    boxes, embeddings = random_tracklet(seed, num_frames, most)
    asked = set(candidates_to_embed(boxes))
    blanked = [torch.full_like(rows, torch.nan) for rows in embeddings]
    for frame, row in asked:
        blanked[frame][row] = embeddings[frame][row]
    assert link_candidates(boxes, blanked).tolist() == link_candidates(boxes, embeddings).tolist()


@given(seed=st.integers(0, 10_000), shift=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_links_do_not_change_when_all_embeddings_are_moved_and_scaled(seed, shift, scale):
    boxes, embeddings = random_tracklet(seed, 6, 3)
    moved = [scale * rows + shift for rows in embeddings]
    assert link_candidates(boxes, moved).tolist() == link_candidates(boxes, embeddings).tolist()


def test_nothing_is_embedded_where_there_is_nothing_to_decide():
    one, two, none = torch.tensor([box(1)]), torch.tensor([box(1), box(2)]), torch.empty(0, 4)
    assert candidates_to_embed([none, one, none, one]) == []
    assert candidates_to_embed([none, two, one, one]) == []
    assert candidates_to_embed([one, two, one]) == [(0, 0), (1, 0), (1, 1)]
    assert candidates_to_embed([two, none, one, two, one]) == [(0, 1), (2, 0), (3, 0), (3, 1)]
    assert candidates_to_embed([]) == []


def test_frames_without_candidates_leave_the_running_embedding_as_it_is():
    boxes = [torch.empty(0, 4), torch.tensor([box(5)]), torch.empty(0, 4), torch.tensor([box(9), box(1)])]
    embeddings = [torch.empty(0, 1), torch.tensor([[1.0]]), torch.empty(0, 1), torch.tensor([[5.0], [1.1]])]
    assert link_candidates(boxes, embeddings).tolist() == [-1, 0, -1, 1]


def test_a_tracklet_without_anybody_has_no_choice():
    assert link_candidates([torch.empty(0, 4)] * 3, [torch.empty(0, 8)] * 3).tolist() == [-1, -1, -1]
    assert link_candidates([], []).tolist() == []


def test_of_equal_boxes_and_equal_distances_the_first_is_taken():
    same = torch.tensor([box(2), box(2)])
    assert largest_box(same) == 0
    assert link_candidates([same, same], [torch.tensor([[1.0], [1.0]]), torch.tensor([[2.0], [0.0]])]).tolist() == [0, 0]


def test_near_ties_of_large_embeddings_are_decided_without_cancellation():
    boxes = [torch.tensor([box(2)]), torch.tensor([box(2), box(2)])]
    embeddings = [torch.tensor([[10_000.0]]), torch.tensor([[10_000.02], [10_000.01]])]
    assert link_candidates(boxes, embeddings).tolist() == [0, 1]


def test_arguments_are_not_changed():
    boxes, embeddings = random_tracklet(3, 6, 3)
    copies = [rows.clone() for rows in embeddings]
    link_candidates(boxes, embeddings)
    assert all(torch.equal(before, after) for before, after in zip(copies, embeddings))


def test_wrong_input_is_named():
    boxes = [torch.tensor([box(1), box(2)])] * 2
    with pytest.raises(ValueError, match=r"alpha .* in \[0, 1\], got 1\.1"):
        link_candidates(boxes, [torch.zeros(2, 3)] * 2, alpha=1.1)
    with pytest.raises(ValueError, match=r"same candidates a frame, got \[2, 2\] and \[2, 1\]"):
        link_candidates(boxes, [torch.zeros(2, 3), torch.zeros(1, 3)])
    with pytest.raises(ValueError, match="candidate 1 in frame 1 holds NaN"):
        link_candidates(boxes, [torch.zeros(2, 1), torch.tensor([[0.0], [torch.nan]])])
