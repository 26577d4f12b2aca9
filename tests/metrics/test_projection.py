"""Maps of embeddings against scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from lightning_reid.metrics import embedding_map

EMBEDDINGS = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)


def test_the_principal_components_are_those_of_scikit_learn_but_for_signs():
    points, theirs = embedding_map(EMBEDDINGS, method="pca"), PCA(2).fit_transform(EMBEDDINGS.double().numpy())
    np.testing.assert_allclose(points.abs().numpy(), np.abs(theirs), rtol=1e-4, atol=1e-4)
    assert (points.shape, points.dtype) == ((30, 2), torch.float32)


def test_principal_components_turn_with_nothing_but_the_data():
    torch.testing.assert_close(embedding_map(EMBEDDINGS.flip(0), method="pca"), embedding_map(EMBEDDINGS, method="pca").flip(0))


def test_embeddings_on_a_line_have_no_second_component():
    points = embedding_map(torch.tensor([[0.0], [1.0], [5.0]]), method="pca")
    assert points[:, 1].tolist() == [0, 0, 0]
    assert points[:, 0].tolist() == pytest.approx([-2, -1, 3])


def test_neighbors_are_placed_by_scikit_learn_with_the_seed():
    theirs = TSNE(perplexity=29 / 3, random_state=3, init="random").fit_transform(EMBEDDINGS.numpy())
    np.testing.assert_array_equal(embedding_map(EMBEDDINGS, method="tsne", seed=3).numpy(), theirs)


def test_two_embeddings_and_such_as_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="a map wants 3 embeddings or more, got 2"):
        embedding_map(EMBEDDINGS[:2])
    with pytest.raises(ValueError, match="1 of 3 map embeddings hold NaN or infinite values, the first is row 1"):
        embedding_map(torch.tensor([[1.0], [torch.nan], [0.0]]))


@pytest.mark.parametrize(("option", "value"), [("method", "umap"), ("seed", -1)])
def test_an_unknown_method_or_seed_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be "):
        embedding_map(EMBEDDINGS, **{option: value})
