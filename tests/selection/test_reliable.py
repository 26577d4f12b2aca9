from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.selection import reliable_images

POINTS = torch.tensor([[0.0], [1.0], [2.0], [10.0], [13.0], [99.0]])
LABELS, EXEMPLARS = torch.tensor([0, 0, 0, 1, 1, -1]), torch.tensor([1, 3])


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (float("-inf"), [False] * 6),
        (0.0, [False] * 6),
        (1.0, [False, True, False, True, False, False]),  # below, not at: 0 and 2 lie at 1
        (1.1, [True, True, True, True, False, False]),
        (9.1, [True, True, True, True, True, False]),
        (float("inf"), [True, True, True, True, True, False]),
    ],
)
def test_images_below_the_threshold_of_their_own_exemplar_are_reliable(threshold, expected):
    assert reliable_images(POINTS, LABELS, EXEMPLARS, threshold).tolist() == expected


@given(seed=st.integers(0, 99), low=st.floats(0, 20), step=st.floats(0, 20), chunk_size=st.integers(1, 40))
@settings(max_examples=25)
def test_a_larger_threshold_keeps_what_a_smaller_one_selected_and_chunks_do_not_matter(seed, low, step, chunk_size):
    generator = torch.Generator().manual_seed(seed)
    embeddings, labels = torch.randn(30, 4, generator=generator), torch.randint(-1, 3, (30,), generator=generator)
    exemplars = torch.randint(0, 30, (3,), generator=generator)
    few, many = (reliable_images(embeddings, labels, exemplars, tau, chunk_size=chunk_size) for tau in (low, low + step))
    assert not (few & ~many).any()
    assert torch.equal(few, reliable_images(embeddings, labels, exemplars, low))


def test_no_images_and_no_clusters_give_no_reliable_image():
    none = torch.empty(0, dtype=torch.int64)
    assert reliable_images(torch.empty(0, 4), none, none, 1.0).tolist() == []
    assert reliable_images(POINTS, torch.full((6,), -1), none, 1.0).tolist() == [False] * 6


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="labels name cluster 1, but there are 1 exemplars"):
        reliable_images(POINTS, LABELS, EXEMPLARS[:1], 1.0)
    with pytest.raises(ValueError, match=r"exemplars must be rows 0\.\.5 of the embeddings, got \[1, 6\]"):
        reliable_images(POINTS, LABELS, torch.tensor([1, 6]), 1.0)
    with pytest.raises(ValueError, match="got NaN"):
        reliable_images(POINTS, LABELS, EXEMPLARS, float("nan"))
    with pytest.raises(ValueError, match=r"got labels \(5,\)"):
        reliable_images(POINTS, LABELS[:5], EXEMPLARS, 1.0)
