"""No function of the core writes into what it is given, whether its conversions copy (float32) or not (float64)."""

from __future__ import annotations

import copy
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from types import GeneratorType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from lightning_reid.losses.cycle_consistency import Translations
from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes
from lightning_reid.metrics.matching import Matching

PACKAGES = ("metrics", "clustering", "losses", "linking", "selection")
OF_NO_TENSOR = {
    "calibration_checksum",
    "calibration_content",
    "check_bounds",
    "check_distillation",
    "check_options",
    "default_chunk_size",
    "expected_calibration_error",
    "merges_to_reach",
    "require_cameras",
    "require_neighborhood",
    "tracking_engine",
    "verdict_of",
    "whole_picture",
}
WITHIN_OTHERS = {
    *("adjacency", "ascending", "triangles"),
    *("break_ties", "checked_embeddings", "clusters_around", "distance_of_weights", "expanded_sets", "in_full_precision"),
    *("largest_similarity", "membership_weights", "neighbor_matrix", "preferences_of", "ranks_in_chunk", "reciprocal_sets"),
    "require_matches",
    *("report_convergence", "require_symmetric", "scores_from_ranks", "similarity_chunks", "squared_distances", "squared_norms"),
}
"""Steps of the functions that are tried."""


class Given:
    """Twelve embeddings ``e`` of three people ``pids`` in two cameras ``cams``, and what else functions take, of one dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        draw = torch.Generator().manual_seed(0)
        self.pids, self.cams = torch.arange(12) % 3 + 1, torch.arange(12) // 3 % 2
        self.labels = self.pids - 1
        self.e = 3 * torch.eye(3, 4, dtype=dtype)[self.labels] + 0.5 * torch.randn(12, 4, dtype=dtype, generator=draw)
        self.other = self.e.flip(0).clone()
        self.logits, self.targets = torch.randn(2, 12, 3, dtype=dtype, generator=draw).unbind()
        self.targets = self.targets.softmax(1)
        self.cosines = self.logits.tanh()
        self.similarity = -(self.e[:, None] - self.e[None]).square().sum(2)
        self.values = self.e[:, 0].clone()
        self.same = self.pids[:, None] == self.pids
        self.noisy = self.labels.clone().index_fill_(0, torch.tensor([11]), -1)
        self.frames = [torch.randint(256, (3, 20, 10), dtype=torch.uint8, generator=draw) for _ in range(3)]
        self.boxes = [torch.tensor([[1.0, 2, 8, 19], [0, 0, 5, 9]], dtype=dtype) for _ in range(3)]
        self.box_embeddings = list(self.e[:6].clone().split(2))

    def sides(self) -> tuple[Tensor, ...]:
        return self.e, self.other, self.pids, self.pids.flip(0), self.cams, 1 - self.cams

    def distance(self) -> sparse.csr_matrix:
        return functions()["jaccard_distance"](self.e, k1=5, k2=2)

    def camera(self, name: str) -> TrackedCamera:
        frames, boxes = torch.tensor([1, 0, 2]), torch.cat([self.boxes[0], self.boxes[0][:1] + 1])
        true = TrueBoxes(frames, boxes, self.pids[:3].clone(), self.labels[:3].clone())
        return TrackedCamera(name, torch.arange(3, dtype=torch.float64), true, ShownBoxes(frames, boxes + 1, *self.labels[:6].view(2, 3)))

    def pairs(self) -> Any:
        return functions()["inter_camera_pairs"](self.e, self.cams, k=3)

    def many(self) -> tuple[Tensor, ...]:
        """Embeddings, pids and cameras of twenty people."""
        rows = torch.arange(80)
        return self.e[rows % 12] + rows[:, None], rows // 4, rows % 2

    def both(self) -> Any:
        return functions()["labeled_pairs"](self.e, self.pids, self.cams)

    def graph(self) -> Any:
        return functions()["similarity_graph"](self.e, 5)

    def clustered(self, preference: float) -> Any:
        return functions()["affinity_propagation"](self.similarity, preference)

    def matching(self) -> Any:
        return Matching(*self.sides()[2:], "market")


def package(name: str) -> ModuleType:
    return import_module(f"lightning_reid.{name}")


Call = Callable[[Given], tuple[Any, ...]]
CALLS: Mapping[str, Call | list[Call]] = {
    "bootstrap_interval": lambda g: (g.values, g.pids),
    "calibrate_similarity": lambda g: (*g.many(), {"model": "m", "data": "d"}),
    "camera_pair_failures": lambda g: (g.e, g.other, g.matching()),
    "camera_scores": lambda g: (g.camera("hall"),),
    "clustering_nmi": lambda g: (g.e, g.pids),
    "covered_rows": lambda g: (g.camera("hall"), functions()["frame_overlaps"](g.camera("hall"))),
    "cross_camera_scores": lambda g: ([g.camera("hall"), g.camera("door")],),
    "embedding_map": [lambda g: (g.e, {"method": "tsne"}), lambda g: (g.e, {"method": "pca"})],
    "fit_evidence": lambda g: tuple(g.both()),
    "frame_overlaps": lambda g: (g.camera("hall"),),
    "handover_scores": lambda g: ([g.camera("hall"), g.camera("door")],),
    "holm_adjusted": lambda g: (g.values.sigmoid(),),
    "identification_rates": lambda g: (g.e, g.pids, g.e[:2].clone(), g.pids[:2].clone(), {"fpir": [0.5]}),
    "judged_rows": [lambda g: (g.e, g.other, g.matching()), lambda g: (g.e, g.other, g.matching(), {"rerank": True})],
    "k_reciprocal_rerank": lambda g: (g.e, g.other, 4, 2),
    "labeled_pairs": [lambda g: (g.e, g.pids, g.cams), lambda g: (g.e, g.pids, {"most": 5})],
    "lowest_thresholds": lambda g: (g.values.sort(descending=True).values, g.e[:, 1].abs(), [0.5]),
    "own_labels": lambda g: ([g.camera("hall"), g.camera("door")],),
    "pair_distances": lambda g: (g.e, g.other, g.matching()),
    "paired_difference_interval": lambda g: (g.values, g.values.flip(0).clone()),
    "paired_difference_p_value": lambda g: (g.values, g.values.flip(0).clone()),
    "people_interval": lambda g: (g.both()[1], lambda weights: weights.sum()[None]),
    "plan_calibration": lambda g: g.many()[1:],
    "probability_of": lambda g: (g.cosines, functions()["calibrate_similarity"](*g.many(), model="m", data="d")),
    "rank_lists": [
        lambda g: (g.e, g.other, g.matching(), [0, 3], {"top": 5}),
        lambda g: (g.e, g.other, g.matching(), [0, 3], {"top": 5, "rerank": True}),
    ],
    "rates_from_scores": lambda g: (g.values, g.values.flip(0).clone(), [0.5]),
    "reassociation_scores": lambda g: (g.e, g.labels.sort().values, torch.arange(12) % 4, 1),
    "reliability": lambda g: (g.values.sigmoid(), g.labels == 0, g.e[:, 1].abs()),
    "reliability_of": lambda g: (functions()["calibrate_similarity"](*g.many(), model="m", data="d"), *g.both()),
    "retrieval_scores": [
        lambda g: g.sides(),
        lambda g: (*g.sides(), {"metric": "euclidean"}),
        lambda g: (*g.sides(), {"rerank": True}),
        lambda g: (*g.sides(), {"protocol": "mars-corrected", "query_second_pids": g.pids - 1, "gallery_second_pids": g.pids}),
    ],
    "rows_by": lambda g: (g.labels.numpy(), 3),
    "scores_from_similarities": [
        lambda g: ([g.similarity], *g.sides()[2:]),
        lambda g: (list(g.similarity.split(5)), *g.sides()[2:], {"ap": "trapezoid"}),
    ],
    "share_beyond": lambda g: (g.both()[1], [0.0, 0.5]),
    "verification_rates": lambda g: (g.e, g.pids, {"far": [0.5]}),
    "affinity_propagation": [lambda g: (g.similarity, -5.0), lambda g: (g.similarity, g.values - 9, {"asymmetric": True})],
    "cluster_centroids": lambda g: (g.e, g.noisy),
    "cluster_means": lambda g: (g.e, g.noisy),
    "cluster_medoids": lambda g: (g.e, g.noisy),
    "clustering_agreement": lambda g: (g.noisy, g.pids),
    "dbscan": lambda g: (g.distance(), 0.5, 2),
    "embedding_ranking": lambda g: (g.e,),
    "eps_from_share": lambda g: (g.distance(), 0.2),
    "graph_of_similarity": lambda g: (g.similarity, 4),
    "inter_camera_masks": lambda g: (torch.arange(6), g.labels[:6].clone(), g.pairs()),
    "contradictions": lambda g: (g.labels, g.cams),
    "discriminator_loss": lambda g: (g.values, g.values.flip(0).clone()),
    "generator_losses": lambda g: (g.e, g.other, Translations(*(g.e + one for one in range(6))), g.values, g.values.flip(0).clone()),
    "global_labels": [lambda g: (g.e, g.cams, 0), lambda g: (g.e, g.cams, "auto", "one_per_camera")],
    "labels_of_edges": lambda g: (torch.tensor([[0, 6], [1, 7]]), g.values.abs()[:2], g.cams.sort().values, 0),
    "least_squares_gan": lambda g: (g.values, {"recorded": True}),
    "graph_report": lambda g: (g.e, g.cams, g.pids, g.pids),
    "mutual_top1": lambda g: (g.e, g.cams),
    "tracklet_memories": lambda g: (g.e, g.labels, 3, {"centered": True}),
    "triangle_counts": lambda g: (torch.tensor([[0, 1], [0, 2], [1, 2]]), 3),
    "inter_camera_pairs": lambda g: (g.e, g.cams, 3),
    "jaccard_distance": lambda g: (g.e, 5, 2),
    "median_similarity": lambda g: (g.similarity,),
    "merge_closest_clusters": lambda g: (g.e, torch.arange(12), 3),
    "nearest_neighbors": [lambda g: (g.e, 3), lambda g: (g.e, 3, {"groups": g.cams})],
    "negative_squared_distances": lambda g: (g.e,),
    "pair_statistics": lambda g: (g.pairs(), g.noisy, g.pids),
    "part_based_homogeneity": lambda g: (g.noisy, g.e, g.other, g.e * 2, {"num_std": 0.1}),
    "sampled_median_similarity": lambda g: (g.e, {"num_rows": 5}),
    "search_preference": lambda g: (torch.linspace(-50, -1, 9), 2, 3, g.clustered, g.clustered),
    "semantics_guided_affinity_propagation": [
        lambda g: (g.e[:6].clone(), g.labels[:6].clone(), g.e[6:].clone()),
        lambda g: (g.e[:6].clone(), g.labels[:6].clone(), g.e[6:].clone(), {"neighbors": 4}),
    ],
    "semantics_guided_preference": lambda g: (g.similarity, g.labels[:6].clone()),
    "silhouette_samples": lambda g: (g.e, g.noisy),
    "similarity_graph": lambda g: (g.e, 4),
    "similarity_ranking": lambda g: (g.similarity,),
    "sparse_affinity_propagation": lambda g: (g.graph(), -5.0),
    "augmented_triplet_loss": lambda g: (g.e, torch.arange(12) // 2),
    "batch_hard_triplet_loss": lambda g: (g.e, g.pids),
    "cosface_loss": lambda g: (g.cosines, g.labels),
    "distillation_loss": lambda g: (g.logits, g.targets, g.labels),
    "embedding_cosine_loss": lambda g: (g.e, g.other),
    "has_triplets": lambda g: (g.pids,),
    "identity_losses": lambda g: (g.logits, g.e, g.labels),
    "label_smoothed_cross_entropy": lambda g: (g.logits, g.labels),
    "masked_weighted_triplet_loss": lambda g: (g.e, g.same, ~g.same),
    "model_contrastive_loss": lambda g: (g.e, g.other, g.e * 2),
    "one_vs_all_loss": lambda g: (g.cosines, g.cosines[0].clone(), g.labels),
    "pairwise_distances": [lambda g: (g.e, g.other), lambda g: (g.e, g.other, "cosine")],
    "relational_distance_loss": lambda g: (g.e, g.other),
    "repelled_loss": lambda g: (g.e, g.labels, g.other[:3].clone()),
    "require_labels": lambda g: (g.labels, 3),
    "soft_target_cross_entropy": lambda g: (g.logits, g.targets),
    "softened_divergence": lambda g: (g.logits, g.targets),
    "spread_out_loss": lambda g: (g.e,),
    "updated_table": lambda g: (g.other[:3].clone(), g.e, g.labels),
    "weighted_triplet_loss": lambda g: (g.e, g.pids),
    "align_tracklet": lambda g: (g.frames, g.boxes, lambda crops: torch.ones(len(crops), 4), {"image_size": (16, 8)}),
    "candidates_to_embed": lambda g: (g.boxes,),
    "cut_out": lambda g: (g.frames[0], g.boxes[0][0]),
    "largest_box": lambda g: (g.boxes[0],),
    "link_candidates": lambda g: (g.boxes, g.box_embeddings),
    "place_person": lambda g: (g.frames[0], g.boxes[0][1], (16, 8)),
    "side_of_slim_box": lambda g: (g.boxes[0][1], 10, (16, 8)),
    "whole_frame": lambda g: (g.frames[0], (16, 8)),
    "best_crossing": lambda g: (torch.arange(5.0), torch.tensor([4, 2, 1, 0]), torch.tensor([0, 1, 2, 4])),
    "distance_threshold": [lambda g: (g.e, g.pids), lambda g: (g.e, g.pids, {"quantile": 0.5})],
    "exemplar_threshold": lambda g: (g.e, g.labels, torch.tensor([0, 1, 2]), g.pids[:6].clone()),
    "hard_negatives": lambda g: (g.e, g.other, 0.5),
    "own_exemplar_distance": lambda g: (g.e, g.labels, torch.tensor([0, 1, 2])),
    "precision_of_nearest": lambda g: (g.e, g.labels, torch.tensor([0, 1, 2]), g.pids, [0.5]),
    "reliable_images": lambda g: (g.e, g.labels, torch.tensor([0, 1, 2]), 1.0),
    "selection_precision": lambda g: (g.same[0], g.labels, torch.tensor([0, 1, 2]), g.pids),
    "soft_pseudo_labels": [
        lambda g: (g.e, g.e[:3].clone()),
        lambda g: (g.e, g.e[:3].clone(), {"distance": "euclidean"}),
    ],
}


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Every public function of these packages that takes something of tensors."""
    found = {}
    for one in PACKAGES:
        for info in pkgutil.iter_modules(package(one).__path__, f"lightning_reid.{one}."):
            members = inspect.getmembers(import_module(info.name), inspect.isfunction)
            found |= {name: thing for name, thing in members if thing.__module__ == info.name and not name.startswith("_")}
    return found


def parts(value: Any) -> Iterator[Tensor]:
    """Every tensor and array within an argument."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, np.ndarray):
        yield torch.from_numpy(value)
    elif isinstance(value, sparse.csr_matrix):
        yield from map(torch.from_numpy, (value.data, value.indices, value.indptr))
    elif isinstance(value, Mapping):
        yield from parts(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from parts(one)
    elif hasattr(value, "__dict__") and not callable(value):
        yield from parts(vars(value))


def test_every_public_function_of_tensors_is_tried():
    assert set(CALLS) == set(functions()) - OF_NO_TENSOR - WITHIN_OTHERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_a_function_leaves_its_arguments_as_they_were(name, dtype):
    calls = CALLS[name]
    for arguments_of in calls if isinstance(calls, list) else [calls]:
        *arguments, last = arguments_of(Given(dtype))
        options = last if isinstance(last, dict) else {}
        arguments += [] if isinstance(last, dict) else [last]
        before = copy.deepcopy(list(parts([arguments, options])))
        result = functions()[name](*arguments, **options)
        if isinstance(result, GeneratorType):
            list(result)
        after = list(parts([arguments, options]))
        assert before
        assert len(before) == len(after)
        assert all(torch.equal(one, other) for one, other in zip(before, after))
