"""CosFace and the one-vs-all heads against the public code's numbers, and written out image by image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import cosface_loss, one_vs_all_loss

GOLDEN = {name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parents[1] / "goldens" / "fedfr_losses.npz").items()}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_cosface_is_that_of_the_public_code():
    cosines, labels = GOLDEN["cos"].clone().requires_grad_(), GOLDEN["labels"]
    counted = labels >= 0
    loss = cosface_loss(cosines, labels)
    loss.backward()
    torch.testing.assert_close(loss.detach(), GOLDEN["cosface_ce/loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cosines.grad[counted], GOLDEN["cosface_ce/grad_cos"], rtol=1e-5, atol=1e-6)
    assert not cosines.grad[~counted].any()


def test_the_one_vs_all_heads_are_those_of_the_public_code():
    state = {name.removeprefix("dfc/sd/"): tensor.clone().requires_grad_() for name, tensor in GOLDEN.items() if name.startswith("dfc/sd/")}
    x = GOLDEN["dfc/x"].clone().requires_grad_()
    features = F.linear(x, state["converter.0.weight"], state["converter.0.bias"])
    cosines = F.normalize(features) @ F.normalize(state["weight"]).T
    loss = one_vs_all_loss(cosines, state["bias"], GOLDEN["dfc/labels"])
    loss.backward()
    torch.testing.assert_close(loss.detach(), GOLDEN["dfc/loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad, GOLDEN["dfc/grad_x"], rtol=1e-4, atol=1e-6)
    for name, tensor in state.items():
        torch.testing.assert_close(tensor.grad, GOLDEN[f"dfc/grad_{name}"], rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 99), margin=st.floats(0, 0.8), scale=st.floats(1, 64))
@settings(max_examples=20)
def test_cosface_is_eq_7_1_image_by_image(seed, margin, scale):
    cosines, labels = draw(seed, 4, 5), [3, 0, -1, 4]
    slow = []
    for row, label in zip(cosines.tolist(), labels):
        if label >= 0:
            right = math.exp(scale * (row[label] - margin))
            slow.append(-math.log(right / (right + sum(math.exp(scale * value) for j, value in enumerate(row) if j != label))))
    assert cosface_loss(cosines, torch.tensor(labels), scale=scale, margin=margin).item() == pytest.approx(sum(slow) / 3, abs=1e-12)


@given(seed=st.integers(0, 99), share=st.floats(0.1, 0.9), exponent=st.floats(1, 4))
@settings(max_examples=20)
def test_the_heads_loss_is_eq_7_6_image_by_image(seed, share, exponent):
    cosines, bias, labels = draw(seed, 3, 4), draw(seed + 100, 4), [2, 7, 0]
    slow = 0.0
    for row, label in zip(cosines.tolist(), labels):
        for j, value in enumerate(row):
            g = 2 * ((value + 1) / 2) ** exponent - 1
            if j == label:
                slow += share / 30 * math.log1p(math.exp(-30 * (g - 0.4) - float(bias[j])))
            else:
                slow += (1 - share) / 30 * math.log1p(math.exp(30 * (g + 0.4) + float(bias[j])))
    found = one_vs_all_loss(cosines, bias, torch.tensor(labels), share=share, exponent=exponent)
    assert found.item() == pytest.approx(slow / 3, abs=1e-12)


def test_gradients_are_those_of_finite_differences():
    labels = torch.tensor([0, 2, -1])
    assert torch.autograd.gradcheck(lambda x: cosface_loss(x, labels), draw(0, 3, 3).requires_grad_())
    heads = (draw(1, 3, 2).requires_grad_(), draw(2, 2).requires_grad_())
    assert torch.autograd.gradcheck(lambda x, b: one_vs_all_loss(x, b, labels), heads)


def test_empty_batches_strangers_and_huge_scales_give_finite_losses():
    for loss in (
        cosface_loss(torch.zeros(0, 3), torch.empty(0, dtype=torch.int64)),
        cosface_loss(torch.zeros(2, 3), torch.full((2,), -1)),
        one_vs_all_loss(torch.zeros(0, 3), torch.zeros(3), torch.empty(0, dtype=torch.int64)),
    ):
        assert loss.item() == 0
    past_one = torch.tensor([[-1.0000001, 1.0000001]])
    assert one_vs_all_loss(past_one, torch.zeros(2), torch.tensor([0]), exponent=2.5).isfinite()
    assert cosface_loss(torch.tensor([[1.0, -1.0]]), torch.tensor([1]), scale=1e4).item() == pytest.approx(24_000)


def test_what_makes_no_sense_is_refused():
    cosines, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    for wrong in ({"scale": 0.0}, {"margin": -0.1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a number"):
            cosface_loss(cosines, labels, **wrong)
    with pytest.raises(ValueError, match=r"need cosines \[B, C\] and labels \[B\], got \(2, 3\) and \(3,\)"):
        cosface_loss(cosines, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(2,\) and \(2,\)"):
        one_vs_all_loss(cosines, torch.zeros(2), labels)
    with pytest.raises(ValueError, match=r"share must be a number in \(0, 1\), got 1\.0"):
        one_vs_all_loss(cosines, torch.zeros(3), labels, share=1.0)
