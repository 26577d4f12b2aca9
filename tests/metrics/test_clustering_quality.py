from __future__ import annotations

import math

import pytest
import torch

from lightning_reid.metrics import clustering_nmi


def test_identities_that_stand_apart_have_an_nmi_of_one_whatever_their_lengths():
    embeddings = torch.eye(3, 8).repeat_interleave(5, dim=0) * torch.arange(1, 16)[:, None]
    assert clustering_nmi(embeddings, torch.arange(3).repeat_interleave(5)) == pytest.approx(1)


def test_nmi_equals_hand_computed_value():
    # clusters {a, a, b}, {b, b, b}... of identities 0 0 0 1 1 1: the third image of identity 0 lies with identity 1
    angles = torch.tensor([0.0, 0.01, 1.0, 1.01, 1.02, 1.03])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    joint = {(0, 0): 2 / 6, (0, 1): 1 / 6, (1, 1): 3 / 6}
    of_pid, of_cluster = {0: 1 / 2, 1: 1 / 2}, {0: 1 / 3, 1: 2 / 3}
    information = sum(share * math.log(share / (of_pid[pid] * of_cluster[cluster])) for (pid, cluster), share in joint.items())
    entropies = [-sum(share * math.log(share) for share in shares.values()) for shares in (of_pid, of_cluster)]
    assert clustering_nmi(embeddings, torch.tensor([0, 0, 0, 1, 1, 1])) == pytest.approx(2 * information / sum(entropies), abs=1e-6)


def test_lengths_that_differ_no_points_and_nan_are_refused():
    with pytest.raises(ValueError, match="one pid for each of N >= 1 embeddings"):
        clustering_nmi(torch.ones(3, 2), torch.ones(2).long())
    with pytest.raises(ValueError, match="one pid for each of N >= 1 embeddings"):
        clustering_nmi(torch.ones(0, 2), torch.ones(0).long())
    with pytest.raises(ValueError, match="NaN or infinity"):
        clustering_nmi(torch.full((3, 2), torch.nan), torch.arange(3))
