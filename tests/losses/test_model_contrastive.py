from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import model_contrastive_loss


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 99), temperature=st.floats(0.05, 5))
@settings(max_examples=20)
def test_it_is_eq_7_5_image_by_image(seed, temperature):
    mine, glob, prev = (draw(seed + k, 5, 3) for k in (0, 100, 200))
    near, far = (F.cosine_similarity(mine, other).tolist() for other in (glob, prev))
    slow = [-math.log(math.exp(a / temperature) / (math.exp(a / temperature) + math.exp(b / temperature))) for a, b in zip(near, far)]
    assert model_contrastive_loss(mine, glob, prev, temperature).item() == pytest.approx(sum(slow) / 5, abs=1e-12)


def test_only_the_local_model_learns():
    mine, glob, prev = (draw(k, 3, 4).requires_grad_() for k in range(3))
    assert torch.autograd.gradcheck(lambda x: model_contrastive_loss(x, glob.detach(), prev.detach()), mine)
    model_contrastive_loss(mine, glob, prev).backward()
    assert glob.grad is None
    assert prev.grad is None


def test_models_that_agree_lose_the_logarithm_of_two_and_no_images_lose_nothing():
    same = draw(3, 4, 6)
    assert model_contrastive_loss(same, same, same).item() == pytest.approx(math.log(2))
    assert model_contrastive_loss(same[:0], same[:0], same[:0]).item() == 0
    assert model_contrastive_loss(same, same, -same, 1e-3).item() == pytest.approx(0, abs=1e-12)


def test_other_shapes_and_temperatures_are_refused():
    with pytest.raises(ValueError, match=r"the same images to one width, got \[\(2, 3\), \(2, 3\), \(2, 4\)\]"):
        model_contrastive_loss(draw(0, 2, 3), draw(1, 2, 3), draw(2, 2, 4))
    with pytest.raises(ValueError, match=r"temperature must be a number in \(0, .* got 0"):
        model_contrastive_loss(draw(0, 2, 3), draw(1, 2, 3), draw(2, 2, 3), 0)
