"""What a recipe does when no data are named: a small run on generated people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace

SMALL_CROPS: dict[str, Any] = {"data.image_size": [64, 32], "data.crop_padding": 4, "data.num_workers": 0}
"""Crops that two CPU cores go through in minutes."""
NO_ERASING = {"data.erasing_probability": 0.0}
"""A network that starts from nothing unlearns under random erasing before it learns from it."""
SMALL_NETWORK: dict[str, Any] = {
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
}
"""1.2 million parameters."""
DATA = ("data.root", "data.dataset")
"""The options of most recipes that name data."""


def parse_or_small_run(
    parser: ArgumentParser,
    argv: Sequence[str] | None,
    small_run: Mapping[str, Any],
    *,
    named: Sequence[str] = DATA,
    generating: str = "a small one and training a small network on it",
) -> Namespace:
    """Parse the command line; where none of the options that name data is given, other defaults hold, which is said.

    Args:
        parser: With all options; its defaults are changed for a small run.
        argv: ``None`` is the command line.
        small_run: Options by their full names, to their defaults in a small run.
        named: Full names of the options that name data.
        generating: What is generated and trained, for the sentence that says so.
    """
    cfg = parser.parse_args(argv)
    if any(cfg[name] != parser.get_default(name) for name in named):
        return cfg
    parser.set_defaults(dict(small_run))
    cfg = parser.parse_args(argv)
    print(f"no data set named ({', '.join(f'--{name}' for name in named)}): generating {generating}")
    return cfg
