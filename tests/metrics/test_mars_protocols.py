"""The protocols of video re-identification: who is a right answer, who is a wrong one, and who does not count."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.metrics import RetrievalMetrics, retrieval_scores
from lightning_reid.metrics.retrieval import scores_from_similarities

GOLDENS = np.load(Path(__file__).parents[1] / "goldens" / "retrieval_eval.npz")

# One query of pid 1, second pid 7, camera 1; its gallery by falling similarity, and what "mars-corrected" makes of it:
# itself (ignored), distractor of its camera (ignored), distractor of camera 2 (wrong), pid 2 with second pid 1 in camera 2 (match),
# pid 7 in camera 1 (ignored), junk (ignored), pid 7 in camera 3 (match), pid 3 (wrong), pid 1 in camera 2 (match).
HAND = {
    "query_pids": torch.tensor([1]),
    "gallery_pids": torch.tensor([1, 0, 0, 2, 7, -1, 7, 3, 1]),
    "query_camids": torch.tensor([1]),
    "gallery_camids": torch.tensor([1, 1, 2, 2, 1, 2, 3, 2, 2]),
}
SECOND = {"query_second_pids": torch.tensor([7]), "gallery_second_pids": torch.tensor([-1, -1, -1, 1, -1, 1, -1, -1, -1])}


def hand(**options):
    return scores_from_similarities([torch.arange(9, 0, -1.0)[None]], **HAND, **options)


def corrected_golden(**second):
    embeddings, pids, camids = (torch.from_numpy(GOLDENS[name]) for name in ("g_feat", "g_id", "g_cam"))
    q, g = torch.from_numpy(GOLDENS["query_idx"]), torch.from_numpy(GOLDENS["cf_dis/gallery_idx"])
    sides = embeddings[q], embeddings[g], pids[q], pids[g], camids[q], camids[g]
    return retrieval_scores(*sides, protocol="mars-corrected", max_rank=10, **second)


def test_the_corrected_protocol_equals_the_cf_aan_evaluation():
    second = {f"{side}_second_pids": torch.from_numpy(GOLDENS[f"cf_new/{side[0]}_ambi"]) for side in ("query", "gallery")}
    scores = corrected_golden(**second)
    assert scores.mAP == pytest.approx(float(GOLDENS["cf_new/mAP"]), abs=1e-12)
    np.testing.assert_allclose(scores.cmc.numpy(), GOLDENS["cf_new/cmc"], atol=1e-6)
    assert corrected_golden().mAP != scores.mAP


def test_by_hand_the_corrected_protocol_ranks_the_matches_2_3_5():
    assert hand(protocol="mars-corrected", **SECOND).mAP == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3, abs=1e-12)


def test_without_second_pids_the_corrected_protocol_only_takes_the_distractors_of_the_camera_out():
    # distractor, pid 2, pid 7 (twice), pid 3 stand before the one match
    assert hand(protocol="mars-corrected").first_match_rank.tolist() == [6]
    assert hand(protocol="market").first_match_rank.tolist() == [7]


@pytest.mark.parametrize("protocol", ["mars", "mars-excluding-queries"])
def test_the_plain_video_protocols_follow_the_rule_of_market(protocol):
    assert hand(protocol=protocol).average_precision.tolist() == hand(protocol="market").average_precision.tolist()


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), num_query=st.integers(1, 9), num_gallery=st.integers(1, 30), chunk_size=st.integers(1, 10))
def test_the_corrected_protocol_equals_every_rule_spelled_out(seed, num_query, num_gallery, chunk_size):
    draw = torch.Generator().manual_seed(seed)
    similarity = torch.randint(6, (num_query, num_gallery), generator=draw).double()
    query_pids, query_second = torch.randint(1, 4, (2, num_query), generator=draw)
    gallery_pids, gallery_second = torch.randint(-1, 4, (2, num_gallery), generator=draw)
    camids = torch.randint(3, (num_query,), generator=draw), torch.randint(3, (num_gallery,), generator=draw)
    second = {"query_second_pids": query_second, "gallery_second_pids": gallery_second}
    plain = []
    for i, row in enumerate(similarity.numpy()):
        rank, hits = 0, []
        for j in np.argsort(-row, kind="stable"):
            theirs = {int(gallery_pids[j]), int(gallery_second[j])} - {-1}
            match = bool({int(query_pids[i]), int(query_second[i])} & theirs)
            same_camera = camids[0][i] == camids[1][j]
            if gallery_pids[j] == -1 or (same_camera and (match or gallery_pids[j] == 0)):
                continue
            rank += 1
            if match:
                hits.append(rank)
        if hits:
            plain.append(np.mean([(k + 1) / rank for k, rank in enumerate(hits)]))
    args = (similarity.split(chunk_size), query_pids, gallery_pids, *camids)
    if not plain:
        with pytest.raises(ValueError, match="has a match"):
            scores_from_similarities(*args, protocol="mars-corrected", **second)
        return
    scores = scores_from_similarities(*args, protocol="mars-corrected", **second)
    np.testing.assert_allclose(scores.average_precision.numpy(), plain, atol=1e-12)


def test_second_pids_under_another_protocol_are_refused():
    with pytest.raises(ValueError, match="query_second_pids are known to the protocol 'mars-corrected' only, got protocol 'mars'"):
        hand(protocol="mars", **SECOND)


def test_as_many_second_pids_as_pids_are_asked_for():
    with pytest.raises(ValueError, match="gallery_second_pids must be as many as there are pids, got 3 for 9"):
        hand(protocol="mars-corrected", gallery_second_pids=torch.tensor([1, 2, 3]))


def test_the_metric_passes_second_pids_on_and_takes_none_for_none():
    second = {side: torch.from_numpy(GOLDENS[f"cf_new/{side}_ambi"]) for side in ("q", "g")}
    rows = {"q": torch.from_numpy(GOLDENS["query_idx"]), "g": torch.from_numpy(GOLDENS["cf_dis/gallery_idx"])}
    with_second, without = RetrievalMetrics("mars-corrected"), RetrievalMetrics("mars-corrected")
    for side, taken in rows.items():
        batch = [torch.from_numpy(GOLDENS[name])[taken] for name in ("g_feat", "g_id", "g_cam")]
        with_second.update(*batch, torch.arange(len(taken)), side == "q", second[side])
        without.update(*batch, torch.arange(len(taken)), side == "q")
    assert float(with_second.compute()["mAP"]) == pytest.approx(float(GOLDENS["cf_new/mAP"]), abs=1e-6)
    assert float(without.compute()["mAP"]) == pytest.approx(corrected_golden().mAP, abs=1e-6)
