"""Federations: clients that train with Trainers of their own, a server that averages what they share; in one process or over Flower."""

from lightning_reid.federation.client import Client, LocalFit, LocalRound
from lightning_reid.federation.fedureid import Personalization, fedureid_client
from lightning_reid.federation.in_process import Federation
from lightning_reid.federation.local_training import LocalTraining, local_trainer, score_client
from lightning_reid.federation.open_set import check_generic_rates, check_personal_rates, generic_scores, personal_scores
from lightning_reid.federation.server import FederationRound, FederationServer

__all__ = [
    "Client",
    "Federation",
    "FederationRound",
    "FederationServer",
    "LocalFit",
    "LocalRound",
    "LocalTraining",
    "Personalization",
    "check_generic_rates",
    "check_personal_rates",
    "fedureid_client",
    "generic_scores",
    "local_trainer",
    "personal_scores",
    "score_client",
]
