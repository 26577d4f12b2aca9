"""Rank lists show what scores are made of: the same order, the same images left out, the same answers right."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from lightning_reid.metrics import rank_lists, retrieval_scores
from lightning_reid.metrics.matching import Matching, ProtocolName

NUM_QUERY, NUM_GALLERY = 14, 40


def generated(protocol: str, seed: int) -> tuple[Tensor, ...]:
    """Embeddings, pids, camids and second pids of queries and gallery, by twos; junk and distractors among them."""
    draw = torch.Generator().manual_seed(seed)
    pids = torch.randint(1, 6, (NUM_QUERY,), generator=draw), torch.randint(-1, 6, (NUM_GALLERY,), generator=draw)
    camids = torch.randint(3, (NUM_QUERY,), generator=draw), torch.randint(3, (NUM_GALLERY,), generator=draw)
    second = torch.randint(-1, 6, (NUM_QUERY,), generator=draw), torch.randint(-1, 6, (NUM_GALLERY,), generator=draw)
    centers = torch.randn(8, 6, dtype=torch.float64, generator=draw)
    embeddings = tuple(centers[one + 1] + 2 * torch.randn(len(one), 6, dtype=torch.float64, generator=draw) for one in pids)
    sides = (embeddings, pids, camids, second)
    if protocol == "leave-one-out":  # the queries are their gallery
        return tuple(side for both in sides for side in (both[1], both[1]))
    return tuple(side for both in sides for side in both)


def judged(protocol: str, i: int, j: int, pids: tuple[Tensor, Tensor], camids: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> str:
    """``"left out"``, ``"right"`` or ``"wrong"``, every rule spelled out."""
    mine, theirs = ({int(ids[row])} for ids, row in zip(pids, (i, j)))
    if protocol == "mars-corrected":
        mine, theirs = mine | {int(second[0][i])} - {-1}, theirs | {int(second[1][j])} - {-1}
    same_camera, match = bool(camids[0][i] == camids[1][j]), bool(mine & theirs)
    if pids[1][j] == -1:
        return "left out"
    if protocol == "no-camera":
        return "right" if match else "wrong"
    if protocol == "leave-one-out":
        return "left out" if i == j else "right" if match else "wrong"
    if same_camera and (match or (protocol == "mars-corrected" and pids[1][j] == 0)):
        return "left out"
    return "right" if match else "wrong"


@pytest.mark.parametrize("options", [{"metric": "cosine"}, {"metric": "euclidean"}, {"rerank": True}], ids=str)
@pytest.mark.parametrize("protocol", get_args(ProtocolName))
def test_lists_leave_out_and_call_right_what_scoring_does_and_give_its_average_precision(protocol, options):
    query, gallery, *labels = generated(protocol, seed=3)
    pids, camids, second = labels[:2], labels[2:4], labels[4:]
    corrected = {"query_second_pids": second[0], "gallery_second_pids": second[1]} if protocol == "mars-corrected" else {}
    matching = Matching(*pids, *camids, protocol, **corrected)
    lists = rank_lists(query, gallery, matching, range(len(query)), top=len(gallery), **options)
    scores = retrieval_scores(query, gallery, *pids, *camids, protocol=protocol, **options, **corrected)
    precisions = []
    for i, found in enumerate(lists):
        judgment = {j: judged(protocol, i, j, pids, camids, second) for j in range(len(gallery))}
        assert sorted(found.columns.tolist()) == [j for j, word in judgment.items() if word != "left out"]
        assert [judgment[j] for j in found.columns.tolist()] == ["right" if right else "wrong" for right in found.right.tolist()]
        ranks = found.right.nonzero().flatten() + 1
        if len(ranks):
            precisions.append((torch.arange(1, len(ranks) + 1) / ranks.double()).mean())
    assert len(precisions) > 5
    torch.testing.assert_close(torch.stack(precisions), scores.average_precision)


def test_some_queries_get_the_first_rows_of_their_lists():
    query, gallery, *labels = generated("market", seed=4)
    matching = Matching(*labels[:4], "market")
    for rerank in (False, True):
        whole = rank_lists(query, gallery, matching, range(NUM_QUERY), top=NUM_GALLERY, rerank=rerank)
        some = rank_lists(query, gallery, matching, [9, 2], top=3, rerank=rerank)
        assert [found.columns.tolist() for found in some] == [whole[number].columns[:3].tolist() for number in (9, 2)]


def test_embeddings_that_do_not_fit_the_labels_and_lists_of_nothing_are_refused():
    query, gallery, *labels = generated("market", seed=5)
    matching = Matching(*labels[:4], "market")
    with pytest.raises(ValueError, match="one pid for each gallery embedding, got 39 embeddings and 40 pids"):
        rank_lists(query, gallery[1:], matching, [0], top=1)
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        rank_lists(query, gallery, matching, [0], top=0)
