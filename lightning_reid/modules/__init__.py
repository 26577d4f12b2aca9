"""LightningModules: what a batch is, what is learned from it, what is logged."""

from lightning_reid.modules.hsr import HSR
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.modules.supervised import SupervisedReID

__all__ = ["HSR", "ReIDModule", "SupervisedReID"]
