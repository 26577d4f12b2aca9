"""Federations: clients that train with Trainers of their own, a server that averages what they share; in one process or over Flower."""

from lightning_reid.federation.client import Client
from lightning_reid.federation.fedureid import Personalization, fedureid_client
from lightning_reid.federation.in_process import Federation
from lightning_reid.federation.local_training import LocalTraining

__all__ = [
    "Client",
    "Federation",
    "LocalTraining",
    "Personalization",
    "fedureid_client",
]
