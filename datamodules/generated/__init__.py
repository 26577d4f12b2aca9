"""Crops of people who never were: a procedural generator, so that everything runs without a download."""

from lightning_reid.datamodules.generated.pedestrians import GeneratedPedestrians

__all__ = ["GeneratedPedestrians"]
