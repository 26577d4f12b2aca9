import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.losses.distances import pairwise_distances


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_euclidean_distance_equals_the_differences_worked_by_hand():
    rows, columns = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    torch.testing.assert_close(pairwise_distances(rows, columns), torch.tensor([[5.0, 1.0], [0.0, 18**0.5]]))


def test_cosine_distance_is_zero_for_parallel_one_for_right_and_two_for_opposite_directions():
    rows, columns = torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0], [-0.1, 0.0]])
    torch.testing.assert_close(pairwise_distances(rows, columns, "cosine"), torch.tensor([[0.0, 1.0, 2.0]]))


def test_near_duplicates_far_from_the_origin_keep_their_distance():
    # |x|^2 + |y|^2 - 2xy loses it: 2e8 has steps of 16 in float32
    row = torch.full((1, 2), 1e4)
    assert pairwise_distances(row, row + torch.tensor([[0.5, 0.0]])).item() == 0.5


@given(seed=st.integers(0, 99), shift=st.floats(-1e3, 1e3))
def test_euclidean_distance_ignores_a_shift_of_all_embeddings(seed, shift):
    rows = draw(seed, 5, 3)
    torch.testing.assert_close(pairwise_distances(rows + shift, rows + shift), pairwise_distances(rows, rows), atol=1e-9, rtol=0)


@given(seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3))
def test_cosine_distance_ignores_the_length_of_embeddings(seed, scale):
    rows = draw(seed, 5, 3)
    torch.testing.assert_close(pairwise_distances(rows * scale, rows, "cosine"), pairwise_distances(rows, rows, "cosine"))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_gradient_is_right_and_finite_where_embeddings_coincide(distance):
    rows = draw(0, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pairwise_distances(x, x[:2] * 1.5 + 0.1, distance), rows)
    same = torch.ones(3, 4, requires_grad=True)
    pairwise_distances(same, same, distance).sum().backward()
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_half_precision_is_computed_in_float32_also_under_autocast(dtype, distance):
    rows = draw(1, 6, 2048).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = pairwise_distances(rows, rows, distance)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), pairwise_distances(rows.double(), rows.double(), distance), atol=1e-5, rtol=1e-5)


def test_wrong_input_is_refused_with_what_came():
    with pytest.raises(ValueError, match=r"\[N, D\] of one D, got \(2, 3\) and \(2, 4\)"):
        pairwise_distances(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="got 'manhattan'"):
        pairwise_distances(torch.zeros(2, 3), torch.zeros(2, 3), "manhattan")  # type: ignore[arg-type]
