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
from lightning_reid.clustering.camera_graph import labels_of_edges

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


def test_what_is_no_graph_is_refused_by_camera_and_row():
    memories, camids = torch.zeros(4, 2), torch.tensor([3, 7, 3, 7])
    with pytest.raises(ValueError, match="two cameras or more, got 1"):
        global_labels(memories, torch.full((4,), 3), 0)
    with pytest.raises(ValueError, match="at most 0 triangles: give at most 0"):
        global_labels(memories, camids, 1)
    memories[2] = torch.nan
    with pytest.raises(ValueError, match="row 1 of the memories of camera 3 holds NaN"):
        global_labels(memories, camids, 0)
    with pytest.raises(ValueError, match="a camera for each"):
        mutual_top1(memories, camids[:3])
    assert mutual_top1(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).shape == (0, 2)
    assert contradictions(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)) == 0
