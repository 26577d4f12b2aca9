"""What owns Trainers or files: stages of a recipe and the report it leaves; embedding crops and searching them; exported networks.

Names are imported on first use: embedding and searching do without Lightning and its seconds of import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_reid.runners.checkpoint_io import DurableCheckpointIO
    from lightning_reid.runners.costs import image_network_costs, median_milliseconds, network_costs
    from lightning_reid.runners.embedding import EmbeddedImages, EmbeddingPass, find_crops, write_embeddings
    from lightning_reid.runners.federation import Federation
    from lightning_reid.runners.federation_client import Client, LocalFit, LocalRound
    from lightning_reid.runners.federation_options import FederationOptions
    from lightning_reid.runners.federation_server import FederationRound, FederationServer
    from lightning_reid.runners.fedureid import Personalisation, fedureid_client
    from lightning_reid.runners.local_training import LocalTraining, local_trainer, score_client
    from lightning_reid.runners.onnx_export import ParityError, export_onnx, onnx_milliseconds
    from lightning_reid.runners.open_set import check_generic_rates, check_personal_rates, generic_scores, personal_scores
    from lightning_reid.runners.pruning_run import PruningRun
    from lightning_reid.runners.redetect_options import RedetectOptions
    from lightning_reid.runners.remote_checkpoints import latest_upload
    from lightning_reid.runners.report import (
        CLUSTERS,
        LOSS,
        RANK1,
        SCORE,
        Panel,
        ResultRow,
        draw_curves,
        draw_heat_map,
        print_table,
        write_report,
    )
    from lightning_reid.runners.round_scores import RoundScores, draw_rounds, print_rounds, told_with_unmatched
    from lightning_reid.runners.run_folder import RunFolder
    from lightning_reid.runners.search import Neighbour, draw_search, nearest_images, print_neighbours, write_neighbours
    from lightning_reid.runners.seeds import seed_comparison
    from lightning_reid.runners.stages import RunOptions, Stage

__all__ = [
    "CLUSTERS",
    "LOSS",
    "RANK1",
    "SCORE",
    "Client",
    "DurableCheckpointIO",
    "EmbeddedImages",
    "EmbeddingPass",
    "Federation",
    "FederationOptions",
    "FederationRound",
    "FederationServer",
    "LocalFit",
    "LocalRound",
    "LocalTraining",
    "Neighbour",
    "Panel",
    "ParityError",
    "Personalisation",
    "PruningRun",
    "RedetectOptions",
    "ResultRow",
    "RoundScores",
    "RunFolder",
    "RunOptions",
    "Stage",
    "check_generic_rates",
    "check_personal_rates",
    "draw_curves",
    "draw_heat_map",
    "draw_rounds",
    "draw_search",
    "export_onnx",
    "fedureid_client",
    "find_crops",
    "generic_scores",
    "image_network_costs",
    "latest_upload",
    "local_trainer",
    "median_milliseconds",
    "nearest_images",
    "network_costs",
    "onnx_milliseconds",
    "personal_scores",
    "print_neighbours",
    "print_rounds",
    "print_table",
    "score_client",
    "seed_comparison",
    "told_with_unmatched",
    "write_embeddings",
    "write_neighbours",
    "write_report",
]

_MODULES = {
    "checkpoint_io": ("DurableCheckpointIO",),
    "embedding": ("EmbeddedImages", "EmbeddingPass", "find_crops", "write_embeddings"),
    "costs": ("image_network_costs", "median_milliseconds", "network_costs"),
    "federation": ("Federation",),
    "federation_client": ("Client", "LocalFit", "LocalRound"),
    "federation_options": ("FederationOptions",),
    "federation_server": ("FederationRound", "FederationServer"),
    "fedureid": ("Personalisation", "fedureid_client"),
    "local_training": ("LocalTraining", "local_trainer", "score_client"),
    "onnx_export": ("ParityError", "export_onnx", "onnx_milliseconds"),
    "open_set": ("check_generic_rates", "check_personal_rates", "generic_scores", "personal_scores"),
    "pruning_run": ("PruningRun",),
    "redetect_options": ("RedetectOptions",),
    "remote_checkpoints": ("latest_upload",),
    "report": ("CLUSTERS", "LOSS", "RANK1", "SCORE", "Panel", "ResultRow", "draw_curves", "draw_heat_map", "print_table", "write_report"),
    "round_scores": ("RoundScores", "draw_rounds", "print_rounds", "told_with_unmatched"),
    "run_folder": ("RunFolder",),
    "search": ("Neighbour", "draw_search", "nearest_images", "print_neighbours", "write_neighbours"),
    "seeds": ("seed_comparison",),
    "stages": ("RunOptions", "Stage"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
