"""What retrieval_scores says to bad input."""

import pytest
import torch

from lightning_reid.metrics import retrieval_scores
from lightning_reid.metrics.retrieval import scores_from_similarities

NAMES = ("query", "gallery", "query_pids", "gallery_pids", "query_camids", "gallery_camids")


def scores_of(**changes):
    eye = torch.eye(4)
    pids, one, two = torch.arange(4), torch.ones(4).long(), torch.full((4,), 2)
    return retrieval_scores(**{**dict(zip(NAMES, (eye, eye, pids, pids, one, two), strict=True)), **changes})


def with_value(value, row):
    embeddings = torch.eye(4)
    embeddings[row, 1] = value
    return embeddings


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_broken_query_embeddings_are_counted_and_the_first_named(value):
    with pytest.raises(ValueError, match=r"2 of 4 query embeddings hold NaN or infinite values, the first is row 1"):
        scores_of(query=with_value(value, [1, 3]))


def test_broken_gallery_embeddings_are_named_as_the_gallery_s():
    with pytest.raises(ValueError, match=r"1 of 4 gallery embeddings .* row 2"):
        scores_of(gallery=with_value(float("nan"), 2))


def test_infinities_of_both_signs_in_one_row_are_found():
    embeddings = torch.eye(4)
    embeddings[0, :2] = torch.tensor([float("inf"), float("-inf")])
    with pytest.raises(ValueError, match="1 of 4 query"):
        scores_of(query=embeddings)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_finite_embeddings_whose_products_overflow_are_refused_as_such(metric):
    with pytest.raises(ValueError, match=r"squared norms .* overflow torch.float32"):
        scores_of(query=torch.eye(4) * 3e38, metric=metric)


def test_a_row_whose_sum_overflows_is_not_called_infinite():
    with pytest.raises(ValueError, match="squared norms"):
        scores_of(gallery=torch.full((4, 4), 3e38))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": torch.zeros(0, 4), "query_pids": torch.zeros(0).long()}, r"query must be a non-empty matrix .* got shape \(0, 4\)"),
        ({"gallery": torch.zeros(4)}, r"gallery must be a non-empty matrix .* got shape \(4,\)"),
        ({"gallery": torch.ones(4, 4).long()}, "gallery must hold floating-point embeddings, got torch.int64"),
        ({"gallery": torch.ones(4, 5)}, "one width, got 4 and 5"),
        ({"gallery": torch.ones(4, 4).double()}, "share dtype and device, got torch.float32 on cpu and torch.float64 on cpu"),
        ({"query_pids": torch.arange(3), "query_camids": torch.ones(3).long()}, "each query embedding, got 4 embeddings and 3 pids"),
        ({"gallery_camids": torch.ones(3).long()}, "gallery_camids must be as many as there are pids"),
        ({"query_camids": None}, "'market' needs query_camids"),
        ({"query_pids": torch.ones(4)}, "query_pids must be integers, got torch.float32"),
        ({"query_pids": torch.ones(4, 1).long()}, "query_pids must be a non-empty list"),
        ({"gallery_pids": torch.full((4,), -1)}, "all 4 gallery images are junk"),
        ({"gallery_pids": torch.full((4,), 9)}, "not one of 4 queries has a match among 4 gallery images under the protocol 'market'"),
        ({"metric": "manhattan"}, "metric must be one of 'cosine', 'euclidean', got 'manhattan'"),
        ({"protocol": "duke"}, "protocol must be one of 'market', 'mars', .*'leave-one-out', got 'duke'"),
        ({"ap": "max"}, "ap must be one of 'step', 'trapezoid', got 'max'"),
        ({"max_rank": 0}, "max_rank must be a whole number of at least 1, got 0"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"rerank": True, "metric": "euclidean"}, "leave metric at 'cosine', got 'euclidean'"),
        ({"protocol": "leave-one-out", "gallery_pids": torch.arange(1, 5)}, "query_pids and gallery_pids differ"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        scores_of(**changes)


LABELS = (torch.tensor([1, 2]), torch.tensor([1, 2, 3]), torch.tensor([1, 1]), torch.tensor([2, 2, 2]))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([torch.zeros(1, 3)], "similarities of 2 queries were due, got 1"),
        ([torch.zeros(2, 3), torch.zeros(1, 3)], r"2 x 3 similarities were due, got \(1, 3\) from query 2 on"),
        ([torch.zeros(2, 4)], r"2 x 3 similarities were due, got \(2, 4\) from query 0 on"),
        ([torch.zeros(1, 3), torch.full((1, 3), float("nan"))], "the similarities of 1 queries hold NaN .* the first is query 1"),
    ],
)
def test_similarities_that_are_not_the_whole_matrix_are_refused(chunks, message):
    with pytest.raises(ValueError, match=message):
        scores_from_similarities(chunks, *LABELS)
