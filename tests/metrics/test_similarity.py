"""The chunks of similarities that retrieval_scores ranks by."""

import pytest
import torch

from lightning_reid.metrics.similarity import default_chunk_size, similarity_chunks


def test_chunks_together_hold_every_query_once():
    query, gallery = torch.randn(11, 4), torch.randn(6, 4)
    sizes = [chunk.shape for chunk in similarity_chunks(query, gallery, chunk_size=4)]
    assert sizes == [(4, 6), (4, 6), (3, 6)]


def test_euclidean_similarities_are_half_negative_squared_distances_up_to_a_constant_a_query():
    query, gallery = torch.randn(5, 4).double() + 30, torch.randn(9, 4).double() + 30
    (similarity,) = similarity_chunks(query, gallery, "euclidean")
    constant = similarity + torch.cdist(query, gallery).square() / 2
    torch.testing.assert_close(constant, constant[:, :1].expand(5, 9))


def test_cosine_similarities_are_cosines():
    query, gallery = torch.randn(5, 4).double(), torch.randn(9, 4).double()
    (similarity,) = similarity_chunks(query, gallery, "cosine")
    expected = torch.cosine_similarity(query[:, None], gallery[None], dim=2)
    torch.testing.assert_close(similarity, expected)


@pytest.mark.parametrize("num_gallery", [1, 15_913, 82_161, 2**30])
def test_default_chunks_on_the_cpu_hold_at_most_64_mib(num_gallery):
    size = default_chunk_size(num_gallery, torch.device("cpu"))
    assert size >= 1
    assert size == 1 or size * num_gallery * 4 <= 2**26
