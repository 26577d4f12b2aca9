"""Failures by camera pair against loops over queries and images that say the same in words."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.metrics import camera_pair_failures, k_reciprocal_rerank, retrieval_scores
from lightning_reid.metrics.matching import Matching


def drawn(seed: int, *, num_query: int = 40, num_gallery: int = 90):
    generator = torch.Generator().manual_seed(seed)

    def whole(high: int, count: int, low: int = 0) -> torch.Tensor:
        return torch.randint(low, high, (count,), generator=generator)

    # whole numbers: many gallery images are equally near
    query, gallery = (torch.randint(-2, 3, (count, 3), generator=generator).float() + 0.5 for count in (num_query, num_gallery))
    return query, gallery, whole(7, num_query, 1), whole(8, num_gallery, -1), whole(4, num_query), whole(5, num_gallery)


def slowly(similarity, query_pids, gallery_pids, query_camids, gallery_camids, protocol):
    """``asked``, ``missed``, ``misled`` and ``scored`` by the cameras that they concern."""
    asked, missed, misled, scored = {}, {}, {}, {}
    for q in range(len(query_pids)):
        camera, own = int(query_camids[q]), int(query_pids[q])
        counted = []
        for g in range(len(gallery_pids)):
            pid, there = int(gallery_pids[g]), int(gallery_camids[g])
            if pid == -1 or (protocol == "market" and pid == own and there == camera):
                continue
            counted.append((-float(similarity[q, g]), g, pid == own, there))
        counted.sort()  # nearest first, of equals the first
        if not any(right for _, _, right, _ in counted):
            continue
        scored[camera] = scored.get(camera, 0) + 1
        if not counted[0][2]:
            misled[camera, counted[0][3]] = misled.get((camera, counted[0][3]), 0) + 1
        for there in {one[3] for one in counted if one[2]}:
            asked[camera, there] = asked.get((camera, there), 0) + 1
            if not next(right for _, _, right, camera_of in counted if camera_of == there):
                missed[camera, there] = missed.get((camera, there), 0) + 1
    return asked, missed, misled, scored


def by_cameras(pairs, counts) -> dict:
    table = {
        (camera, there): int(counts[row, column])
        for row, camera in enumerate(pairs.query_cameras.tolist())
        for column, there in enumerate(pairs.gallery_cameras.tolist())
    }
    return {cameras: count for cameras, count in table.items() if count}


@pytest.mark.parametrize("protocol", ["market", "no-camera"])
@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_failures_by_camera_pair_are_those_that_loops_find(seed, rerank, protocol):
    query, gallery, *labels = drawn(seed)
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    pairs = camera_pair_failures(query, gallery, Matching(*labels, protocol), rerank=rerank)
    unit = [torch.nn.functional.normalize(one) for one in (query, gallery)]
    similarity = unit[0] @ unit[1].T
    if rerank:
        kept = gallery_pids != -1
        similarity[:, kept] = -torch.cat([chunk.clone() for chunk in k_reciprocal_rerank(unit[0], unit[1][kept])])
    asked, missed, misled, scored = slowly(similarity, query_pids, gallery_pids, query_camids, gallery_camids, protocol)
    assert by_cameras(pairs, pairs.asked) == asked
    assert by_cameras(pairs, pairs.missed) == missed
    assert by_cameras(pairs, pairs.misled) == misled
    assert {camera: count for camera, count in zip(pairs.query_cameras.tolist(), pairs.scored.tolist()) if count} == scored
    assert 0 < int(pairs.missed.sum()) < int(pairs.asked.sum()), "which would say nothing if all were found, or nobody"


def test_who_is_misled_is_what_rank_1_lacks():
    query, gallery, *labels = drawn(9)
    pairs = camera_pair_failures(query, gallery, Matching(*labels, "market"))
    scores = retrieval_scores(query, gallery, *labels)
    assert int(pairs.scored.sum()) == len(scores.valid_queries)
    assert 1 - int(pairs.misled.sum()) / int(pairs.scored.sum()) == pytest.approx(float(scores.cmc[0]))


def test_failures_by_camera_want_cameras():
    pids = torch.tensor([1, 2])
    with pytest.raises(ValueError, match="need the camids of queries and gallery"):
        camera_pair_failures(torch.eye(2), torch.eye(2), Matching(pids, pids, None, None, "no-camera"))


def test_an_embedding_that_is_not_finite_is_refused_with_its_row():
    query, gallery, *labels = drawn(0)
    gallery[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"1 of 90 gallery embeddings hold NaN .* row 3"):
        camera_pair_failures(query, gallery, Matching(*labels, "market"))


def test_failures_are_of_the_queries_and_images_that_are_matched():
    query, gallery, *labels = drawn(0)
    with pytest.raises(ValueError, match="need one pid for each gallery embedding, got 89 embeddings and 90 pids"):
        camera_pair_failures(query, gallery[1:], Matching(*labels, "market"))
