"""LightningModules: what a batch is, what is learned from it, what is logged."""

from lightning_reid.modules.bottom_up import BottomUpReID
from lightning_reid.modules.distilled import DistilledReID
from lightning_reid.modules.fedfr import FedFRClient
from lightning_reid.modules.fedureid import FedUReIDClient
from lightning_reid.modules.hsr import HSR
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.modules.sgcdpl import SGCDPL
from lightning_reid.modules.style_transfer import StyleTransfer
from lightning_reid.modules.supervised import SupervisedReID
from lightning_reid.modules.tracklet import TrackletReID
from lightning_reid.modules.video import VideoReID

__all__ = [
    "HSR",
    "SGCDPL",
    "BottomUpReID",
    "DistilledReID",
    "FedFRClient",
    "FedUReIDClient",
    "ImageReIDModule",
    "ReIDModule",
    "StyleTransfer",
    "SupervisedReID",
    "TrackletReID",
    "VideoReID",
]
