"""Federated learning as pure functions and small objects: averages of named tensors, what may be shared, strategies of the server."""

from lightning_reid.federated.fedface import FedFace
from lightning_reid.federated.fedfr import FedFR
from lightning_reid.federated.fedureid import FedUReID
from lightning_reid.federated.random_walk import RandomWalk, walk_order
from lightning_reid.federated.strategies import FedPav

__all__ = [
    "FedFR",
    "FedFace",
    "FedPav",
    "FedUReID",
    "RandomWalk",
    "walk_order",
]
