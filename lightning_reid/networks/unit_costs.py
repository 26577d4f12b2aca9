"""What the units of a network cost in training, measured one by one: seconds, and bytes that are kept for the backward."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from lightning_reid.arguments import require_count, shown
from lightning_reid.networks.evaluating import keeping_modes


class MeasuredUnit(Protocol):
    """A step of a network's forward, from one tensor to the next, that a pipeline does not cut."""

    @property
    def name(self) -> str:
        """What messages call the unit."""

    @property
    def run(self) -> Callable[[Tensor], Tensor]:
        """The step, from the output of the unit before."""


class UnitCost(NamedTuple):
    """What one unit takes for one micro-batch in training.

    Attributes:
        seconds: Of its forward and its backward.
        kept_bytes: What autograd keeps of it from the forward to the backward, without parameters and buffers. Each memory counts once: an
            input that the unit before keeps, being its output, counts there. The units' bytes add up to those of the whole network.
        output_bytes: Of its output, which goes to the next stage, and comes back as a gradient, where a pipeline is cut behind the unit.
    """

    seconds: float
    kept_bytes: int
    output_bytes: int


def measure_units(network: nn.Module, units: Sequence[MeasuredUnit], inputs: Tensor, repeats: int = 3) -> list[UnitCost]:
    """Measure forward and backward of each unit by itself in training mode, on the output of the unit before; no trace is left.

    Running statistics, all other buffers, modes and random generators are afterwards what they were; gradients are computed, but not added
    to those of the parameters. Layers that record or share their statistics with other processes do so here too: measure before they are
    put in, or pause them.

    Bytes are those that pass through ``torch.autograd.graph.saved_tensors_hooks``: what a function keeps in another way is not seen, nor
    is what is kept within ``torch.utils.checkpoint``.

    Args:
        network: Holds all parameters and buffers that the units use; on the inputs' device.
        units: In the order in which they run.
        inputs: A micro-batch for the first unit, normalized, in the dtype and size that matter. Gradients by it are computed only if it
            requires one, as the outputs of units with parameters do.
        repeats: Timed runs of each unit, at least 1, after one that is not timed; the shortest counts.

    Returns:
        The cost of each unit. Seconds differ from run to run, and from process to process: let one process measure and tell the others.

    Raises:
        ValueError: ``repeats`` is too small, or a unit returns something that is no tensor.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from lightning_reid.networks.unit_costs import measure_units
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> units = [SimpleNamespace(name=name, run=part) for name, part in network.named_children()]
        >>> costs = measure_units(network, units, torch.ones(16, 4))
        >>> [cost.kept_bytes for cost in costs]  # 16 rows of 4 floats come in, ReLU keeps its output, which the second layer is given
        [256, 512, 0]
        >>> [cost.output_bytes for cost in costs]
        [512, 512, 128]
    """
    require_count("repeats", repeats)
    costs, entering, is_kept = list[UnitCost](), inputs, False
    with _left_as_it_was(network, inputs.device), torch.enable_grad():
        network.train()
        for unit in units:
            kept_bytes, is_kept = _kept_bytes(network, unit, entering, is_kept)
            runs = [_run(network, unit, entering) for _ in range(repeats)]
            entering = runs[-1].output
            costs.append(UnitCost(min(run.seconds for run in runs), kept_bytes, entering.nbytes))
    return costs


class _Run(NamedTuple):
    entered: Tensor
    output: Tensor
    seconds: float


def _run(network: nn.Module, unit: MeasuredUnit, entering: Tensor) -> _Run:
    """Forward and backward of one unit."""
    leaf = entering.detach().requires_grad_(entering.requires_grad)
    entered = leaf.clone()  # a unit that begins in place is to find the same again, and no leaf
    leaves = [parameter for parameter in (leaf, *network.parameters()) if parameter.requires_grad]
    _wait_for(entered.device)
    start = time.perf_counter()
    output = unit.run(entered)
    if not isinstance(output, Tensor):
        raise ValueError(f"a unit must return one tensor, {unit.name} returned {shown(output)}")
    if output.requires_grad:
        # not output.backward(), which would add to the parameters' gradients, and call whoever waits for them
        torch.autograd.grad(output, leaves, torch.ones_like(output), allow_unused=True)
    _wait_for(entered.device)
    seconds = time.perf_counter() - start
    return _Run(entered, output.detach().requires_grad_(output.requires_grad), seconds)


def _kept_bytes(network: nn.Module, unit: MeasuredUnit, entering: Tensor, is_kept: bool) -> tuple[int, bool]:
    """What autograd keeps of a unit whose input is kept already, or is not; and whether its output is kept now."""
    kept: dict[int, torch.UntypedStorage] = {}  # held until all are counted: the address of one that is gone may be given to another

    def keep(tensor: Tensor) -> Tensor:
        kept[_address(tensor)] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run = _run(network, unit, entering)
    counted = {_address(tensor) for tensor in (*network.parameters(), *network.buffers())}
    if is_kept:
        counted.add(_address(run.entered))
    total = sum(storage.nbytes() for address, storage in kept.items() if address not in counted)
    return total, _address(run.output) in kept.keys() | counted


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def _left_as_it_was(network: nn.Module, device: torch.device) -> Iterator[None]:
    buffers = [(part, name, buffer) for part in network.modules() for name, buffer in part.named_buffers(recurse=False)]
    before = [buffer.clone() for _, _, buffer in buffers]
    # the CPU's generator comes along; without devices their type is only asked whether there are such
    generators = torch.random.fork_rng([]) if device.type == "cpu" else torch.random.fork_rng([device], device_type=device.type)
    try:
        with keeping_modes(network), generators:
            yield
    finally:
        with torch.no_grad():
            for (part, name, buffer), value in zip(buffers, before, strict=True):
                setattr(part, name, buffer)
                buffer.copy_(value)
