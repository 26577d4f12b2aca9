"""Numbers that no training leaves behind."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_reid.federated.plausibility import implausible

LARGEST = torch.iinfo(torch.int64).max


@pytest.mark.parametrize(
    ("name", "values", "known", "told"),
    [
        ("bn.running_var", [0.0, 2.0], [1.0, 1.0], None),
        ("bn.running_var", [-1e-30, 2.0], [1.0, 1.0], "bn.running_var is a variance of -1e-30, expected 0 or more"),
        ("bn.running_mean", [-1.0, 2.0], [1.0, 1.0], None),
        ("weight", [1.8e19, -1.8e19], [0.0, 0.0], None),  # whose squares are 3.2e38
        ("weight", [0.0, -1.9e19], [0.0, 0.0], "weight has numbers from -1.9e+19 to 0, expected less than 1.84467e+19 in size"),
        ("weight", [0.0, math.nan], [0.0, 0.0], "weight is NaN or infinite"),
        ("weight", [-math.inf, 0.0], [0.0, 0.0], "weight is NaN or infinite"),
        ("weight", [], [], None),
        ("bn.num_batches_tracked", 2**53, 0, None),
        ("bn.num_batches_tracked", 2**53 + 1, 0, f"bn.num_batches_tracked counts from {2**53 + 1} to {2**53 + 1}, expected 0 to {2**53}"),
        ("bn.num_batches_tracked", LARGEST, 0, f"bn.num_batches_tracked counts from {LARGEST} to {LARGEST}, expected 0 to {2**53}"),
        ("bn.num_batches_tracked", -1, 0, f"bn.num_batches_tracked counts from -1 to -1, expected 0 to {2**53}"),
        ("offsets", [-3, 3], [-3, 3], None),  # a constant of the network
        ("offsets", [-3, 4], [-3, 3], f"offsets counts from -3 to 4, expected 0 to {2**53}"),
        ("mask", [True, False], [True, True], None),
    ],
)
def test_a_tensor_is_named_with_what_is_wrong_with_it(name, values, known, told):
    fine = {"fine": torch.ones(3)}
    assert implausible(fine | {name: torch.tensor(values)}, fine | {name: torch.tensor(known)}) == told
