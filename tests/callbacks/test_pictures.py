from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from lightning_reid.callbacks import rank_list
from lightning_reid.callbacks.cluster_strips import cluster_strips
from lightning_reid.callbacks.crop_sheet import NEUTRAL, RIGHT, WRONG, FramedCrop, draw_crop_sheet
from lightning_reid.callbacks.embedding_projector import project, sampled_cluster_rows
from lightning_reid.callbacks.evaluation_rows import EmbeddedRecords
from lightning_reid.callbacks.rank_list import RankListLogger, draw_rank_lists, frames_of, matching_of
from lightning_reid.callbacks.redetection_picture import SHOWN_HEIGHT, draw_before_and_after
from lightning_reid.callbacks.search_picture import draw_search, sampled_identity_rows
from lightning_reid.callbacks.threshold_picture import draw_threshold
from lightning_reid.metrics import RetrievalMetrics, rank_lists
from lightning_reid.records import ImageRecord, TargetState, TrackletRecord
from lightning_reid.selection import distance_threshold


def record(folder, name: str, pid: int, camid: int, color=(0, 0, 255)) -> ImageRecord:
    Image.new("RGB", (8, 16), color).save(folder / f"{name}.png")
    return ImageRecord(str(folder / f"{name}.png"), pid, camid)


# gallery of a query of pid 1, second pid 7, camera 1, nearest first by cosine; by Euclidean distance the last one comes first
GALLERY = {
    "own camera": (1, 1, -1),
    "junk": (-1, 2, -1),
    "also 1": (2, 2, 1),
    "distractor": (0, 1, -1),
    "7": (7, 3, -1),
    "right": (1, 2, -1),
}
PLACES = torch.tensor([[9.0, 0.0], [9.0, 0.1], [9.0, 0.2], [9.0, 0.3], [9.0, 0.4], [1.0, 0.3]])
MARKET_LIST = [("also 1", WRONG), ("distractor", WRONG), ("7", WRONG), ("right", RIGHT)]


@pytest.mark.parametrize(
    ("protocol", "metric", "shown"),
    [
        ("market", "cosine", MARKET_LIST),
        ("market", "euclidean", [("right", RIGHT), *MARKET_LIST[:3]]),
        ("mars", "cosine", MARKET_LIST),
        ("mars-excluding-queries", "cosine", MARKET_LIST),
        ("mars-corrected", "cosine", [("also 1", RIGHT), ("7", RIGHT), ("right", RIGHT)]),
        ("no-camera", "cosine", [("own camera", RIGHT), *MARKET_LIST]),
    ],
)
def test_the_picture_shows_what_the_module_scores(protocol, metric, shown, tmp_path, monkeypatch):
    query = (TrackletRecord(("query",), 1, 1, second_pid=7),)
    gallery = tuple(TrackletRecord((name,), pid, camid, second_pid=second) for name, (pid, camid, second) in GALLERY.items())
    drawn = []
    monkeypatch.setattr(rank_list, "draw_rank_lists", lambda asked, ranked, **_: drawn.append((asked, ranked)) or Image.new("RGB", (2, 2)))
    module = SimpleNamespace(retrieval=RetrievalMetrics(protocol, metric=metric))
    trainer = SimpleNamespace(is_global_zero=True, loggers=[])
    rows = EmbeddedRecords(query, torch.tensor([[1.0, 0.0]])), EmbeddedRecords(gallery, PLACES)
    RankListLogger(tmp_path / "ranks.png").use(trainer, module, "val", *rows)
    assert [(asked[0].thumbnail, [(crop.file, crop.color) for crop in ranked[0]]) for asked, ranked in drawn] == [("query", shown)]
    assert (tmp_path / "ranks.png").is_file()


@pytest.mark.parametrize("gallery_comes_too", [True, False])
def test_where_the_queries_are_the_gallery_none_is_shown_to_itself(gallery_comes_too, tmp_path, monkeypatch):
    records = tuple(ImageRecord(f"{n}", pid, 1) for n, pid in enumerate([1, 1, 2]))
    rows = EmbeddedRecords(records, torch.eye(3)[:, :2])
    drawn = []
    monkeypatch.setattr(rank_list, "draw_rank_lists", lambda _, ranked, **__: drawn.extend(ranked) or Image.new("RGB", (2, 2)))
    module = SimpleNamespace(retrieval=RetrievalMetrics("leave-one-out"))
    gallery = rows if gallery_comes_too else EmbeddedRecords((), torch.empty(0, 2))
    RankListLogger(tmp_path / "ranks.png").use(SimpleNamespace(is_global_zero=True, loggers=[]), module, "val", rows, gallery)
    assert [[crop.file for crop in found] for found in drawn] == [["1", "2"], ["0", "2"], ["0", "1"]]
    assert [[crop.color for crop in found] for found in drawn] == [[RIGHT, WRONG], [RIGHT, WRONG], [WRONG, WRONG]]


def test_a_module_without_scores_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="shows what a module scores, but LightningModule has no `retrieval`"):
        RankListLogger(tmp_path / "ranks.png").setup(SimpleNamespace(), pl.LightningModule(), "fit")


def ranked_crops(query: list, gallery: list) -> list[FramedCrop]:
    """What is shown of a gallery in its own order."""
    lists = rank_lists(torch.ones(1, 2), torch.ones(len(gallery), 2), matching_of(query, gallery, "mars-corrected"), [0], top=9)
    return frames_of(gallery, lists[0])


def test_right_answers_get_green_frames_and_wrong_ones_red(tmp_path):
    query = [record(tmp_path, "q", 1, 1)]
    picture = np.asarray(draw_rank_lists(query, [ranked_crops(query, [record(tmp_path, "a", 1, 2), record(tmp_path, "b", 2, 2)])]))
    green, red = ((picture == color).all(-1) for color in (RIGHT, WRONG))
    assert green.any()
    assert red.any()
    assert np.argwhere(green)[:, 1].max() < np.argwhere(red)[:, 1].min()  # the right one is ranked first


def test_sampled_rows_are_whole_clusters_without_noise_and_repeat_with_the_seed():
    labels = torch.tensor([0, 1, 2, -1] * 5)
    rows = sampled_cluster_rows(labels, 2, 100, seed=0)
    assert len(labels[rows].unique()) == 2
    assert (labels[rows] >= 0).all()
    assert len(rows) == 10
    assert torch.equal(rows, sampled_cluster_rows(labels, 2, 100, seed=0))
    assert len(sampled_cluster_rows(torch.full((4,), -1), 2, 100, seed=0)) == 0


def test_projection_keeps_far_clusters_apart():
    embeddings = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)) * 0.01
    embeddings[20:, 0] += 5
    points = project(embeddings, seed=0)
    assert points.shape == (40, 2)
    centers = points[:20].mean(0), points[20:].mean(0)
    assert np.linalg.norm(centers[0] - centers[1]) > np.linalg.norm(points[:20] - centers[0], axis=1).max()


def test_a_tracklet_is_shown_by_its_middle_crop_and_is_right_by_its_second_identity_too(tmp_path):
    files = tuple(record(tmp_path, f"f{n}", 1, 1, color).path for n, color in enumerate(["red", "blue", "black"]))
    query, other = TrackletRecord(files, 1, 1), TrackletRecord(files, 5, 2, second_pid=1)
    picture = np.asarray(draw_rank_lists([query], [ranked_crops([query], [other])]))
    assert (picture == (0, 0, 255)).all(2).any()
    assert not (picture == (255, 0, 0)).all(2).any()
    assert (picture == RIGHT).all(2).any()
    assert not (picture == WRONG).all(2).any()


def test_the_picture_of_redetection_has_the_frames_above_and_the_processed_ones_below():
    red, blue = torch.zeros(3, 40, 30, dtype=torch.uint8), torch.zeros(2, 3, 64, 32, dtype=torch.uint8)
    red[0], blue[:, 2] = 255, 255
    picture = np.asarray(draw_before_and_after([([red, red], blue), ([red], blue[:1])]))
    width = SHOWN_HEIGHT // 2
    assert picture.shape == (4 * SHOWN_HEIGHT + 8, 2 * width, 3)
    assert (picture[:SHOWN_HEIGHT] == (255, 0, 0)).all()
    assert (picture[SHOWN_HEIGHT : 2 * SHOWN_HEIGHT] == (0, 0, 255)).all()
    assert (picture[-SHOWN_HEIGHT:, width:] == 255).all()  # the second tracklet is one frame long
    long = draw_before_and_after([([red] * 30, blue[:1].expand(30, -1, -1, -1))], max_frames=5)
    assert long.size == (5 * width, 2 * SHOWN_HEIGHT)
    with pytest.raises(ValueError, match="no tracklet"):
        draw_before_and_after([])


def test_the_search_is_drawn_with_every_identity_outlined_as_its_cluster_fits():
    generator = torch.Generator().manual_seed(0)
    pids = torch.arange(1, 7).repeat_interleave(6)  # identities 1, 2 are labeled
    embeddings = 5 * torch.eye(6, 8).repeat_interleave(6, dim=0) + 0.1 * torch.randn(36, 8, generator=generator)
    figure = draw_search(embeddings, pids, 12, {"right": pids, "all in one": torch.zeros_like(pids)})
    outlines = [[patch.get_linestyle() for patch in axes.patches] for axes in figure.axes]
    assert outlines == [["-"] * 6, [":"] * 6]
    assert [axes.get_title() for axes in figure.axes] == ["right", "all in one"]


def test_identities_nobody_knows_are_not_drawn():
    rows = sampled_identity_rows(torch.tensor([1, 1, 2, -1, -1, 7]), 3, seed=0)
    assert sorted(rows.tolist()) == [0, 1, 2, 5]
    assert draw_search(torch.zeros(4, 2), torch.tensor([1, 1, -1, -1]), 2, {"none": torch.zeros(4).long()}) is None


def test_strips_show_the_exemplar_first_and_a_line_where_the_selection_ends(tmp_path):
    places = torch.tensor([[0.0], [1.0], [3.0], [10.0], [11.0]])
    state = TargetState(2, torch.tensor([0, 0, -1, 1, 1]), torch.zeros(5).long(), embeddings=places, exemplars=torch.tensor([1, 4]))
    strips = cluster_strips(state, [0, 3], max_images=3)
    assert strips == [
        {"iteration": 2, "followed": 0, "rows": [1, 0, 2], "selected": 2, "size": 3},
        {"iteration": 2, "followed": 3, "rows": [4, 3], "selected": 2, "size": 2},
    ]
    crop = FramedCrop(record(tmp_path, "a", 1, 1).path, NEUTRAL)
    with_line, without = (np.asarray(draw_crop_sheet([[crop] * 3], ["exemplar"], cuts=[cut])) for cut in (2, 3))
    assert (with_line == WRONG).all(2).any()
    assert not (without == WRONG).all(2).any()


def test_the_threshold_is_drawn_between_the_histograms():
    found = distance_threshold(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), torch.tensor([0, 0, 1, 1]))
    axes = draw_threshold(found, tau=found.value + 1).axes[0]
    marks = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert marks == [found.value, found.value + 1]
    assert 0.01 < found.value < 24
