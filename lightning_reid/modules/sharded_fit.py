"""Fits under Lightning's ``ModelParallelStrategy``: what is divided over processes, when it is whole, and what that does not go with."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh
from typing_extensions import override

from lightning_reid.networks.sharding import divide_weights, gather_weights, is_sharded, shard


class WholeWhileEvaluated(pl.Callback):
    """Holds a divided module whole in every process while scores are taken or embeddings are asked for.

    In training, a pass through a divided network waits for the same pass of the other processes. Evaluated, they make different numbers of
    passes: one has longer tracklets, or a batch more.
    """

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gather_weights(pl_module)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        divide_weights(pl_module)

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gather_weights(pl_module)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        divide_weights(pl_module)

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gather_weights(pl_module)

    @override
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        divide_weights(pl_module)


def callbacks_of_sharding(trainer: pl.Trainer) -> list[pl.Callback]:
    """What a module asks of a Trainer whose strategy divides networks over processes; nothing of any other."""
    there = any(isinstance(callback, WholeWhileEvaluated) for callback in getattr(trainer, "callbacks"))  # noqa: B009  (set dynamically)
    return [] if there or not isinstance(trainer.strategy, ModelParallelStrategy) else [WholeWhileEvaluated()]


def shard_over_processes(module: pl.LightningModule, *, allowed: bool) -> None:
    """Divide the parts of a module over the processes where its Trainer's strategy says so; what is divided already stays so.

    Args:
        module: With all of its parts built, in a Trainer's hands.
        allowed: Whether the module uses parameters of its parts only by calling the parts.

    Raises:
        ValueError: The strategy divides networks, and does it in a way, or the module or a callback is of a kind, that does not go with
            it; or the strategy does not, and an earlier fit has.
    """
    strategy = module.trainer.strategy
    if isinstance(strategy, ModelParallelStrategy):
        mesh = data_parallel_mesh(strategy)
        require_shardable(module, allowed)
        for part in module.children():
            if any(True for _ in part.parameters()):
                shard(part, mesh)
    elif is_sharded(module):
        name = type(module).__name__
        raise ValueError(
            f"the weights of this {name} are divided over the processes of an earlier fit, and {type(strategy).__name__} wants them whole:"
            f" save a checkpoint with that fit's Trainer, and go on with {name}.load_from_checkpoint"
        )


def data_parallel_mesh(strategy: ModelParallelStrategy) -> DeviceMesh:
    """The processes that share the data, and that a network is divided over: all there are.

    Raises:
        ValueError: Some are to share single layers, or checkpoints are to be folders, which nothing but that strategy reads.
    """
    sharing_layers = strategy.device_mesh["tensor_parallel"].size()
    # no public name says it, and Lightning's own consolidate_checkpoint does not read what it writes
    in_parts = strategy._save_distributed_checkpoint
    if sharing_layers > 1 or in_parts:
        raise ValueError(
            f"got ModelParallelStrategy with tensor_parallel_size={sharing_layers} and save_distributed_checkpoint={in_parts}: networks are"
            " divided over processes that share the data here, and checkpoints are single files. Give"
            f" ModelParallelStrategy(data_parallel_size={strategy.world_size}, tensor_parallel_size=1, save_distributed_checkpoint=False)"
        )
    return strategy.device_mesh["data_parallel"]


def require_shardable(module: pl.LightningModule, allowed: bool) -> None:
    """Refuse what would read or write the weights of a divided network as if they were whole.

    Raises:
        ValueError: The module or a callback would.
    """
    if not allowed or any(True for _ in module.parameters(recurse=False)):
        raise ValueError(
            f"{type(module).__name__} uses weights by other ways than calling its networks, and ModelParallelStrategy cannot divide it over"
            " processes: train it with strategy='ddp'"
        )
    for callback in getattr(module.trainer, "callbacks"):  # noqa: B009  (the attribute is set dynamically)
        if isinstance(callback, (WeightAveraging, StochasticWeightAveraging)):
            raise ValueError(
                f"{type(callback).__name__} copies a module, and one that ModelParallelStrategy divides over processes cannot be copied:"
                " leave one of them out, or train with strategy='ddp'"
            )
