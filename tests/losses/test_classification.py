from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_reid.losses import label_smoothed_cross_entropy

GOLDENS = Path(__file__).parents[1] / "goldens"


def test_label_smoothed_cross_entropy_equals_the_golden_number():
    golden = np.load(GOLDENS / "triplet_losses.npz")
    logits, labels = torch.from_numpy(golden["ls/score"]), torch.from_numpy(golden["labels"])
    torch.testing.assert_close(label_smoothed_cross_entropy(logits, labels), torch.from_numpy(golden["ls/loss"]))


def test_label_smoothed_cross_entropy_equals_hand_computed_value():
    logits = torch.tensor([[3.0, 1.0]]).double().log()
    # q = (0.9, 0.1): -0.9 ln(3/4) - 0.1 ln(1/4) = 0.258914 + 0.138629
    assert label_smoothed_cross_entropy(logits, torch.tensor([0]), smoothing=0.2).item() == pytest.approx(0.397543, abs=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range_is_refused_with_its_value(smoothing):
    with pytest.raises(ValueError, match=rf"smoothing must be a number in \[0, 1\), got {smoothing}"):
        label_smoothed_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), smoothing)
