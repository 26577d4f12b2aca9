"""Person re-identification in PyTorch Lightning: modules, callbacks and datamodules that snap into a ``Trainer``.

Names are imported on first use: ``import lightning_reid`` takes milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_reid.callbacks import (
        AffinityPseudoLabels,
        BottomUpClustering,
        CAIEPruning,
        CPOPruning,
        InterCameraMining,
        PartBasedHomogeneity,
        ProgressiveSelection,
        PseudoLabelClustering,
        RankListLogger,
        RedetectAndLink,
    )
    from lightning_reid.datamodules import (
        CrossDomainDataModule,
        ImageReIDDataModule,
        SemiSupervisedDataModule,
        UnlabeledDataModule,
        VideoReIDDataModule,
    )
    from lightning_reid.federation import Federation
    from lightning_reid.inference import EmbeddingPass, nearest_images
    from lightning_reid.metrics import RetrievalMetrics, retrieval_scores
    from lightning_reid.modules import HSR, SGCDPL, BottomUpReID, DistilledReID, SupervisedReID, VideoReID
    from lightning_reid.networks import from_pretrained
    from lightning_reid.pipeline import PipelineStrategy

    __version__: str

__all__ = [
    "HSR",
    "SGCDPL",
    "AffinityPseudoLabels",
    "BottomUpClustering",
    "BottomUpReID",
    "CAIEPruning",
    "CPOPruning",
    "CrossDomainDataModule",
    "DistilledReID",
    "EmbeddingPass",
    "Federation",
    "ImageReIDDataModule",
    "InterCameraMining",
    "PartBasedHomogeneity",
    "PipelineStrategy",
    "ProgressiveSelection",
    "PseudoLabelClustering",
    "RankListLogger",
    "RedetectAndLink",
    "RetrievalMetrics",
    "SemiSupervisedDataModule",
    "SupervisedReID",
    "UnlabeledDataModule",
    "VideoReID",
    "VideoReIDDataModule",
    "from_pretrained",
    "nearest_images",
    "retrieval_scores",
]

_PACKAGES = {
    "modules": ("HSR", "SGCDPL", "BottomUpReID", "DistilledReID", "SupervisedReID", "VideoReID"),
    "callbacks": (
        *("AffinityPseudoLabels", "BottomUpClustering", "CAIEPruning", "CPOPruning", "InterCameraMining", "PartBasedHomogeneity"),
        *("ProgressiveSelection", "PseudoLabelClustering", "RankListLogger", "RedetectAndLink"),
    ),
    "datamodules": (
        *("CrossDomainDataModule", "ImageReIDDataModule", "SemiSupervisedDataModule", "UnlabeledDataModule", "VideoReIDDataModule"),
    ),
    "metrics": ("RetrievalMetrics", "retrieval_scores"),
    "federation": ("Federation",),
    "inference": ("EmbeddingPass", "nearest_images"),
    "networks": ("from_pretrained",),
    "pipeline": ("PipelineStrategy",),
}
_HOMES = {name: package for package, names in _PACKAGES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "__version__":
        return version("lightning-reid")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
