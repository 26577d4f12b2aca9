"""A forward pass that computes nothing: shapes, and which parameters take part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from lightning_reid.networks.evaluating import evaluating


class FeatureMap(nn.Module):
    """A timm network up to its last feature map ``[B, C, h, w]``, whatever layout it uses inside."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    @override
    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.trunk.forward_features(images)  # type: ignore[operator]
        if features.ndim == 4:
            return features.permute(0, 3, 1, 2) if getattr(self.trunk, "output_fmt", "NCHW") == "NHWC" else features
        patches: Any = getattr(self.trunk, "patch_embed", None)
        if features.ndim != 3 or patches is None or not hasattr(patches, "dynamic_feat_size"):
            kind = type(self.trunk).__name__
            raise ValueError(f"cannot tell the feature map of a {kind} from its output {list(features.shape)}: choose another network")
        height, width = patches.dynamic_feat_size(images.shape[-2:])
        num_prefix = int(getattr(self.trunk, "num_prefix_tokens", 0))
        tokens: Tensor = features[:, num_prefix:]  # without class and register tokens
        # nothing here asks for the batch as a number: a graph that is exported would take no other
        feature_map: Tensor = tokens.transpose(1, 2).unflatten(2, (height, width))
        return feature_map


class DryRun(NamedTuple):
    """What a forward pass tells that computes nothing.

    Attributes:
        shape: Of the output.
        unused: Names of the parameters that do not influence it.
    """

    shape: tuple[int, ...]
    unused: list[str]


def dry_run(network: nn.Module, image_size: tuple[int, int]) -> DryRun:
    """Run one image through ``network`` on torch's meta device, and leave the network as it was."""
    state = {name: tensor.detach().to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    parameters = {name: state[name].requires_grad_() for name, _ in network.named_parameters()}
    # in training, batch normalization of a single image would refuse a 1 x 1 map; under no_grad all parameters would seem to be unused
    with evaluating(network), torch.enable_grad(), _AffineBatchNorm():
        output: Tensor = functional_call(network, state, (torch.empty(1, 3, *image_size, device="meta"),))
    used = _leaves(output)
    return DryRun(tuple(output.shape), [name for name, parameter in parameters.items() if id(parameter) not in used])


class _AffineBatchNorm(TorchFunctionMode):
    """Batch normalization as the affine map that it is in evaluation, without the statistics, which are no parameters.

    On the meta device torch takes it apart in Python, which is most of the time of a dry run.
    """

    @override
    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.batch_norm:
            return func(*args, **(kwargs or {}))
        return _affine(*args, **(kwargs or {}))


def _affine(
    features: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    mapped: Tensor = _Affine.apply(features, weight, bias)
    return mapped


class _Affine(torch.autograd.Function):
    """A map of the features' shape that came from them and from the parameters: all that a dry run asks of it."""

    @staticmethod
    @override
    def forward(ctx: Any, features: Tensor, *parameters: Tensor | None) -> Tensor:
        return torch.empty(features.shape, dtype=features.dtype, device=features.device)


def _leaves(output: Tensor) -> set[int]:
    """``id`` of every parameter that ``output`` was computed from; no gradient is, which on the meta device takes three times as long."""
    nodes, seen, leaves = [output.grad_fn], set(), set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            leaves.add(id(getattr(node, "variable", None)))
            nodes.extend(parent for parent, _ in node.next_functions)
    return leaves
