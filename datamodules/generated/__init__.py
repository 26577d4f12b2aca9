"""Crops and tracklets of people who never were: a procedural generator, so that everything runs without a download.

Names are imported on first use: the decoder of a loader's worker draws people, and has no use for what writes data sets; the generator
does without torchvision, which the adapters of real detectors need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_reid.datamodules.generated.box_detector import GeneratedBoxDetector
    from lightning_reid.datamodules.generated.pedestrians import GeneratedPedestrians
    from lightning_reid.datamodules.generated.people import GeneratedPeople
    from lightning_reid.datamodules.generated.people_data import PeopleData, PeopleTracklets
    from lightning_reid.datamodules.generated.tracklets import GeneratedTracklets
    from lightning_reid.datamodules.generated.world import GeneratedWorld
    from lightning_reid.datamodules.generated.world_detector import WorldDetector

_HOMES = {
    "GeneratedBoxDetector": "box_detector",
    "GeneratedPedestrians": "pedestrians",
    "GeneratedPeople": "people",
    "GeneratedTracklets": "tracklets",
    "GeneratedWorld": "world",
    "PeopleData": "people_data",
    "PeopleTracklets": "people_data",
    "WorldDetector": "world_detector",
}

__all__ = [
    "GeneratedBoxDetector",
    "GeneratedPedestrians",
    "GeneratedPeople",
    "GeneratedTracklets",
    "GeneratedWorld",
    "PeopleData",
    "PeopleTracklets",
    "WorldDetector",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
