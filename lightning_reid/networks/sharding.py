"""A network divided over processes: each holds a part of all weights, of their gradients and of the optimizer's memory of them.

This is torch's fully sharded data parallelism (FSDP2) of the parts that a network is made of. A block's weights are gathered when it is
called, forward or backward, and given up when it is done; gradients are averaged over the processes, as under DDP. What it computes with
is whole: losses, gradients and steps are those of DDP.
"""

from __future__ import annotations

import warnings
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.memory_layout import take_channels_last
from lightning_reid.networks.repeated_blocks import repeated_blocks

LOWEST_TORCH = "2.8"
"""The first whose FSDP2 can be told to keep what it has gathered, which evaluation takes."""


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the parameters of a module over processes, in place; names stay. A module that is divided stays as it is.

    An ``EmbeddingNetwork`` is divided block by block, so that one block's weights at a time are whole; what is left, and any other module,
    in one piece. The weights and the running statistics of the first process become everybody's, as under DDP: pieces of networks that
    were initialized differently would make another one. From then on each process keeps running statistics of its own.

    An optimizer is made afterwards. Every process must call the module equally often, and use its parameters only by calling it.

    Args:
        module: With its parameters on any device; they go to that of ``mesh``.
        mesh: The processes, in one dimension.

    Raises:
        RuntimeError: torch is older than 2.8.
        ValueError: A network of a kind whose blocks are not known (``repeated_blocks``).
    """
    if torch.__version__ < LOWEST_TORCH:
        raise RuntimeError(
            f"networks are divided over processes by torch {LOWEST_TORCH} or later, this is {torch.__version__}: upgrade torch"
        )
    if is_sharded(module):
        return
    blocks = repeated_blocks(module) if isinstance(module, EmbeddingNetwork) else []
    # they give their frames laid out anew, a view, which the blocks that follow do not change in place
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(FSDP(NonLocalBlock|CoarseToFineAxialAttention)\) returned a view")
    module.to(mesh.device_type)
    if any(not parameter.is_contiguous() for parameter in module.parameters()):  # FSDP2 takes no weights that lie channels-last
        module.to(memory_format=torch.contiguous_format)
        take_channels_last(module)
    for tensor in chain(module.parameters(), module.buffers()):
        take_from_first(tensor.detach(), mesh)
    for part in (*blocks, module):
        # resharded always: the outermost part too, so that what lies in the module between two passes is what an optimizer has
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def is_sharded(module: nn.Module) -> bool:
    """Whether the parameters of a module, or of a part of it, are divided over processes."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def gather_weights(module: nn.Module) -> None:
    """Hold everything that is divided in ``module`` whole in each process, with the first one's running statistics; all call it together.

    Until ``divide_weights`` a process may then call the module as often as it likes, whatever the others do. Nothing is to be trained
    meanwhile.
    """
    for mesh in {parameter.device_mesh for parameter in module.parameters() if isinstance(parameter, DTensor)}:
        for buffer in module.buffers():
            take_from_first(buffer, mesh)
    with torch.inference_mode(False):  # the memory that is got here is used in training, too
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_reshard_after_forward(False, recurse=False)
                part.unshard()


def divide_weights(module: nn.Module) -> None:
    """Go on with divided weights after ``gather_weights``."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()


def take_from_first(tensor: Tensor, mesh: DeviceMesh) -> None:
    """Write the first process's tensor into everybody's, of the same shape."""
    group = mesh.get_group()
    dist.broadcast(tensor, src=dist.get_global_rank(group, 0), group=group)
