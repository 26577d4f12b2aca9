"""TAR at FAR and TPIR at FPIR against counting pair by pair at every threshold."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.metrics import identification_rates, verification_rates
from lightning_reid.metrics.verification import check_bounds, rates_from_scores


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def best_rate(genuine: list[float], impostor: list[float], bound: float) -> float:
    """The largest share of genuine scores above any threshold that holds the bound."""
    thresholds = [-float("inf"), *impostor]
    allowed = [t for t in thresholds if sum(s > t for s in impostor) <= bound * len(impostor) + 1e-9]
    return max(sum(s > t for s in genuine) / len(genuine) for t in allowed)


@given(seed=st.integers(0, 999), levels=st.integers(2, 50), bound=st.sampled_from([0.05, 0.1, 0.29, 0.5, 1.0]))
@settings(max_examples=50)
def test_rates_are_the_best_that_hold_the_bound_also_with_ties(seed, levels, bound):
    scores = torch.randint(0, levels, (140,), generator=torch.Generator().manual_seed(seed)).double()
    genuine, impostor = scores[:40], scores[40:]
    rates = rates_from_scores(genuine, impostor, [bound])
    assert rates.true.item() == best_rate(genuine.tolist(), impostor.tolist(), bound)
    assert (impostor > rates.thresholds.item()).sum() <= bound * 100 + 1e-9


@given(seed=st.integers(0, 99), tile=st.integers(1, 40), within=st.booleans())
@settings(max_examples=25)
def test_verification_takes_every_pair_once_whatever_the_tiles(seed, tile, within):
    embeddings, others = draw(seed, 18, 4), draw(seed + 1, 15, 4)
    pids, other_pids = torch.arange(18) % 5, torch.arange(15) % 6
    sides = (embeddings, pids) if within else (embeddings, pids, others, other_pids)
    right, right_pids = (embeddings, pids) if within else (others, other_pids)
    cosines = F.normalize(embeddings, dim=1) @ F.normalize(right, dim=1).T
    pairs = [(i, j) for i in range(len(pids)) for j in range(i + 1 if within else 0, len(right_pids))]
    genuine = [float(cosines[i, j]) for i, j in pairs if pids[i] == right_pids[j]]
    impostor = [float(cosines[i, j]) for i, j in pairs if pids[i] != right_pids[j]]
    rates = verification_rates(*sides, far=(0.01, 0.1, 0.3), tile=tile)
    assert (rates.num_genuine, rates.num_impostor) == (len(genuine), len(impostor))
    assert rates.true.tolist() == [best_rate(genuine, impostor, bound) for bound in (0.01, 0.1, 0.3)]


@given(seed=st.integers(0, 99), rows=st.integers(1, 9))
@settings(max_examples=25)
def test_identification_wants_the_right_person_above_the_threshold(seed, rows):
    probes, gallery = draw(seed, 40, 3), draw(seed + 1, 5, 3)
    pids, enrolled = torch.arange(40) % 8, torch.arange(5)
    cosines = F.normalize(probes, dim=1) @ F.normalize(gallery, dim=1).T
    tops = [(float(row.max()), int(row.argmax())) for row in cosines]
    genuine = [score if who == pid else -float("inf") for (score, who), pid in zip(tops, pids.tolist()) if pid < 5]
    strangers = [score for (score, _), pid in zip(tops, pids.tolist()) if pid >= 5]
    rates = identification_rates(probes, pids, gallery, enrolled, fpir=(0.1, 0.5, 1.0), rows=rows)
    assert rates.true.tolist() == [best_rate(genuine, strangers, bound) for bound in (0.1, 0.5, 1.0)]
    assert (rates.num_genuine, rates.num_impostor) == (25, 15)


def test_embeddings_that_tell_people_apart_score_one_and_equal_ones_score_zero():
    apart, pids = torch.eye(4).repeat(2, 1), torch.arange(4).repeat(2)
    assert verification_rates(apart, pids, far=(0.1,)).true.item() == 1
    assert verification_rates(torch.ones(8, 3), pids, far=(0.1, 0.99)).true.tolist() == [0, 0]


def test_rates_that_so_few_impostors_cannot_show_are_refused():
    with pytest.raises(ValueError, match=r"a rate of 0\.001 cannot be measured with 24 impostors: the smallest is 0\.042"):
        verification_rates(draw(0, 8, 3), torch.arange(8) % 4, far=(0.5, 1e-3))
    with pytest.raises(ValueError, match=r"rates of false answers lie in \(0, 1\], got 0"):
        verification_rates(draw(0, 8, 3), torch.arange(8) % 4, far=(0.0,))
    with pytest.raises(ValueError, match="pairs of different people or probes of strangers: there are none"):
        check_bounds((0.5,), 0)


def test_what_cannot_be_verified_is_refused():
    with pytest.raises(ValueError, match="genuine and impostor pairs, got 0 and 6"):
        verification_rates(draw(0, 4, 3), torch.arange(4), far=(0.5,))
    with pytest.raises(ValueError, match="1 of 4 embeddings are zero and have no cosine, the first is row 2"):
        verification_rates(torch.tensor([[1.0], [1.0], [0.0], [2.0]]), torch.tensor([0, 0, 1, 1]), far=(0.5,))
    with pytest.raises(ValueError, match="a person is enrolled more than once"):
        identification_rates(draw(0, 4, 3), torch.arange(4), draw(1, 2, 3), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="genuine and impostor scores, got 4 and 0"):
        identification_rates(draw(0, 4, 3), torch.arange(4), draw(1, 4, 3), torch.arange(4))
    with pytest.raises(ValueError, match="a score is NaN"):
        rates_from_scores(torch.tensor([0.0]), torch.tensor([torch.nan]), [1.0])
