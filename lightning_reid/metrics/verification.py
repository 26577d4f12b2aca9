"""Is it the same person, and is it anyone we know: rates of right answers at a bounded rate of false ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.metrics.similarity import checked_embeddings


@dataclass(frozen=True, eq=False)
class OpenSetRates:
    """Rates at thresholds that bound how many strangers are accepted. Tensors are float64 on the CPU.

    Attributes:
        false: ``[R]`` bounds, as asked for: FAR of pairs, FPIR of probes.
        true: ``[R]`` share of genuine pairs (TAR), or of probes of enrolled people (TPIR), that are accepted, and rightly; in [0, 1].
        thresholds: ``[R]`` cosines: what lies above is accepted; minus infinity where everything is.
        num_genuine: Genuine pairs, or probes of enrolled people.
        num_impostor: Pairs of different people, or probes of people who are not enrolled.
    """

    false: Tensor
    true: Tensor
    thresholds: Tensor
    num_genuine: int
    num_impostor: int


def rates_from_scores(genuine: Tensor, impostor: Tensor, bounds: Sequence[float], *, num_impostor: int | None = None) -> OpenSetRates:
    """Share of genuine scores above the lowest threshold at which at most a share ``bounds`` of impostor scores is.

    Args:
        genuine: ``[P]`` float, larger is more alike; minus infinity for what is wrong at any threshold.
        impostor: Float, the largest impostor scores in any order: all of them, or as many as the largest bound needs and one more.
        bounds: Each in (0, 1].
        num_impostor: How many there are in all; ``None`` where ``impostor`` holds them all.

    Raises:
        ValueError: No scores on a side, NaN, or a bound that so few impostors cannot tell from 0.
    """
    total = len(impostor) if num_impostor is None else num_impostor
    if not len(genuine) or not total:
        raise ValueError(f"rates need genuine and impostor scores, got {len(genuine)} and {total}")
    if bool(genuine.isnan().any()) or bool(impostor.isnan().any()):
        raise ValueError("a score is NaN: an embedding was not finite, or had no length")
    check_bounds(bounds, total)
    descending = impostor.double().sort(descending=True).values.cpu()
    allowed = [_allowed(bound, total) for bound in bounds]
    thresholds = torch.tensor([float(descending[k]) if k < total else -torch.inf for k in allowed], dtype=torch.float64)
    sorted_genuine = genuine.double().sort().values.cpu()
    accepted = len(genuine) - torch.searchsorted(sorted_genuine, thresholds, right=True)
    accepted[thresholds == -torch.inf] = int((sorted_genuine > -torch.inf).sum())
    return OpenSetRates(torch.tensor(list(bounds), dtype=torch.float64), accepted.double() / len(genuine), thresholds, len(genuine), total)


@torch.no_grad()
def verification_rates(
    embeddings: Tensor,
    pids: Tensor,
    others: Tensor | None = None,
    other_pids: Tensor | None = None,
    *,
    far: Sequence[float] = (1e-4, 1e-3, 1e-2),
    tile: int = 4096,
) -> OpenSetRates:
    """1:1 verification: TAR at given FARs, over all pairs of two sets, or of one set with itself, by cosine.

    Of impostor pairs only the largest scores are held, ``max(far)`` of them: memory is that, the genuine pairs, and a tile.

    Source: thesis, section 7.4.1.

    Args:
        embeddings: ``[N, D]`` float.
        pids: ``[N]`` int64.
        others: ``[M, D]`` float; ``None`` pairs each two different rows of ``embeddings`` once.
        other_pids: ``[M]`` int64.
        far: False accept rates, each in (0, 1].
        tile: Rows of either side at a time.

    Raises:
        ValueError: Shapes that do not fit, no pair of either kind, an embedding that has no direction, or a rate below 1 over the number
            of impostor pairs.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import verification_rates
        >>> embeddings, pids = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([1, 1, 2, 2])
        >>> rates = verification_rates(embeddings, pids, far=[0.25])
        >>> rates.true.tolist(), rates.num_genuine, rates.num_impostor
        ([1.0], 2, 4)
    """
    itself = others is None
    left, left_pids = _directions(embeddings, pids)
    right, right_pids = (left, left_pids) if others is None or other_pids is None else _directions(others, other_pids)
    shared, counts = torch.unique(torch.cat([left_pids, right_pids]), return_inverse=True)
    at_left, at_right = (torch.bincount(part, minlength=len(shared)) for part in counts.split([len(left_pids), len(right_pids)]))
    same = int((at_left * at_right).sum())
    num_genuine, pairs = ((same - len(left)) // 2, len(left) * (len(left) - 1) // 2) if itself else (same, len(left) * len(right))
    num_impostor = pairs - num_genuine
    if not num_genuine or not num_impostor:
        raise ValueError(f"verification needs genuine and impostor pairs, got {num_genuine} and {num_impostor}")
    check_bounds(far, num_impostor)
    held = min(num_impostor, max(_allowed(bound, num_impostor) for bound in far) + 1)
    genuine: list[Tensor] = []
    largest = left.new_empty(0)
    for start in range(0, len(left), tile):
        for first in range(start if itself else 0, len(right), tile):
            scores = left[start : start + tile] @ right[first : first + tile].T
            alike = left_pids[start : start + tile, None] == right_pids[None, first : first + tile]
            once = torch.ones_like(alike).triu(1) if itself and first == start else torch.ones_like(alike)
            genuine.append(scores[alike & once])
            candidates = torch.cat([largest, scores[~alike & once]])
            largest = candidates.topk(held).values if len(candidates) > held else candidates
    return rates_from_scores(torch.cat(genuine), largest, far, num_impostor=num_impostor)


@torch.no_grad()
def identification_rates(
    probes: Tensor, probe_pids: Tensor, gallery: Tensor, gallery_pids: Tensor, *, fpir: Sequence[float] = (1e-2, 1e-1), rows: int = 4096
) -> OpenSetRates:
    """1:N open-set identification: TPIR at given FPIRs, by cosine to one template an enrolled person.

    A probe of an enrolled person counts where its nearest template is the right one and lies above the threshold; a probe of anyone else
    is a false positive where its nearest template does.

    Source: thesis, section 7.4.1; ISO/IEC 19795-1 names the rates.

    Args:
        probes: ``[P, D]`` float.
        probe_pids: ``[P]`` int64.
        gallery: ``[G, D]`` float, such as the mean embedding of each person.
        gallery_pids: ``[G]`` int64, each once.
        fpir: False positive identification rates, each in (0, 1].
        rows: Probes at a time.

    Raises:
        ValueError: A person enrolled twice, no probe of either kind, an embedding that has no direction, or a rate below 1 over the
            number of probes of people who are not enrolled.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import identification_rates
        >>> gallery, gallery_pids = torch.eye(2), torch.tensor([1, 2])
        >>> probes, probe_pids = torch.tensor([[1.0, 0.1], [0.9, 0.8], [1.0, 1.0]]), torch.tensor([1, 2, 99])  # nobody knows person 99
        >>> rates = identification_rates(probes, probe_pids, gallery, gallery_pids, fpir=[1.0])
        >>> rates.true.tolist(), rates.num_impostor  # of persons 1 and 2 one is taken for the other
        ([0.5], 1)
    """
    probes, probe_pids = _directions(probes, probe_pids)
    gallery, gallery_pids = _directions(gallery, gallery_pids)
    if len(gallery_pids.unique()) != len(gallery_pids):
        raise ValueError("a person is enrolled more than once: average their embeddings to one template")
    best, nearest = (torch.cat(part) for part in zip(*((chunk @ gallery.T).max(1) for chunk in probes.split(rows))))
    enrolled = torch.isin(probe_pids, gallery_pids)
    right = gallery_pids[nearest] == probe_pids
    return rates_from_scores(best.masked_fill(~right, -torch.inf)[enrolled], best[~enrolled], fpir)


def check_bounds(bounds: Sequence[float], num_impostor: int) -> None:
    """Refuse rates that cannot be measured.

    Raises:
        ValueError: No impostor, a bound outside (0, 1], or below one impostor.
    """
    if num_impostor < 1:
        raise ValueError("rates of false answers need impostors, pairs of different people or probes of strangers: there are none")
    for bound in bounds:
        if not 0 < bound <= 1:
            raise ValueError(f"rates of false answers lie in (0, 1], got {bound:g}")
        if _allowed(bound, num_impostor) < 1:
            raise ValueError(
                f"a rate of {bound:g} cannot be measured with {num_impostor} impostors: the smallest is {1 / num_impostor:.2g}"
            )


def _allowed(bound: float, num_impostor: int) -> int:
    """Impostors that may be accepted; a product such as 0.29 x 100 is not to lose one by rounding."""
    return int(bound * num_impostor * (1 + 1e-12))


def _directions(embeddings: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    embeddings = checked_embeddings(embeddings, "verification")
    if pids.shape != embeddings.shape[:1]:
        raise ValueError(f"need one pid for each embedding, got {tuple(embeddings.shape)} and {tuple(pids.shape)}")
    without = (~embeddings.any(1)).nonzero().flatten()
    if len(without):
        raise ValueError(f"{len(without)} of {len(embeddings)} embeddings are zero and have no cosine, the first is row {int(without[0])}")
    return F.normalize(embeddings, dim=1), pids.to(embeddings.device)
