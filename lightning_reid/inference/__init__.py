"""What a trained network is for: embedding crops, searching them, exporting the network. Needs no Trainer and imports no Lightning."""

from lightning_reid.inference.embedding import EmbeddedImages, EmbeddingPass, find_crops, write_embeddings
from lightning_reid.inference.onnx_export import ParityError, export_onnx, onnx_milliseconds
from lightning_reid.inference.search import Neighbour, draw_search, nearest_images, print_neighbours, write_neighbours

__all__ = [
    "EmbeddedImages",
    "EmbeddingPass",
    "Neighbour",
    "ParityError",
    "draw_search",
    "export_onnx",
    "find_crops",
    "nearest_images",
    "onnx_milliseconds",
    "print_neighbours",
    "write_embeddings",
    "write_neighbours",
]
