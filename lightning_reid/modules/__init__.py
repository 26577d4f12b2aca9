"""LightningModules: what a batch is, what is learned from it, what is logged."""

from lightning_reid.modules.hsr import HSR
from lightning_reid.modules.identity_learning import IdentityLearning
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.modules.supervised import SupervisedReID
from lightning_reid.modules.video import VideoReID

__all__ = ["HSR", "IdentityLearning", "ImageReIDModule", "ReIDModule", "SupervisedReID", "VideoReID"]
