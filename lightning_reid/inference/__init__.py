"""What a trained network is for: embedding crops, searching them, exporting the network. Needs no Trainer and imports no Lightning."""

from lightning_reid.frame_crops import cut_out
from lightning_reid.inference.calibration_file import (
    calibration_path,
    find_calibration,
    name_with_size,
    read_calibration,
    write_calibration,
)
from lightning_reid.inference.crop_embedding import clip_embedder, crop_embedder
from lightning_reid.inference.embedding import EmbeddedImages, EmbeddingPass, find_crops
from lightning_reid.inference.embedding_table import write_embedding_parts, write_embeddings
from lightning_reid.inference.loading import load_network, model_name
from lightning_reid.inference.network_export import export_network
from lightning_reid.inference.onnx_embedding import OnnxEmbedder
from lightning_reid.inference.onnx_export import export_onnx
from lightning_reid.inference.search import draw_search, nearest_images

__all__ = [
    "EmbeddedImages",
    "EmbeddingPass",
    "OnnxEmbedder",
    "calibration_path",
    "clip_embedder",
    "crop_embedder",
    "cut_out",
    "draw_search",
    "export_network",
    "export_onnx",
    "find_calibration",
    "find_crops",
    "load_network",
    "model_name",
    "name_with_size",
    "nearest_images",
    "read_calibration",
    "write_calibration",
    "write_embedding_parts",
    "write_embeddings",
]
