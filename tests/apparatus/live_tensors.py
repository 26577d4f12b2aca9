"""What a real forward pass holds, counted tensor by tensor while it runs: slow, and told nothing of channels or plans."""

from __future__ import annotations

import weakref

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class CountedTensors(TorchDispatchMode):
    """Bytes of the tensors that are alive after each operation of a real pass, the most of which is the peak."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
        self.seen, self.peak = [weakref.ref(images)], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        returned = output if isinstance(output, (tuple, list)) else [output]
        self.seen += [weakref.ref(tensor) for tensor in returned if isinstance(tensor, Tensor)]
        alive = [tensor.untyped_storage() for reference in self.seen if (tensor := reference()) is not None]
        held = {storage.data_ptr(): storage.nbytes() for storage in alive if storage.data_ptr() not in self.weights}
        self.peak = max(self.peak, sum(held.values()))
        return output
