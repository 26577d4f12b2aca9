"""What the library gives by name, and what it costs to ask for it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import pytest

import lightning_reid

FACE = {
    "lightning_reid": """
        HSR SGCDPL AffinityPseudoLabels BottomUpClustering BottomUpReID CAIEPruning CPOPruning CrossDomainDataModule
        DistilledReID EmbeddingPass Federation ImageReIDDataModule InterCameraMining PartBasedHomogeneity PipelineStrategy
        ProgressiveSelection PseudoLabelClustering RankListLogger RedetectAndLink RetrievalMetrics SemiSupervisedDataModule SupervisedReID
        UnlabeledDataModule VideoReID VideoReIDDataModule from_pretrained nearest_images retrieval_scores
    """,
    "lightning_reid.blocks": "CorruptBlockError ForeignIndexError merged_ranges parse_index serialized",
    "lightning_reid.datamodules.blocks": "BlockStore PackedData StoreError pack",
    "lightning_reid.callbacks": """
        AffinityPseudoLabels BlockAccessLogger BottomUpClustering CAIEPruning CPOPruning ClusterStripLogger EmbeddingProjector FilterPruning
        HardNegativeSampling InterCameraMining NMILogger PartBasedHomogeneity ProgressiveSelection PseudoLabelClustering
        RankListLogger RedetectAndLink TrackletMemories
    """,
    "lightning_reid.checkpoints": "DurableCheckpointIO latest_upload",
    "lightning_reid.clustering": """
        affinity_propagation clustering_agreement contradictions dbscan global_labels inter_camera_pairs jaccard_distance
        merge_closest_clusters mutual_top1 nearest_neighbors part_based_homogeneity semantics_guided_affinity_propagation
        sparse_affinity_propagation triangle_counts
    """,
    "lightning_reid.datamodules": """
        CrossDomainDataModule DeviceDataModule FederatedData ImageReIDDataModule PublicAndLocalDataModule SemiSupervisedDataModule
        UnlabeledDataModule VideoReIDDataModule
    """,
    "lightning_reid.datamodules.generated": """
        GeneratedBoxDetector GeneratedPedestrians GeneratedPeople GeneratedTracklets GeneratedWorld PeopleData PeopleTracklets
        WorldDetector
    """,
    "lightning_reid.datamodules.readers": """
        find_unreadable_images read_dataset read_market_folder read_mars_folder read_table read_tracklet_table
        read_video_dataset
    """,
    "lightning_reid.detection": "Detections OnnxDetector OpenCVPeopleDetector PersonDetector TorchvisionDetector YoloHead",
    "lightning_reid.evaluation": "EmbeddedTest EvaluationScores boxes_to_reassociate embed_test evaluate_embedded reassociate",
    "lightning_reid.federated": "FedFR FedFace FedPav FedUReID RandomWalk walk_order",
    "lightning_reid.federation": "Client Federation LocalTraining Personalization fedureid_client",
    "lightning_reid.inference": """
        EmbeddedImages EmbeddingPass OnnxEmbedder calibration_path clip_embedder crop_embedder cut_out draw_search export_network
        export_onnx find_calibration find_crops load_network model_name name_with_size nearest_images read_calibration write_calibration
        write_embedding_parts write_embeddings
    """,
    "lightning_reid.linking": "AlignedTracklet align_tracklet",
    "lightning_reid.losses": """
        DeferredLoss augmented_triplet_loss batch_hard_triplet_loss cosface_loss distillation_loss embedding_cosine_loss identity_losses
        label_smoothed_cross_entropy least_squares_gan masked_weighted_triplet_loss model_contrastive_loss one_vs_all_loss
        relational_distance_loss repelled_loss soft_target_cross_entropy weighted_triplet_loss
    """,
    "lightning_reid.pipeline": "PipelineStrategy ScheduleTrace",
    "lightning_reid.metrics": """
        Calibration CameraPairs PairDistances ProtocolStamp Reassociation RetrievalMetrics RetrievalScores ShownBoxes
        TrackedCamera TrueBoxes bootstrap_interval calibrate_similarity camera_pair_failures camera_scores clustering_nmi
        cross_camera_scores embedding_map handover_scores holm_adjusted identification_rates k_reciprocal_rerank pair_distances
        paired_difference_interval paired_difference_p_value probability_of rank_lists reassociation_scores retrieval_scores verdict_of
        verification_rates
    """,
    "lightning_reid.live": """
        AuditLog CameraParts FrameSource Journal Listener LiveCameras MatchingThread Outbox PictureSource SourceLostError
        Told VideoSource detect_with
    """,
    "lightning_reid.live.page": "LiveView Page serve",
    "lightning_reid.modules": """
        HSR SGCDPL BottomUpReID DistilledReID FedFRClient FedUReIDClient ImageReIDModule ReIDModule StyleTransfer
        SupervisedReID TrackletReID VideoReID
    """,
    "lightning_reid.networks": """
        CFAAN NVAN STENVAN ChannelPlan EmbeddingNetwork MeasuredScores ModelFacts VideoResNet50 build_backbone checkpoint_activations
        count_multiply_adds from_pretrained group_batch_norm load_embedding_network load_released_weights load_teacher materialize
        shipped_names
    """,
    "lightning_reid.packed_tracklets": "PackedTracklet write_packed_tracklet",
    "lightning_reid.pruning": "batch_norm_score constraint_aware_importance filter_l1_norm loss_impact",
    "lightning_reid.search_index": """
        Filters IndexRow SearchIndexError add_rows build_fast create_index forget_person open_index remove_paths search_indexes
        write_index
    """,
    "lightning_reid.selection": "distance_threshold reliable_images soft_pseudo_labels",
    "lightning_reid.tracking": """
        CameraGone CameraNode CameraTracker
        CameraRestarted CameraTracks ClipCollector ForgetIdentity FrameStamp Identities IdentityEvent Match MatchUndone
        MatchingRules OnlineMatcher StageHealth TrackEmbedding TrackEnded TrackFeature TrackKey TrackMemory TransitGates
        UndoMatch assign_one_to_one matcher_state read_message restore_matcher usable_boxes write_message
    """,
}
"""Package to the names it exports: one more is a promise more to its users."""


@pytest.mark.parametrize("package", FACE)
def test_a_package_exports_what_it_promises_and_no_more(package):
    module = import_module(package)
    assert sorted(module.__all__) == sorted(FACE[package].split())
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_the_first_names_are_those_of_the_packages():
    assert {*lightning_reid.__all__, "__version__"} <= set(dir(lightning_reid))
    assert all(any(name in FACE[package].split() for package in FACE if package != "lightning_reid") for name in lightning_reid.__all__)
    assert lightning_reid.HSR is import_module("lightning_reid.modules").HSR
    with pytest.raises(AttributeError, match="has no attribute 'Hsr'"):
        _ = lightning_reid.Hsr


HEAVY = ("sklearn", "timm", "wandb", "matplotlib", "pytorch_lightning", "torchvision", "scipy", "cv2")
LIGHT = {
    "lightning_reid": (*HEAVY, "torch"),
    "lightning_reid.records": HEAVY,
    "lightning_reid.protocols": HEAVY,
    "lightning_reid.datamodules": HEAVY,
    "lightning_reid.live": ("pytorch_lightning", "torchvision", "timm", "sklearn", "matplotlib", "wandb"),
    "what a worker is sent": ("pytorch_lightning", "lightning_fabric", "timm", "sklearn", "torchmetrics", "matplotlib", "wandb"),
    "lightning_reid.inference": ("pytorch_lightning", "sklearn", "matplotlib"),
    "lightning_reid.recipes.embed": ("pytorch_lightning", "torchmetrics", "matplotlib"),
    "lightning_reid.command_line.compare": ("pytorch_lightning", "sklearn", "torchmetrics", "matplotlib"),
    "lightning_reid.evaluation": ("pytorch_lightning", "lightning_fabric"),
    "lightning_reid.command_line.export": ("pytorch_lightning", "torchmetrics", "matplotlib", "onnxruntime", "openvino"),
    "lightning_reid.metrics": ("trackers", "supervision"),
}
"""What is imported, one after another, and what may not come with it or with those before."""
OF_A_WORKER = [f"lightning_reid.datamodules.{name}" for name in ("clips", "images", "loaders", "unlabeled_views", "workers")]
IMPORTS = """
import json, sys
from importlib import import_module
found = {}
for name, modules, without in json.loads(sys.argv[1]):
    for module in modules:
        import_module(module)
    found[name] = [one for one in without if one in sys.modules]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def came_along() -> dict[str, list[str]]:
    """What came with each import although it may not, in one fresh interpreter for all."""
    asked = [(name, OF_A_WORKER if name == "what a worker is sent" else [name], without) for name, without in LIGHT.items()]
    finished = subprocess.run([sys.executable, "-c", IMPORTS, json.dumps(asked)], capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


@pytest.mark.parametrize("name", LIGHT)
def test_an_import_loads_no_more_than_it_needs(came_along, name):
    assert came_along[name] == []
