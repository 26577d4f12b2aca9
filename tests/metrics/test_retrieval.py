"""retrieval_scores against public evaluations, hand-worked numbers and a slow obvious one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lightning_reid.metrics import k_reciprocal_rerank, retrieval, retrieval_scores
from lightning_reid.metrics.retrieval import scores_from_similarities

GOLDENS = np.load(Path(__file__).parents[1] / "goldens" / "retrieval_eval.npz")


def golden_scores(gallery_rows, **options):
    embeddings, pids, camids = (torch.from_numpy(GOLDENS[name]) for name in ("g_feat", "g_id", "g_cam"))
    q, g = torch.from_numpy(GOLDENS["query_idx"]), torch.from_numpy(gallery_rows)
    return retrieval_scores(embeddings[q], embeddings[g], pids[q], pids[g], camids[q], camids[g], **options)


def plain_scores(similarity, query_pids, gallery_pids, query_camids, gallery_camids, protocol, ap, max_rank):
    """Every row sorted, every rule spelled out, in float64."""
    precisions, firsts, penalties, valid = [], [], [], []
    for i, row in enumerate(similarity.double().numpy()):
        found, rank, hits = 0, 0, []
        for j in np.argsort(-row, kind="stable"):
            same_pid, same_camid = query_pids[i] == gallery_pids[j], query_camids[i] == gallery_camids[j]
            ignored = {"market": same_pid and same_camid, "no-camera": False, "leave-one-out": i == j}[protocol]
            if gallery_pids[j] == -1 or ignored:
                continue
            rank += 1
            if same_pid:
                found += 1
                before = (found - 1) / (rank - 1) if rank > 1 else 1.0
                hits.append((rank, found / rank if ap == "step" else (before + found / rank) / 2))
        if hits:
            precisions.append(np.mean([precision for _, precision in hits]))
            firsts.append(hits[0][0])
            penalties.append(found / hits[-1][0])
            valid.append(i)
    cmc = [np.mean([first <= rank for first in firsts]) for rank in range(1, max_rank + 1)] if firsts else []
    return precisions, firsts, penalties, valid, cmc


def assert_scores_equal(scores, plain):
    precisions, firsts, penalties, valid, cmc = plain
    np.testing.assert_allclose(scores.average_precision.numpy(), precisions, atol=1e-12)
    assert scores.first_match_rank.tolist() == firsts
    assert scores.valid_queries.tolist() == valid
    np.testing.assert_allclose(scores.inverse_negative_penalty.numpy(), penalties, atol=1e-12)
    np.testing.assert_allclose(scores.cmc.numpy(), cmc, atol=1e-12)
    assert scores.mAP == pytest.approx(np.mean(precisions), abs=1e-12)
    assert scores.mINP == pytest.approx(np.mean(penalties), abs=1e-12)


def test_trapezoid_with_the_queries_in_the_gallery_equals_the_ste_nvan_evaluation():
    scores = golden_scores(np.arange(60), ap="trapezoid", max_rank=60)
    assert scores.mAP == pytest.approx(float(GOLDENS["ste/mAP"]), abs=1e-12)
    np.testing.assert_allclose(scores.average_precision.numpy(), GOLDENS["ste/ap_per_query"], atol=1e-12)
    np.testing.assert_allclose(scores.cmc.numpy(), GOLDENS["ste/cmc"], atol=1e-12)


@pytest.mark.parametrize("variant", ["cf", "cf_dis"])
def test_steps_equal_the_cf_aan_evaluation_with_and_without_distractors(variant):
    scores = golden_scores(GOLDENS[f"{variant}/gallery_idx"], max_rank=10)
    assert scores.mAP == pytest.approx(float(GOLDENS[f"{variant}/mAP"]), abs=1e-12)
    np.testing.assert_allclose(scores.cmc.numpy(), GOLDENS[f"{variant}/cmc"], atol=1e-6)


def test_trapezoid_with_distractors_equals_the_fedreid_evaluation():
    scores = golden_scores(GOLDENS["cf_dis/gallery_idx"], ap="trapezoid")
    np.testing.assert_allclose(scores.average_precision.numpy(), GOLDENS["fedreid/ap_per_query"], atol=1e-12)
    found = scores.first_match_rank[:, None] <= torch.arange(1, 42)
    np.testing.assert_array_equal(found.int().numpy(), GOLDENS["fedreid/cmc_per_query"])


def test_steps_equal_the_openunreid_and_spcl_evaluations():
    scores = golden_scores(GOLDENS["cf_dis/gallery_idx"])
    assert scores.mAP == pytest.approx(float(GOLDENS["openunreid/mAP"]), abs=1e-12)
    assert scores.mAP == pytest.approx(float(GOLDENS["spcl/mAP"]), abs=1e-12)
    np.testing.assert_allclose(scores.cmc[:10].numpy(), GOLDENS["openunreid/cmc"], atol=1e-6)
    np.testing.assert_allclose(scores.cmc.numpy(), GOLDENS["spcl/cmc_first_match"], atol=1e-12)


def test_junk_in_the_gallery_changes_nothing():
    clean = GOLDENS["cf_dis/gallery_idx"]
    junk = np.flatnonzero(GOLDENS["g_id"] == -1)
    assert len(junk) > 0
    with_junk = golden_scores(np.sort(np.concatenate([clean, junk])))
    assert with_junk.average_precision.tolist() == golden_scores(clean).average_precision.tolist()


# One query (pid 1, camera 1). Its gallery by falling similarity: same pid and camera (ignored), distractor, match, junk (ignored),
# other identity, match. Ranks that count: distractor 1, match 2, other 3, match 4.
HAND = {
    "chunks": [torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]])],
    "query_pids": torch.tensor([1]),
    "gallery_pids": torch.tensor([1, 0, 1, -1, 2, 1]),
    "query_camids": torch.tensor([1]),
    "gallery_camids": torch.tensor([1, 2, 2, 2, 1, 3]),
}


def hand(**changes):
    return {**HAND, "chunks": [chunk.clone() for chunk in HAND["chunks"]], **changes}


def test_market_protocol_by_steps_equals_the_hand_computed_value():
    scores = scores_from_similarities(**hand(), max_rank=5)
    assert scores.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert scores.mINP == pytest.approx(2 / 4)
    assert scores.cmc.tolist() == [0, 1, 1, 1, 1]


def test_market_protocol_by_trapezoid_equals_the_hand_computed_value():
    # at rank 2: (0/1 + 1/2) / 2; at rank 4: (1/3 + 2/4) / 2
    assert scores_from_similarities(**hand(), ap="trapezoid").mAP == pytest.approx((0.25 + 5 / 12) / 2)


def test_without_cameras_the_image_of_the_same_camera_is_a_match():
    scores = scores_from_similarities(**hand(query_camids=None, gallery_camids=None), protocol="no-camera")
    assert scores.mAP == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)


def test_leave_one_out_does_not_show_a_query_to_itself():
    points = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    pids = torch.tensor([7, 7, 8, 8])
    scores = retrieval_scores(points, points, pids, pids, None, None, metric="euclidean", protocol="leave-one-out", max_rank=2)
    assert scores.mAP == 1
    assert scores.first_match_rank.tolist() == [1, 1, 1, 1]


def test_leave_one_out_keeps_gallery_positions_when_there_is_junk():
    points = torch.tensor([[5.0], [0.0], [1.0]])
    pids = torch.tensor([-1, 7, 7])
    scores = retrieval_scores(points, points, pids, pids, None, None, metric="euclidean", protocol="leave-one-out")
    assert scores.valid_queries.tolist() == [1, 2]
    assert scores.first_match_rank.tolist() == [1, 1]


def test_equal_similarities_rank_in_gallery_order():
    pids, camids = torch.tensor([2, 1, 2, 1]), torch.tensor([5, 5, 5, 5])
    scores = scores_from_similarities([torch.zeros(1, 4)], torch.tensor([1]), pids, torch.tensor([4]), camids)
    assert scores.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("num_query", [1, 2, 3, 17])
def test_duplicates_of_one_gallery_embedding_rank_in_gallery_order(metric, num_query):
    draw = torch.Generator().manual_seed(3)
    gallery, query = torch.randn(1, 64, generator=draw).repeat(51, 1), torch.randn(num_query, 64, generator=draw)
    pids, camids = torch.full((51,), 2), torch.zeros(51, dtype=torch.int64)
    pids[[20, 40]] = 1
    labels = torch.ones(num_query).long(), pids, torch.ones(num_query).long(), camids
    scores = retrieval_scores(query, gallery, *labels, metric=metric)
    assert scores.first_match_rank.tolist() == [21] * num_query
    assert scores.mINP == pytest.approx(2 / 41)


def test_whole_numbers_keep_exactly_equal_euclidean_distances():
    # both gallery points are at distance 5 of the query; the first, a wrong one, wins
    gallery = torch.tensor([[103.0, 104.0], [105.0, 100.0], [90.0, 90.0]])
    args = torch.tensor([[100.0, 100.0]]), gallery, torch.tensor([1]), torch.tensor([2, 1, 3]), torch.tensor([0]), torch.tensor([1, 1, 1])
    assert retrieval_scores(*args, metric="euclidean").first_match_rank.tolist() == [2]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    num_query=st.integers(1, 9),
    num_gallery=st.integers(1, 30),
    levels=st.sampled_from([2, 5, 10**6]),
    protocol=st.sampled_from(["market", "no-camera", "leave-one-out"]),
    ap=st.sampled_from(["step", "trapezoid"]),
    chunk_size=st.integers(1, 10),
)
def test_scores_equal_the_plain_evaluation_with_ties_junk_and_distractors(seed, num_query, num_gallery, levels, protocol, ap, chunk_size):
    draw = torch.Generator().manual_seed(seed)
    if protocol == "leave-one-out":
        num_query = num_gallery
    similarity = torch.randint(levels, (num_query, num_gallery), generator=draw).double()
    query_pids, gallery_pids = torch.randint(-1, 4, (num_query,), generator=draw), torch.randint(-1, 4, (num_gallery,), generator=draw)
    if protocol == "leave-one-out":
        query_pids = gallery_pids
    camids = torch.randint(3, (num_query,), generator=draw), torch.randint(3, (num_gallery,), generator=draw)
    scored_pids = torch.where(query_pids == -1, -2, query_pids)  # a junk query matches nothing
    plain = plain_scores(similarity, scored_pids, gallery_pids, *camids, protocol, ap, 12)
    args = (similarity.clone().split(chunk_size), query_pids, gallery_pids, *camids)
    if plain[0]:
        assert_scores_equal(scores_from_similarities(*args, protocol=protocol, ap=ap, max_rank=12), plain)
    else:
        with pytest.raises(ValueError, match="has a match"):
            scores_from_similarities(*args, protocol=protocol, ap=ap, max_rank=12)


def clustered(num_query=40, num_gallery=300, dim=24, dtype=torch.float64):
    draw = torch.Generator().manual_seed(11)
    pids = torch.randint(1, 12, (num_query,), generator=draw), torch.randint(-1, 12, (num_gallery,), generator=draw)
    centers = torch.randn(13, dim, dtype=torch.float64, generator=draw)
    sides = [centers[p + 1] + torch.randn(len(p), dim, dtype=torch.float64, generator=draw) for p in pids]
    camids = [torch.randint(4, (len(p),), generator=draw) for p in pids]
    return [side.to(dtype) for side in sides] + list(pids) + camids


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("chunk_size", [None, 1, 7])
def test_scores_from_embeddings_equal_the_plain_evaluation(metric, chunk_size):
    data = clustered()
    query, gallery = data[:2]
    similarity = F.normalize(query) @ F.normalize(gallery).T if metric == "cosine" else -torch.cdist(query, gallery)
    scores = retrieval_scores(*data, metric=metric, chunk_size=chunk_size)
    assert_scores_equal(scores, plain_scores(similarity, *data[2:], "market", "step", 50))
    assert 0.3 < scores.mAP < 0.95  # else the comparison says little


def test_long_match_lists_score_as_short_ones_do():
    query, gallery, _, _, camids, gallery_camids = clustered(num_gallery=600)
    pids, gallery_pids = torch.ones(40).long(), 1 + (torch.arange(600) % 3 == 0).long()  # 400 matches a query
    data = query, gallery, pids, gallery_pids, camids, gallery_camids
    similarity = F.normalize(query) @ F.normalize(gallery).T
    assert_scores_equal(retrieval_scores(*data), plain_scores(similarity, *data[2:], "market", "step", 50))


def test_euclidean_scores_survive_a_large_common_offset():
    data = clustered(dtype=torch.float32)
    shifted = [side + 1000 for side in data[:2]]
    plain = plain_scores(-torch.cdist(shifted[0].double(), shifted[1].double()), *data[2:], "market", "step", 50)
    assert retrieval_scores(*shifted, *data[2:], metric="euclidean").mAP == pytest.approx(np.mean(plain[0]), abs=1e-6)


def test_cosine_scores_ignore_the_lengths_of_embeddings():
    data = clustered()
    lengths = torch.rand(300, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    assert retrieval_scores(data[0] * 5, data[1] * lengths, *data[2:]).mAP == pytest.approx(retrieval_scores(*data).mAP, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_embeddings_are_compared_in_float32(dtype):
    data = clustered(dtype=dtype)
    wide = [side.float() for side in data[:2]]
    assert retrieval_scores(*data).average_precision.tolist() == retrieval_scores(*wide, *data[2:]).average_precision.tolist()


def test_autocast_does_not_touch_the_scores():
    data = clustered(dtype=torch.float32)
    expected = retrieval_scores(*data).average_precision.tolist()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert retrieval_scores(*data).average_precision.tolist() == expected


def test_arguments_stay_unchanged_and_gradients_are_not_followed():
    data = clustered()
    data[0].requires_grad_()
    before = [value.detach().clone() for value in data]
    scores = retrieval_scores(*data, metric="euclidean")
    assert not scores.cmc.requires_grad
    for value, old in zip(data, before, strict=True):
        assert torch.equal(value, old)


def test_scores_do_not_depend_on_the_integer_type_of_the_labels():
    data = clustered()
    narrow = [labels.to(torch.int32) for labels in data[2:]]
    assert retrieval_scores(*data[:2], *narrow).mAP == retrieval_scores(*data).mAP


def test_queries_without_a_match_are_counted_and_not_scored():
    gallery = torch.eye(3)
    pids, camids = torch.tensor([1, 2, 3]), torch.tensor([1, 1, 1])
    # query 0 has its only match in its own camera, query 2 is of an unknown identity
    scores = retrieval_scores(gallery, gallery, torch.tensor([1, 2, 9]), pids, torch.tensor([1, 2, 2]), camids)
    assert scores.valid_queries.tolist() == [1]
    assert (scores.num_queries, scores.num_unmatched_queries, scores.mAP) == (3, 2, 1.0)
    assert (scores.query_pids.tolist(), scores.num_people) == ([2], 1)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_similarities_are_left_as_they_were_whole_or_in_chunks(rows, monkeypatch):
    monkeypatch.setattr(retrieval, "default_chunk_size", lambda *_: 2)
    similarity = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    pids, camids = torch.arange(12) % 4 - 1, torch.arange(12) // 4
    before = similarity.clone()
    scores = scores_from_similarities(similarity.split(rows), pids[4:9], pids, camids[4:9], camids)
    assert torch.equal(similarity, before)
    assert scores.query_pids.tolist() == pids[4:9][scores.valid_queries].tolist()
    plain = plain_scores(similarity, pids[4:9], pids, camids[4:9], camids, "market", "step", 50)
    assert_scores_equal(scores, plain)


def test_similarities_of_one_query_without_a_row_are_refused_by_their_shape():
    labels = torch.tensor([1]), torch.tensor([1, 2]), torch.tensor([1]), torch.tensor([2, 2])
    with pytest.raises(ValueError, match=r"1 x 2 similarities were due, got \(2,\) from query 0 on"):
        scores_from_similarities([torch.zeros(2)], *labels)


def test_embeddings_of_zeros_have_similarity_zero_to_everything():
    gallery = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    query_labels, gallery_labels = (torch.tensor([1]), torch.tensor([8])), (torch.tensor([2, 1, 3]), torch.tensor([9, 9, 9]))
    scores = retrieval_scores(torch.tensor([[1.0, 0.0]]), gallery, query_labels[0], gallery_labels[0], query_labels[1], gallery_labels[1])
    assert scores.first_match_rank.tolist() == [2]


def test_one_query_and_one_gallery_image_score_one():
    one = torch.ones(1, 4)
    scores = retrieval_scores(one, one, torch.tensor([5]), torch.tensor([5]), torch.tensor([1]), torch.tensor([2]), max_rank=3)
    assert (scores.mAP, scores.mINP, scores.cmc.tolist()) == (1.0, 1.0, [1.0, 1.0, 1.0])


def test_reranking_ranks_by_the_k_reciprocal_distance_without_junk():
    query, gallery, *labels = clustered(dtype=torch.float32)
    counted = labels[1] != -1
    distances = torch.cat(list(k_reciprocal_rerank(F.normalize(query), F.normalize(gallery[counted]))))
    expected = scores_from_similarities([-distances], labels[0], labels[1][counted], labels[2], labels[3][counted])
    scores = retrieval_scores(query, gallery, *labels, rerank=True)
    assert scores.average_precision.tolist() == expected.average_precision.tolist()
    assert scores.mAP != retrieval_scores(query, gallery, *labels).mAP


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{}, {"metric": "euclidean"}, {"rerank": True}])
def test_scores_on_a_cuda_device_equal_those_on_the_cpu(options):
    data = clustered()
    on_device = retrieval_scores(*(value.cuda() for value in data), **options)
    assert on_device.mAP == pytest.approx(retrieval_scores(*data, **options).mAP, abs=1e-6)
    assert not on_device.cmc.is_cuda
