"""From a method's recipe to its equation are three files: the recipe, what it puts into a Trainer, the function. Longer ways say why."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import ROOT

from lightning_reid.callbacks import (
    AffinityPseudoLabels,
    BottomUpClustering,
    CAIEPruning,
    CPOPruning,
    HardNegativeSampling,
    InterCameraMining,
    PartBasedHomogeneity,
    ProgressiveSelection,
    PseudoLabelClustering,
    RedetectAndLink,
)
from lightning_reid.clustering import (
    inter_camera_pairs,
    jaccard_distance,
    merge_closest_clusters,
    part_based_homogeneity,
    semantics_guided_affinity_propagation,
)
from lightning_reid.clustering.bottom_up import merges_to_reach
from lightning_reid.detection.padding import detect_in_padded
from lightning_reid.federated import FedFace, FedFR, FedPav, FedUReID
from lightning_reid.federated.averaging import WeightedAverage
from lightning_reid.federation import Personalization, fedureid_client
from lightning_reid.federation.open_set import personal_scores
from lightning_reid.linking import align_tracklet
from lightning_reid.linking.alignment import link_candidates
from lightning_reid.linking.placing import place_person
from lightning_reid.losses import (
    augmented_triplet_loss,
    batch_hard_triplet_loss,
    cosface_loss,
    distillation_loss,
    identity_losses,
    masked_weighted_triplet_loss,
    model_contrastive_loss,
    one_vs_all_loss,
    relational_distance_loss,
    repelled_loss,
    weighted_triplet_loss,
)
from lightning_reid.losses.spread_out import spread_out_loss
from lightning_reid.metrics import verification_rates
from lightning_reid.modules import HSR, SGCDPL, BottomUpReID, DistilledReID, FedFRClient, FedUReIDClient, SupervisedReID, VideoReID
from lightning_reid.networks import CFAAN, NVAN, STENVAN
from lightning_reid.networks.video.axial_attention import AxialAttention
from lightning_reid.networks.video.by_name import load_clip_network
from lightning_reid.networks.video.cfaan import CoarseToFineAxialAttention
from lightning_reid.networks.video.network import VideoNetwork, max_of_neighboring_frames
from lightning_reid.networks.video.non_local import NonLocalBlock
from lightning_reid.pruning import constraint_aware_importance, loss_impact
from lightning_reid.pruning.cpo_search import CPOSearch, performance_sensitivity
from lightning_reid.recipes.workshop.fedfr_data import FedFRData
from lightning_reid.selection import distance_threshold, reliable_images, soft_pseudo_labels
from lightning_reid.selection.hard_negatives import hard_negatives

Way = tuple[str, tuple[Callable[..., Any] | type, ...]]

THREE: tuple[Way, ...] = (
    ("supervised_market.py", (SupervisedReID, identity_losses)),
    ("hsr_duke2market.py", (HSR, weighted_triplet_loss)),
    ("hsr_duke2market.py", (HSR, masked_weighted_triplet_loss)),
    ("hsr_duke2market.py", (PseudoLabelClustering, jaccard_distance)),
    ("hsr_duke2market.py", (PartBasedHomogeneity, part_based_homogeneity)),
    ("hsr_duke2market.py", (InterCameraMining, inter_camera_pairs)),
    ("sgcdpl_market.py", (SGCDPL, augmented_triplet_loss)),
    ("sgcdpl_market.py", (AffinityPseudoLabels, semantics_guided_affinity_propagation)),
    ("sgcdpl_market.py", (AffinityPseudoLabels, soft_pseudo_labels)),
    ("sgcdpl_market.py", (ProgressiveSelection, distance_threshold)),
    ("sgcdpl_market.py", (ProgressiveSelection, reliable_images)),
    ("distill_market.py", (DistilledReID, distillation_loss)),
    ("distill_market.py", (DistilledReID, relational_distance_loss)),
    ("buc_market.py", (BottomUpReID, repelled_loss)),
    ("buc_market.py", (BottomUpClustering, merge_closest_clusters)),
    ("video_mars.py", (RedetectAndLink, detect_in_padded)),
    ("video_mars.py", (RedetectAndLink, align_tracklet, link_candidates)),
    ("prune_caie.py", (CAIEPruning, loss_impact)),
    ("prune_caie.py", (CAIEPruning, constraint_aware_importance)),
    ("prune_cpo.py", (CPOPruning, CPOSearch, performance_sensitivity)),
    ("fedpav.py", (FedPav, WeightedAverage)),
    ("fedureid.py", (Personalization, FedUReID)),
    ("fedureid.py", (fedureid_client, FedUReIDClient)),
    ("fedureid.py", (BottomUpClustering, merges_to_reach)),
    ("fedureid.py", (BottomUpReID, repelled_loss)),
    ("flower/fedureid_app.py", (Personalization, FedUReID)),
    ("flower/fedureid_app.py", (fedureid_client, FedUReIDClient)),
    ("flower/fedureid_app.py", (BottomUpReID, repelled_loss)),
    ("fedfr.py", (HardNegativeSampling, hard_negatives)),
    ("fedfr.py", (FedFRClient, cosface_loss)),
    ("fedfr.py", (FedFRClient, model_contrastive_loss)),
    ("fedfr.py", (FedFRClient, one_vs_all_loss)),
    ("fedfr.py", (FedFace, spread_out_loss)),
)

FOUR: tuple[Way, ...] = (
    # three modules learn from the sum of two losses, each of which others use alone
    ("supervised_market.py", (SupervisedReID, identity_losses, batch_hard_triplet_loss)),
    # networks of clips by their names: the module takes one, and so do model folders, which know no module
    ("video_mars.py", (VideoReID, load_clip_network, NVAN, NonLocalBlock)),
    ("video_mars.py", (VideoReID, load_clip_network, STENVAN, NonLocalBlock)),
    ("video_mars.py", (VideoReID, load_clip_network, CFAAN, CoarseToFineAxialAttention)),
    # who the person is, and how they are cut out, are two stories
    ("video_mars.py", (RedetectAndLink, align_tracklet, place_person)),
    # the average is FedPav's, whose recipe is three files from it
    ("fedureid.py", (Personalization, FedPav, WeightedAverage)),
    ("fedfr.py", (FedFR, FedPav, WeightedAverage)),
    # the app builds its clients as the recipe does, which is three files from the clusters
    ("flower/fedureid_app.py", (fedureid_client, BottomUpClustering, merges_to_reach)),
    # how people are enrolled and asked for, and the rates of any scores
    ("fedfr.py", (FedFRData, personal_scores, verification_rates)),
)
FIVE: tuple[Way, ...] = (
    # the network, its module and the attention along an axis in one file would be 410 lines
    ("video_mars.py", (VideoReID, load_clip_network, CFAAN, CoarseToFineAxialAttention, AxialAttention)),
    # it is the frame network that joins frames, whatever stands between its blocks
    ("video_mars.py", (VideoReID, load_clip_network, STENVAN, VideoNetwork, max_of_neighboring_frames)),
)
"""Ways that would be harder to read if they were shorter."""


def file_of(thing: Callable[..., Any] | type) -> Path:
    return Path(inspect.getfile(thing)).resolve()


def names_used_in(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def files_of(way: Way) -> list[Path]:
    """The files that are opened, each because the one before uses a name that it defines."""
    recipe, things = way
    files = [ROOT / "recipes" / recipe]
    for thing in things:
        assert thing.__name__ in names_used_in(files[-1]), f"{files[-1]} does not use {thing.__name__}"
        if file_of(thing) != files[-1]:
            files.append(file_of(thing))
    return files


def told(way: Way) -> str:
    return f"{way[0]}-{way[1][-1].__name__}"


@pytest.mark.parametrize("way", THREE, ids=told)
def test_from_a_recipe_to_the_equation_are_three_files(way):
    assert len(files_of(way)) == 3


@pytest.mark.parametrize("way", FOUR, ids=told)
def test_a_longer_way_is_longer_by_one_file(way):
    assert len(files_of(way)) == 4


@pytest.mark.parametrize("way", FIVE, ids=told)
def test_the_longest_ways_are_longer_by_two(way):
    assert len(files_of(way)) == 5
