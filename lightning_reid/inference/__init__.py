"""What a trained network is for: embedding crops, searching them, exporting the network. Needs no Trainer and imports no Lightning."""

from lightning_reid.inference.embedding import EmbeddedImages, EmbeddingPass, find_crops, write_embeddings
from lightning_reid.inference.onnx_export import ParityError, export_onnx, onnx_milliseconds
from lightning_reid.inference.search import Neighbor, draw_search, nearest_images, print_neighbors, write_neighbors

__all__ = [
    "EmbeddedImages",
    "EmbeddingPass",
    "Neighbor",
    "ParityError",
    "draw_search",
    "export_onnx",
    "find_crops",
    "nearest_images",
    "onnx_milliseconds",
    "print_neighbors",
    "write_embeddings",
    "write_neighbors",
]
