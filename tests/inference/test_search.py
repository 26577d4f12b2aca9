from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_reid.inference import EmbeddedImages, draw_search, nearest_images
from lightning_reid.inference.search import Neighbor, print_neighbors, write_neighbors

COLORS = {"q": (10, 200, 10), "a": (250, 0, 0), "b": (0, 0, 250), "c": (250, 250, 0)}


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    for name, color in COLORS.items():
        Image.new("RGB", (20, 40), color).save(tmp_path / f"{name}.png")
    return {name: str(tmp_path / f"{name}.png") for name in COLORS}


@pytest.fixture
def images(files) -> EmbeddedImages:
    return EmbeddedImages(tuple(files[name] for name in "abcq"), torch.tensor([[0.6, 0.8], [0.8, 0.6], [-1.0, 0.0], [1.0, 0.0]]))


def test_answers_are_ranked_by_cosine_without_the_query_itself(files, images):
    found = nearest_images(files["q"], torch.tensor([1.0, 0.0]), images, top=10)
    assert [(answer.rank, answer.path) for answer in found] == [(1, files["b"]), (2, files["a"]), (3, files["c"])]
    assert [answer.similarity for answer in found] == pytest.approx([0.8, 0.6, -1.0])


def test_top_limits_the_answers_not_the_candidates(files, images):
    assert [answer.path for answer in nearest_images(files["q"], torch.tensor([1.0, 0.0]), images, top=1)] == [files["b"]]


def test_a_link_to_the_query_is_the_query(files, images, tmp_path):
    (tmp_path / "link.png").symlink_to(files["q"])
    found = nearest_images(tmp_path / "link.png", torch.tensor([1.0, 0.0]), images, top=10)
    assert files["q"] not in [answer.path for answer in found]


def test_equal_images_stay_in_their_order(files):
    images = EmbeddedImages((files["c"], files["a"], files["b"]), torch.tensor([[0.0, 1.0]] * 3))
    found = nearest_images(files["q"], torch.tensor([0.0, 1.0]), images, top=3)
    assert [answer.path for answer in found] == [files["c"], files["a"], files["b"]]


def test_a_query_alone_has_nothing_to_search(files):
    alone = EmbeddedImages((files["q"],), torch.tensor([[1.0, 0.0]]))
    with pytest.raises(ValueError, match=r"nothing to search for .*q\.png: it is the only image"):
        nearest_images(files["q"], torch.tensor([1.0, 0.0]), alone, top=10)
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        nearest_images(files["q"], torch.tensor([1.0, 0.0]), alone, top=0)


def test_written_neighbors_read_back_also_with_commas_and_foreign_bytes_in_their_names(tmp_path):
    names = ["plain.jpg", 'a,"b".jpg', b"\xff.jpg".decode("utf-8", errors="surrogateescape")]
    write_neighbors(tmp_path / "neighbors.csv", [Neighbor(n, name, 0.25) for n, name in enumerate(names, 1)])
    with (tmp_path / "neighbors.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))
    assert rows == [["rank", "path", "cosine_similarity"], *([str(n), name, "0.250000"] for n, name in enumerate(names, 1))]


def test_the_printed_table_shows_names_literally(capsys):
    print_neighbors("[bold]q.jpg", [Neighbor(1, "[red]a.jpg", 0.98765), Neighbor(2, "\udcff.jpg", -0.5)])
    printed = capsys.readouterr().out
    for text in ("most similar to [bold]q.jpg", "[red]a.jpg", "0.988", "-0.500", "?.jpg"):
        assert text in printed


def left_edge(picture: np.ndarray, color) -> int:
    return int(np.argwhere((picture == color).all(-1))[:, 1].min())


def test_the_picture_shows_the_query_and_then_the_answers_by_rank(files):
    neighbors = [Neighbor(1, files["b"], 0.8), Neighbor(2, files["a"], 0.6), Neighbor(3, files["c"], -1.0)]
    picture = np.asarray(draw_search(files["q"], neighbors))
    edges = [left_edge(picture, COLORS[name]) for name in "qbac"]
    assert edges == sorted(edges)
    assert len(set(edges)) == 4


def test_answers_beyond_a_row_go_below_not_off_the_sheet(files):
    neighbors = [Neighbor(n, files["b" if n < 3 else "a"], 0.5) for n in (1, 2, 3)]
    picture = np.asarray(draw_search(files["q"], neighbors, answers_per_row=2))
    above, below = (np.argwhere((picture == COLORS[name]).all(-1)) for name in "ba")
    assert above[:, 0].max() < below[:, 0].min()
    assert above[:, 1].min() == below[:, 1].min()


def test_crops_keep_their_shape_in_the_picture(tmp_path):
    Image.new("RGB", (30, 30), (250, 0, 0)).save(tmp_path / "square.png")
    Image.new("RGB", (10, 20), (0, 0, 250)).save(tmp_path / "q.png")
    picture = np.asarray(draw_search(str(tmp_path / "q.png"), [Neighbor(1, str(tmp_path / "square.png"), 1.0)]))
    red = np.argwhere((picture == (250, 0, 0)).all(-1))
    assert (red.max(0) - red.min(0) + 1).tolist() == [96, 96]


def test_embeddings_from_another_machine_are_searched_by_the_names_of_their_files():
    images = EmbeddedImages(("/elsewhere/q.png", "/elsewhere/a.png"), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    found = nearest_images("/elsewhere/q.png", torch.tensor([1.0, 0.0]), images, top=5)
    assert [(answer.path, answer.similarity) for answer in found] == [("/elsewhere/a.png", pytest.approx(0.6))]
