"""Labels across cameras from a graph of mutual neighbors, against the goldens and against the slow, obvious version."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.clustering import contradictions, global_labels, mutual_top1, triangle_counts
from lightning_reid.clustering.camera_labels import labels_of_edges

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = ("hand", "chain", "plain", "noisy", "empty_and_single", "ties", "duplicates", "two_cameras", "one_camera", "none", "large")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "edge_graph.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def banks(golden: dict[str, np.ndarray], case: str) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = golden[f"{case}/bank_sizes"]
    memories = golden[f"{case}/memories"] if f"{case}/memories" in golden else large(golden["large/rule"])
    return torch.from_numpy(memories), torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))


def large(rule: np.ndarray) -> np.ndarray:
    seed, cameras, per, dim, people = (int(one) for one in rule[:5])
    random = np.random.default_rng(seed)
    centre = random.standard_normal((people, dim))
    style = 0.3 * random.standard_normal((cameras, dim))
    found = []
    for camera in range(cameras):
        who = random.permutation(people)[:per]
        found.append(np.round((centre[who] + style[camera] + rule[5] * random.standard_normal((per, dim))) * 16) / 16)
    return np.concatenate(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_edges_and_triangles_are_the_goldens(golden, case, dtype):
    memories, camids = banks(golden, case)
    for tile in (7, 2048) if case != "large" else (1000,):
        edges = mutual_top1(memories.to(dtype), camids, tile=tile)
        assert edges.tolist() == golden[f"{case}/edges"].tolist()
    assert triangle_counts(edges, len(memories)).tolist() == golden[f"{case}/triangles"].tolist()


@pytest.mark.parametrize("alpha", range(4))
@pytest.mark.parametrize("case", [case for case in CASES if case not in ("one_camera", "none", "two_cameras")])
def test_labels_are_the_goldens(golden, case, alpha):
    memories, camids = banks(golden, case)
    if alpha > len(camids.unique()) - 2:
        with pytest.raises(ValueError, match=f"alpha={alpha}, and an edge between .* cameras has at most"):
            global_labels(memories, camids, alpha)
        return
    edges = torch.from_numpy(golden[f"{case}/edges"].astype(np.int64))
    graph = edges, torch.from_numpy(golden[f"{case}/squared_distances"]), camids, alpha
    prefix = f"{case}/alpha{alpha}"
    assert labels_of_edges(*graph).tolist() == golden[f"{prefix}/labels"].tolist()
    assert labels_of_edges(*graph, repeated=True).tolist() == golden[f"{prefix}/truss_labels"].tolist()
    assert labels_of_edges(*graph, "one_per_camera").tolist() == golden[f"{prefix}/one_per_camera_labels"].tolist()
    if case != "large":
        assert global_labels(memories, camids, alpha, "one_per_camera").tolist() == golden[f"{prefix}/one_per_camera_labels"].tolist()
    _, labels, too_many, _, _, _ = golden[f"{case}/counts"][alpha].tolist()
    found = labels_of_edges(*graph)
    assert (int(found.max()) + 1, contradictions(found, camids)) == (labels, too_many)


@st.composite
def scenes(draw) -> tuple[torch.Tensor, torch.Tensor]:
    """Memories on a small grid, so that many distances are equal, of two to five cameras in any order."""
    number = draw(st.integers(2, 24))
    camids = draw(st.lists(st.sampled_from([1, 2, 3, 5, 9]), min_size=number, max_size=number).filter(lambda told: len(set(told)) > 1))
    points = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=number, max_size=number))
    return torch.tensor(points, dtype=torch.float64) / 8, torch.tensor(camids)


def obvious_edges(memories: torch.Tensor, camids: torch.Tensor) -> list[list[int]]:
    def nearest(row: int, camera: int) -> int:
        bank = [other for other in range(len(camids)) if camids[other] == camera]
        return min(bank, key=lambda other: (float((memories[row] - memories[other]).square().sum()), other))

    pairs = combinations(range(len(camids)), 2)
    return [[u, v] for u, v in pairs if camids[u] != camids[v] and nearest(u, int(camids[v])) == v and nearest(v, int(camids[u])) == u]


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(1, 9))
def test_edges_are_those_of_the_obvious_search_whatever_the_tiles(scene, tile):
    memories, camids = scene
    edges = mutual_top1(memories, camids, tile=tile)
    assert edges.tolist() == obvious_edges(memories, camids)
    joined = {frozenset(edge) for edge in edges.tolist()}
    slow = [sum({frozenset((u, w)), frozenset((v, w))} <= joined for w in range(len(camids))) for u, v in edges.tolist()]
    assert triangle_counts(edges, len(camids)).tolist() == slow
    assert all(count <= len(camids.unique()) - 2 for count in slow)


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_edges_of_two_cameras_are_a_matching(scene):
    memories, camids = scene
    edges = mutual_top1(memories, camids)
    ends = torch.cat([edges, edges.flip(1)])
    met = list(zip(ends[:, 0].tolist(), camids[ends[:, 1]].tolist()))
    assert len(set(met)) == len(met)
    assert bool((camids[edges[:, 0]] != camids[edges[:, 1]]).all())
    assert all(count <= len(camids.unique()) - 1 for count in edges.flatten().unique(return_counts=True)[1].tolist())


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from([torch.float16, torch.float32]), st.data())
def test_fewer_bits_change_nothing_where_distances_are_exact(scene, dtype, data):
    memories, camids = scene
    assert mutual_top1(memories.to(dtype), camids).tolist() == mutual_top1(memories, camids).tolist()
    alpha = data.draw(st.integers(0, len(camids.unique()) - 2))
    for method in ("one_per_camera", "components"):
        found = global_labels(memories.to(dtype), camids, alpha, method)
        assert found.tolist() == global_labels(memories, camids, alpha, method).tolist()


def lies_within(labels: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether who shares one of ``labels`` shares one of ``others``."""
    return len(torch.stack([labels, others]).unique(dim=1).T) == len(labels.unique())


@settings(max_examples=30, deadline=None)
@given(scenes())
def test_asking_for_more_takes_labels_apart_and_puts_none_together(scene):
    memories, camids = scene
    before = torch.zeros_like(camids)
    for alpha in range(len(camids.unique()) - 1):
        labels = global_labels(memories, camids, alpha)
        assert lies_within(labels, before)
        assert lies_within(global_labels(memories, camids, alpha, repeated=True), labels)
        assert lies_within(global_labels(memories, camids, alpha, "one_per_camera"), labels)
        before = labels
        first = dict.fromkeys(labels[torch.sort(camids, stable=True).indices].tolist())
        assert list(first) == list(range(len(first)))


@settings(max_examples=60, deadline=None)
@given(scenes(), st.data())
def test_no_label_holds_two_memories_of_a_camera_and_the_order_of_banks_changes_nothing(scene, data):
    memories, camids = scene
    alpha = data.draw(st.integers(0, len(camids.unique()) - 2))
    labels = global_labels(memories, camids, alpha, "one_per_camera", repeated=data.draw(st.booleans()))
    assert contradictions(labels, camids) == 0
    arrived = data.draw(st.permutations(camids.unique().tolist()))
    order = torch.cat([(camids == camera).nonzero().flatten() for camera in arrived])
    for method in ("one_per_camera", "components"):
        again = global_labels(memories[order], camids[order], alpha, method)
        assert again.tolist() == global_labels(memories, camids, alpha, method)[order].tolist()


def test_a_component_may_join_two_memories_of_a_camera_and_auto_takes_the_smallest_alpha_without(golden):
    memories, camids = banks(golden, "chain")
    assert contradictions(global_labels(memories, camids, 0), camids) == 1
    assert contradictions(global_labels(memories, camids, 0, "one_per_camera"), camids) == 0
    memories, camids = banks(golden, "noisy")
    tried = [contradictions(global_labels(memories, camids, alpha), camids) for alpha in range(4)]
    chosen = next(alpha for alpha, count in enumerate(tried) if count <= 0.05 * len(camids))
    assert chosen > 0
    assert global_labels(memories, camids, "auto").tolist() == global_labels(memories, camids, chosen).tolist()


def one_row_of(value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Memories of cameras 3, 7, 3, 7, the second of camera 3 with a number that it should not hold."""
    memories = torch.zeros(4, 2, dtype=dtype)
    memories[2, 1] = value
    return memories


CAMERAS = torch.tensor([3, 7, 3, 7])


@pytest.mark.parametrize("ask", [mutual_top1, lambda memories, camids: global_labels(memories, camids, 0)])
@pytest.mark.parametrize(
    ("memories", "camids", "message"),
    [
        (torch.zeros(4, 2), CAMERAS[:3], "a camera for each, got .*4, 2.* and .3"),
        (torch.zeros(3, 2), CAMERAS, "a camera for each, got .*3, 2.* and .4"),
        (torch.zeros(4), CAMERAS, "need memories .N, D. of floats"),
        (torch.zeros(4, 2, 2), CAMERAS, "need memories .N, D. of floats"),
        (torch.zeros(4, 2, dtype=torch.int64), CAMERAS, "of floats .* got torch.int64"),
        (torch.zeros(4, 2), CAMERAS[:, None], "a camera for each"),
        (torch.zeros(4, 2), CAMERAS.float(), "camids must be .N. int64, got torch.float32"),
        (torch.zeros(4, 2), CAMERAS > 3, "camids must be .N. int64, got torch.bool"),
        (one_row_of(torch.nan), CAMERAS, "row 1 of the memories of camera 3 holds NaN"),
        (one_row_of(-torch.inf, torch.float16), CAMERAS, "row 1 of the memories of camera 3 holds NaN, infinity"),
        (one_row_of(1e20), CAMERAS, "row 1 of the memories of camera 3 holds .* too large to be squared"),
        (one_row_of(1e19), CAMERAS, "row 1 of the memories of camera 3 holds .* too large to be squared"),  # its square is finite
    ],
)
def test_memories_that_make_no_graph_are_refused_by_camera_and_row(ask, memories, camids, message):
    with pytest.raises(ValueError, match=message):
        ask(memories, camids)


def test_the_largest_memories_that_pass_have_finite_distances():
    memories = torch.tensor([[9e18], [-9e18], [-9e18], [9e18]])
    assert mutual_top1(memories, torch.tensor([1, 1, 2, 2])).tolist() == [[0, 3], [1, 2]]
    assert mutual_top1(one_row_of(1e20, torch.float64), CAMERAS).tolist() == [[0, 1]]


def test_a_graph_of_single_of_no_and_of_equal_memories():
    assert global_labels(torch.tensor([[0.0], [5.0]]), torch.tensor([9, 4]), 0).tolist() == [0, 0]
    assert global_labels(torch.tensor([[0.0], [5.0], [4.0]]), torch.tensor([9, 4, 4]), "auto").tolist() == [1, 0, 1]
    alike = torch.ones(6, 3)
    assert mutual_top1(alike, torch.tensor([2, 2, 1, 1, 3, 3])).tolist() == [[0, 2], [0, 4], [2, 4]]
    assert global_labels(alike, torch.tensor([2, 2, 1, 1, 3, 3]), 1).tolist() == [0, 2, 0, 1, 0, 3]
    assert mutual_top1(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).shape == (0, 2)
    assert contradictions(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)) == 0


@pytest.mark.parametrize(
    ("camids", "options", "message"),
    [
        (torch.full((4,), 3), {"alpha": 0}, "two cameras or more, got 1"),
        (torch.full((4,), 3), {"alpha": "auto"}, "two cameras or more, got 1"),
        (CAMERAS, {"alpha": 1}, "alpha=1, and an edge between 2 cameras has at most 0 triangles: give at most 0"),
        (torch.arange(4), {"alpha": 3}, "alpha=3, and an edge between 4 cameras has at most 2 triangles: give at most 2"),
        (CAMERAS, {"alpha": -1}, "alpha"),
        (CAMERAS, {"alpha": 0.0}, "alpha"),
        (CAMERAS, {"alpha": "most"}, "alpha"),
        (CAMERAS, {"alpha": 0, "method": "clusters"}, "method must be one of"),
        (CAMERAS, {"alpha": 0, "repeated": "no"}, "repeated"),
        (CAMERAS, {"alpha": 0, "tile": 0}, "tile"),
    ],
)
def test_labels_that_cannot_be_are_refused_by_name(camids, options, message):
    with pytest.raises(ValueError, match=message):
        global_labels(torch.zeros(4, 2), camids, **options)


def test_no_memories_have_no_labels():
    with pytest.raises(ValueError, match="two cameras or more, got 0"):
        global_labels(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 0)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([0, 1]), "edges must be .E, 2. int64"),
        (torch.tensor([[0.0, 1.0]]), "edges must be .E, 2. int64, got torch.float32"),
        (torch.tensor([[0, 1], [1, 3]]), r"different rows of 3 memories, got \[1, 3\]"),
        (torch.tensor([[0, -1]]), r"different rows of 3 memories, got \[0, -1\]"),
        (torch.tensor([[0, 1], [2, 2]]), r"different rows of 3 memories, got \[2, 2\]"),
        (torch.tensor([[0, 1], [1, 0]]), "an edge is there twice"),
    ],
)
def test_edges_of_no_graph_are_refused(edges, message):
    with pytest.raises(ValueError, match=message):
        triangle_counts(edges, 3)


def test_labels_without_a_camera_each_and_rows_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"a label and a camera for each memory, got \(0,\) and \(4,\)"):
        contradictions(torch.zeros(0, dtype=torch.int64), CAMERAS)
    with pytest.raises(ValueError, match="in the order of their cameras"):
        labels_of_edges(torch.tensor([[0, 1]]), torch.zeros(1), CAMERAS, 0)
