"""Averages of models as named tensors, one model at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

NamedTensors = Mapping[str, Tensor]
"""Tensors by the names a ``state_dict`` gives them."""


class WeightedAverage:
    """``sum_k w_k theta_k / sum_k w_k`` of named tensors; holds one model in float64, however many are added.

    Floats, running means and variances of batch normalization among them, are averaged. Of integers and booleans, such as
    ``num_batches_tracked``, the largest is taken: they count or switch, and half a count means nothing. Results have the dtypes of the
    first model added.

    The order in which models are added matters to rounding only: add them in the order of their clients' ids.

    Source: thesis, eq. 7.2 and 7.4 with the clients' numbers of images as weights.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._sums: dict[str, Tensor] = {}
        self._dtypes: dict[str, torch.dtype] = {}

    def add(self, tensors: NamedTensors, weight: float) -> None:
        """Take a model into the average with its weight.

        Args:
            tensors: Of the same names and shapes as the models before.
            weight: At least 0.

        Raises:
            ValueError: The weight is negative or not finite, or names or shapes differ: nothing was taken in then.
        """
        if not 0 <= weight < float("inf"):
            raise ValueError(f"a client's weight is its number of images, at least 0, got {weight}")
        if self._dtypes:
            check_alike(tensors, self._sums)
        for name, tensor in tensors.items():
            tensor = tensor.detach()
            if name not in self._dtypes:
                self._dtypes[name] = tensor.dtype
                wide = torch.float64 if tensor.is_floating_point() else tensor.dtype
                self._sums[name] = torch.zeros_like(tensor, dtype=wide) if tensor.is_floating_point() else tensor.clone()
            if tensor.is_floating_point():
                self._sums[name].add_(tensor, alpha=weight)
            else:
                self._sums[name] = torch.maximum(self._sums[name], tensor)
        self.total += weight

    def result(self) -> dict[str, Tensor]:
        """The average of all models that were added, by name.

        Raises:
            ValueError: The weights sum to zero, or an average is not finite.
        """
        if not self.total > 0:
            raise ValueError("the clients' weights sum to zero: there is nothing to average")
        found = {
            name: (total / self.total).to(self._dtypes[name]) if total.is_floating_point() else total.clone()
            for name, total in self._sums.items()
        }
        for name, tensor in found.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(
                    f"the average of {name} is NaN or infinite: one of the models is broken, or its numbers overflow in the sum"
                )
        return found


def check_alike(tensors: NamedTensors, expected: NamedTensors) -> None:
    """Refuse tensors of other names or shapes.

    Raises:
        ValueError: The message names the first that differs: clients of different networks cannot be averaged.
    """
    for name in (*expected, *tensors):
        if name not in tensors or name not in expected:
            raise ValueError(f"{name} is in one model and not in the other: clients must have the same network")
        if tensors[name].shape != expected[name].shape:
            raise ValueError(
                f"{name} has shape {list(tensors[name].shape)} in one model and {list(expected[name].shape)} in another:"
                " clients must have the same network"
            )
