"""Crops and tracklets of people who never were: a procedural generator, so that everything runs without a download.

The stand-in for a detector is imported on first use: the generator does without torchvision, which the adapters of real detectors need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_reid.datamodules.generated.pedestrians import GeneratedPedestrians
from lightning_reid.datamodules.generated.people import GeneratedPeople
from lightning_reid.datamodules.generated.people_data import PeopleData
from lightning_reid.datamodules.generated.tracklets import GeneratedTracklets

if TYPE_CHECKING:
    from lightning_reid.datamodules.generated.box_detector import GeneratedBoxDetector

__all__ = ["GeneratedBoxDetector", "GeneratedPedestrians", "GeneratedPeople", "GeneratedTracklets", "PeopleData"]


def __getattr__(name: str) -> Any:
    if name == "GeneratedBoxDetector":
        from lightning_reid.datamodules.generated.box_detector import GeneratedBoxDetector

        return GeneratedBoxDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
