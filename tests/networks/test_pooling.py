import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.networks.pooling import GeneralizedMeanPooling, GlobalAveragePooling, part_pooling


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_average_pooling_equals_the_mean_worked_by_hand():
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, -4.0]]]])
    assert GlobalAveragePooling()(feature_map).tolist() == [[3.0, -1.0]]


def test_generalized_mean_equals_the_cube_root_of_the_mean_cube():
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, -5.0]]]])  # (1 + 8 + 27 + 0) / 4 = 9
    assert GeneralizedMeanPooling()(feature_map).item() == pytest.approx(9 ** (1 / 3), rel=1e-6)


@given(p=st.floats(0.2, 200), scale=st.floats(1e-3, 1e4))
def test_generalized_mean_lies_between_smallest_and_largest_value_for_any_exponent(p, scale):
    feature_map = (draw(2, 3, 4, 2).abs() + 0.1) * scale
    pooled = GeneralizedMeanPooling(p).double()(feature_map)
    low, high = feature_map.amin((2, 3)), feature_map.amax((2, 3))
    assert ((low * (1 - 1e-9) <= pooled) & (pooled <= high * (1 + 1e-9))).all()


def test_generalized_mean_has_the_gradient_of_finite_differences():
    pooling = GeneralizedMeanPooling().double()
    assert torch.autograd.gradcheck(
        lambda x, p: torch.func.functional_call(pooling, {"p": p}, (x,)),
        (draw(2, 2, 3, 2).abs() + 0.1, pooling.p.detach().clone().requires_grad_()),
    )
    assert torch.autograd.gradcheck(pooling, (draw(2, 2, 3, 2).abs() + 0.1).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_generalized_mean_of_large_half_precision_values_does_not_overflow(dtype):
    feature_map = (2e4 * draw(2, 3, 4, 2).abs().clamp(max=3)).to(dtype)  # their cubes are beyond float16 by far
    pooled = GeneralizedMeanPooling()(feature_map)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled.double(), GeneralizedMeanPooling().double()(feature_map.double()), rtol=0.01, atol=0)


def test_parts_are_the_means_of_the_upper_and_the_lower_half():
    feature_map = draw(2, 5, 8, 3)
    parts = part_pooling(feature_map)
    assert parts.shape == (2, 2, 5)
    torch.testing.assert_close(parts[:, 0], feature_map[:, :, :4].mean((2, 3)))
    torch.testing.assert_close(parts[:, 1], feature_map[:, :, 4:].mean((2, 3)))


def test_parts_of_an_odd_map_share_the_middle_row():
    feature_map = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1)
    assert part_pooling(feature_map).tolist() == [[[1.5], [4.0]]]


def test_more_parts_than_rows_are_refused():
    with pytest.raises(ValueError, match=r"cannot pool 3 parts from the rows of a feature map \[1, 1, 2, 2\]"):
        part_pooling(torch.zeros(1, 1, 2, 2), num_parts=3)


def test_an_exponent_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"p must be a number in \(0, .* got 0"):
        GeneralizedMeanPooling(p=0)
