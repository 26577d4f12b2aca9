"""Readers, samplers and DataModules of re-identification data.

The DataModules are imported on first use: readers, the generator and the MOT converter do without Lightning and its seconds of import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_reid.datamodules.cross_domain import CrossDomainDataModule
    from lightning_reid.datamodules.device_images import DeviceDataModule
    from lightning_reid.datamodules.federated import FederatedData
    from lightning_reid.datamodules.image_reid import ImageReIDDataModule
    from lightning_reid.datamodules.public_and_local import PublicAndLocalDataModule
    from lightning_reid.datamodules.semi_supervised import SemiSupervisedDataModule
    from lightning_reid.datamodules.unlabeled import UnlabeledDataModule
    from lightning_reid.datamodules.video_reid import VideoReIDDataModule

__all__ = [
    "CrossDomainDataModule",
    "DeviceDataModule",
    "FederatedData",
    "ImageReIDDataModule",
    "PublicAndLocalDataModule",
    "SemiSupervisedDataModule",
    "UnlabeledDataModule",
    "VideoReIDDataModule",
]

_HOMES = {
    "CrossDomainDataModule": "cross_domain",
    "DeviceDataModule": "device_images",
    "FederatedData": "federated",
    "ImageReIDDataModule": "image_reid",
    "PublicAndLocalDataModule": "public_and_local",
    "SemiSupervisedDataModule": "semi_supervised",
    "UnlabeledDataModule": "unlabeled",
    "VideoReIDDataModule": "video_reid",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
