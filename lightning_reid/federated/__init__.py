"""Federated learning as pure functions and small objects: averages of named tensors, what may be shared, strategies of the server."""

from lightning_reid.federated.averaging import NamedTensors, WeightedAverage, check_alike, interpolate
from lightning_reid.federated.fedface import FedFace
from lightning_reid.federated.sharing import AllowList, LeakError, TensorKind, not_finite, payload_bytes
from lightning_reid.federated.strategies import FedFR, FedPav, FedUReID, Reply, RoundReport, ServerState

__all__ = [
    "AllowList",
    "FedFR",
    "FedFace",
    "FedPav",
    "FedUReID",
    "LeakError",
    "NamedTensors",
    "Reply",
    "RoundReport",
    "ServerState",
    "TensorKind",
    "WeightedAverage",
    "check_alike",
    "interpolate",
    "not_finite",
    "payload_bytes",
]
