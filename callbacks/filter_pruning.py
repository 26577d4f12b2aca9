"""What all filter pruning does within a fit: find the groups of channels, play masks, keep the plan, tell what is left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_switch, require_text
from lightning_reid.networks import ChannelPlan
from lightning_reid.networks.channels.costs import ChannelCosts
from lightning_reid.networks.channels.groups import find_channel_groups
from lightning_reid.networks.channels.plan import ChannelMasks
from lightning_reid.networks.channels.prunable import deciding_makers
from lightning_reid.networks.channels.residual_blocks import ResidualBlocks, zero_padded_groups
from lightning_reid.networks.sharding import is_sharded

_AFTER = "afterwards ``plan`` says which channels are left, and ``history`` what was left of each resource"


class FilterPruning(pl.Callback, ABC):
    """Prunes the network of a module while it trains, by masks only: what an optimizer and DDP hold keeps its shape.

    ``plan`` says which channels are left, in the checkpoint too; ``ReIDModule.materialize`` makes the really smaller network of it after
    the fit. What is dropped has zeros for weights after each step, so that a checkpoint of the full width gives the same embeddings.

    Args:
        stop: Whether the fit ends when there is nothing more to prune.
        network: The module's attribute that holds the network. It takes ``clips`` or ``images`` of a batch.

    Attributes:
        history: A row for each pruning step: what was left of each resource, and of how many channels.
        done: Whether there is nothing more to prune.
        residual_blocks: How the layers that add to a residual sum are pruned; a child may let its user choose.

    Example:
        >>> from lightning_reid.callbacks import CAIEPruning, FilterPruning
        >>> pruning = CAIEPruning({"flops": 0.5})
        >>> isinstance(pruning, FilterPruning), pruning.network, pruning.done
        (True, 'network', False)
        >>> pruning.plan
        Traceback (most recent call last):
            ...
        RuntimeError: the channels of a network are found with its first batch: fit first
    """

    needs_whole_network = "prunes filters across the layers of a network"
    residual_blocks: ResidualBlocks = "coupled"

    def __init__(self, *, stop: bool = True, network: str = "network") -> None:
        require_switch("stop", stop)
        require_text("network", network)
        self.stop, self.network = stop, network
        self.history: list[dict[str, Any]] = []
        self.done = False
        self._input_shape: tuple[int, ...] | None = None
        self._restored: dict[str, Tensor] = {}
        self._masks: ChannelMasks | None = None
        self._costs: ChannelCosts | None = None

    @property
    def plan(self) -> ChannelPlan:
        """Which channels of the network are left, as ``materialize`` takes it.

        Raises:
            RuntimeError: No batch was seen yet.
        """
        if self._input_shape is None:
            raise RuntimeError("the channels of a network are found with its first batch: fit first")
        keep = {name: mask for name, mask in self.kept_channels.items() if not mask.all()}
        return ChannelPlan(self._input_shape, keep, self.residual_blocks)

    @property
    def kept_channels(self) -> dict[str, Tensor]:
        """``[C]`` bool of every group, true where a channel is left; empty before the first batch."""
        return dict(self._restored if self._masks is None else self._masks.keep)

    @property
    def masks(self) -> ChannelMasks:
        """The masks that are multiplied with what the network's layers give.

        Raises:
            RuntimeError: No fit goes on that has seen a batch.
        """
        if self._masks is None:
            raise RuntimeError(f"masks are played while a fit goes on, from its first batch: {_AFTER}")
        return self._masks

    @property
    def costs(self) -> ChannelCosts:
        """What the network costs with so many channels left.

        Raises:
            RuntimeError: No fit of this callback has seen a batch.
        """
        if self._costs is None:
            raise RuntimeError(f"costs are counted with the first batch of a fit: {_AFTER}")
        return self._costs

    @abstractmethod
    def check(self) -> None:
        """Refuse, before anything is trained, what cannot be done with this network.

        Raises:
            ValueError: The message says what could be done instead.
        """

    def measure(self, trainer: pl.Trainer, network: nn.Module, input_shape: tuple[int, ...]) -> None:
        """Measure what else a child counts as a resource."""

    def consumption(self, left: dict[str, int]) -> dict[str, float]:
        """What the network takes of each resource with so many channels of each group."""
        return self.costs(left)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_sharded(pl_module):
            raise ValueError(
                f"{type(self).__name__} looks at whole filters, and ModelParallelStrategy divides them over processes: prune with"
                " strategy='ddp'"
            )

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Any], batch_idx: int) -> None:
        if self._masks is None:
            inputs = batch.get("clips", batch.get("images"))
            if inputs is None:
                raise ValueError(f"pruning wants a batch with images or clips, got {', '.join(batch)}")
            self._input_shape = (1, *inputs.shape[1:])
            self._begin(trainer, pl_module)

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network, shape = getattr(pl_module, self.network, None), self._input_shape
        if not isinstance(network, nn.Module):
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ValueError(f"network={self.network!r} is no part of {type(pl_module).__name__} that could be pruned: it has {names}")
        assert shape is not None  # of the batch, or of the checkpoint
        groups = find_channel_groups(network, shape) if self.residual_blocks == "coupled" else zero_padded_groups(network, shape)[0]
        self._masks, self._costs = ChannelMasks(network, groups), ChannelCosts(network, groups, shape)
        self._masks.set(self._restored)
        self.measure(trainer, network, shape)
        if not self._restored:
            self.check()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._input_shape is not None:  # resumed
            self._begin(trainer, pl_module)
        if self.done and self.stop:
            trainer.should_stop = True

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._masks is not None:
            self._masks.silence()

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._masks is not None and stage == "fit":
            self._restored = dict(self._masks.keep)
            self._masks.stop()
            self._masks = None

    def channels_left(self) -> dict[str, int]:
        """How many channels of each group are left, by its name."""
        return {name: int(mask.sum()) for name, mask in self.masks.keep.items()}

    def shares_left(self) -> dict[str, float]:
        """The share of each resource that is left, in (0, 1], by its name."""
        full, left = self.consumption(self.costs.full), self.consumption(self.channels_left())
        return {name: left[name] / full[name] for name in full}

    def makers(self, group: str) -> list[tuple[Tensor, Tensor]]:
        """What makes the channels of a group, as the criteria of ``lightning_reid.pruning`` take it."""
        return [(module.weight, channels) for module, channels in deciding_makers(self.masks.network, self.masks.groups[group])]

    def tell(self, loggers: list[Logger], step: int, row: dict[str, Any]) -> None:
        """Add a row to the history, and log its numbers."""
        self.history.append(row)
        numbers = {f"prune/{name}": value for name, value in row.items() if isinstance(value, (int, float))}
        for logger in loggers:
            logger.log_metrics(numbers, step=step)

    @override
    def state_dict(self) -> dict[str, Any]:
        if self._input_shape is None:
            return {"done": self.done}
        return {"input_shape": list(self._input_shape), "keep": self.kept_channels, "history": self.history, "done": self.done}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done = bool(state_dict["done"])
        if "input_shape" in state_dict:
            self._input_shape = tuple(int(size) for size in state_dict["input_shape"])
            self._restored = {name: mask.bool().cpu() for name, mask in state_dict["keep"].items()}
            self.history = list(state_dict["history"])


def forget_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer as a new one of the same settings: what it knows of parameters is dropped, learning rates stay."""
    optimizer.state.clear()
