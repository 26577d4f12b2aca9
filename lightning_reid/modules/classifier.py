"""The identity classifier behind a BNNeck."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_reid.arguments import shown


def new_classifier(num_features: int, num_classes: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A bias-free identity classifier with weights from N(0, 0.001^2), as behind a BNNeck (Luo et al. 2019, arXiv:1903.07071)."""
    classifier = nn.Linear(num_features, num_classes, bias=False)
    nn.init.normal_(classifier.weight, std=0.001, generator=generator)
    return classifier


def built(classifier: nn.Linear | None, asker: object) -> nn.Linear:
    """The classifier of a module that is about to use it.

    Raises:
        RuntimeError: It was not made yet.
    """
    if classifier is None:
        raise RuntimeError(f"the classifier of {type(asker).__name__} is made when a fit begins, which knows how many identities there are")
    return classifier


def classifier_like(checkpoint: dict[str, Any]) -> nn.Linear | None:
    """A classifier of the shape a checkpoint holds; ``None`` if it holds none.

    Raises:
        ValueError: What it holds is no such weight, or its weights were loaded before there was a classifier.
    """
    if "state_dict" not in checkpoint:  # ModelParallelStrategy loads it into the module by itself, and takes it out
        raise ValueError(
            "ModelParallelStrategy loads weights before a checkpoint can tell how large the classifier is: give the module num_classes, or"
            " load it with load_from_checkpoint and leave ckpt_path out"
        )
    weight = checkpoint["state_dict"].get("classifier.weight")
    if weight is None:
        return None
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.numel():
        got = list(weight.shape) if isinstance(weight, Tensor) else shown(weight)
        raise ValueError(f"the checkpoint holds {got} as classifier.weight, expected [num_classes, D], neither of them 0")
    return new_classifier(weight.shape[1], weight.shape[0])
