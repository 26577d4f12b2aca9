"""Batch normalization's running statistics of one camera, taken anew in one pass."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_MEASURED = ("running_mean", "running_var")


def measured_statistics(network: nn.Module, batches: Iterable[Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Means and variances of the layers under some names, over all images at once, as the network stands; it is left as it was.

    Each batch counts by its images. A variance is that of all images, within batches and between them.

    Args:
        network: Gives something for a batch; its weights do not change.
        batches: ``[B, 3, H, W]``, at least one, on the network's device.
        prefixes: Of the names of the layers that are measured; all others keep their statistics.

    Returns:
        The running means and variances by name.

    Raises:
        ValueError: There is no batch, or no such layer.

    Example:
        >>> import torch
        >>> from lightning_reid.networks.walking_statistics import measured_statistics
        >>> network = torch.nn.Sequential(torch.nn.BatchNorm2d(1))
        >>> found = measured_statistics(network, [torch.zeros(1, 1, 2, 1), torch.ones(1, 1, 2, 1)], ("0.",))
        >>> found["0.running_mean"], found["0.running_var"]
        (tensor([0.5000]), tensor([0.2500]))
    """
    layers = {
        name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm) and f"{name}.".startswith(prefixes)
    }
    if not layers:
        raise ValueError(f"no batch normalization has a name that begins with {', '.join(prefixes)}")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    training = network.training
    sums = {name: (torch.zeros_like(before[f"{name}.running_mean"]), torch.zeros_like(before[f"{name}.running_var"])) for name in layers}
    counts = dict.fromkeys(layers, 0)

    def measure(name: str, inputs: Tensor) -> None:
        axes = [0, *range(2, inputs.ndim)]
        first, second = sums[name]
        first += inputs.detach().sum(axes)
        second += inputs.detach().square().sum(axes)
        counts[name] += inputs.numel() // inputs.shape[1]

    # in the one pass each layer normalizes by its own batch, as in training: what comes into the next one is what came in then
    hooks = [layer.register_forward_pre_hook(lambda _, inputs, name=name: measure(name, inputs[0])) for name, layer in layers.items()]
    network.eval()
    for layer in layers.values():
        layer.train()
    try:
        with torch.no_grad():
            for batch in batches:
                network(batch)
    finally:
        for hook in hooks:
            hook.remove()
        network.load_state_dict(before)
        network.train(training)
    if not all(counts.values()):
        raise ValueError("there are no images to measure statistics of")
    found = {}
    for name, (first, second) in sums.items():
        mean = first / counts[name]
        found[f"{name}.running_mean"], found[f"{name}.running_var"] = mean, (second / counts[name] - mean.square()).clamp(min=0)
    return found


def averaged_statistics(measured: Iterable[tuple[dict[str, Tensor], int]]) -> dict[str, Tensor]:
    """Means, and variances, of several cameras, weighted by their numbers of images.

    Args:
        measured: What ``measured_statistics`` gave, and of how many images.
    """
    total, sums = 0, dict[str, Tensor]()
    for statistics, images in measured:
        total += images
        for name, tensor in statistics.items():
            sums[name] = sums.get(name, torch.zeros_like(tensor)) + images * tensor
    return {name: tensor / total for name, tensor in sums.items()}
