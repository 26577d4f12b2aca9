"""Model-parallel, pipelined training as a strategy of a Lightning Trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_switch
from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.pipeline.clipping import clip_norm_over_stages
from lightning_reid.pipeline.groups import pipeline_mesh
from lightning_reid.pipeline.heartbeat import Heartbeat
from lightning_reid.pipeline.pipeline import ScheduleName
from lightning_reid.pipeline.refusals import require_divided, require_pipelined, require_torch
from lightning_reid.pipeline.split import SplitModule
from lightning_reid.pipeline.stage_costs import StageCosts, chosen_stages, example_inputs, rows_of_batches
from lightning_reid.pipeline.training_step import Mining

logger = logging.getLogger(__name__)


class PipelineStrategy(DDPStrategy):
    """Trains one network over several processes, each with some of its layers, a batch in micro-batches one behind the other.

    Source: the distributed text, section III.B, algorithms 1 and 2. What is learned is exactly what the unsplit module learns whose
    BatchNorm layers normalize over M groups (``group_batch_norm(module, num_groups=M)``), to which the rows of a batch are dealt in
    turn (``dealing.dealt_rows``): the losses see the whole batch, triplets are mined over all of it.
    ``Trainer(strategy=PipelineStrategy(microbatches=4), devices=2)``; modules stay as they are: ``SupervisedReID``, ``VideoReID``,
    ``DistilledReID`` with its teacher on the last stage, and ``HSR`` without ``InterCameraMining``.

    Each process loads the same batches. Checkpoints are those of the unsplit module, and resume on any number of stages, or unsplit.

    Args:
        microbatches: M, into how many parts a batch is cut; it divides the batch into parts of at least two rows.
        stages: Processes of a pipeline. ``None`` takes all; with fewer there are several pipelines, each with batches of its own, whose
            gradients are averaged.
        schedule: ``"gpipe"``, all forward passes before the first backward one; ``"looped-bfs"``, the same with several stages a process;
            ``"1f1b"``, whose backward passes begin as early as they can, for the memory: with ``mining="batch"`` that takes one more
            forward pass (gradient caching).
        stages_per_process: More than 1 with ``"looped-bfs"`` only.
        mining: ``"batch"``, the module's own loss; or ``"microbatch"``, another one: the mean of the losses of the micro-batches.
        checkpoint_activations: Keep what units are given, and compute the rest again in the backward pass.
        stage_costs: What cuts are balanced by: ``"measured"`` seconds of each unit of the network, ``"equal"`` ones, or numbers for all.
        memory_limit: Bytes that the layers of a process may take, weights and kept activations, shared equally by its stages; ``None`` for
            no limit.
        options: Of ``DDPStrategy``: ``timeout``, ``process_group_backend`` and others.

    Raises:
        RuntimeError: torch is older than 2.8.
        ValueError: An argument is out of range, or contradicts another; or (when a fit begins) the module, the Trainer or the number of
            processes does not go with it.

    Example:
        >>> from lightning_reid.pipeline import PipelineStrategy
        >>> strategy = PipelineStrategy(microbatches=4, checkpoint_activations=True)
        >>> strategy.schedule, strategy.stages_per_process
        ('gpipe', 1)
        >>> PipelineStrategy(microbatches=4, schedule="gpipe", stages_per_process=2)
        Traceback (most recent call last):
            ...
        ValueError: schedule='gpipe' has one stage a process, got stages_per_process=2: give schedule='looped-bfs'
    """

    def __init__(
        self,
        microbatches: int = 4,
        stages: int | None = None,
        schedule: ScheduleName = "gpipe",
        stages_per_process: int = 1,
        mining: Mining = "batch",
        checkpoint_activations: bool = False,
        stage_costs: Literal["measured", "equal"] | Sequence[float] = "measured",
        memory_limit: int | None = None,
        **options: Any,
    ) -> None:
        require_torch()
        require_count("microbatches", microbatches)
        require_count("stages", stages, optional=True)
        require_choice("schedule", schedule, get_args(ScheduleName))
        require_count("stages_per_process", stages_per_process)
        require_choice("mining", mining, get_args(Mining))
        require_switch("checkpoint_activations", checkpoint_activations)
        require_count("memory_limit", memory_limit, optional=True)
        if schedule != "looped-bfs" and stages_per_process > 1:
            raise ValueError(
                f"schedule={schedule!r} has one stage a process, got stages_per_process={stages_per_process}: give schedule='looped-bfs'"
            )
        super().__init__(**options)
        self.microbatches, self.stages, self.schedule, self.mining = microbatches, stages, schedule, mining
        self.stages_per_process, self.checkpoint_activations = stages_per_process, checkpoint_activations
        # a process keeps all of its stages: each gets its share
        self.costs = StageCosts(stage_costs, None if memory_limit is None else memory_limit // stages_per_process)
        self._patience: timedelta | None = options.get("timeout")
        self._mesh: DeviceMesh | None = None
        self._split_module: SplitModule | None = None
        self._in_a_step = False
        self._heartbeat: Heartbeat | None = None

    @property
    def processes_a_pipeline(self) -> int:
        """How many processes compute one network."""
        return self.stages or self.world_size

    @property
    def split(self) -> SplitModule:
        """The module's network in stages, from the beginning of a fit or an evaluation to its end.

        Raises:
            RuntimeError: It is whole.
        """
        if self._split_module is None:
            raise RuntimeError("the network is cut when a fit or an evaluation begins, and whole before and after")
        return self._split_module

    @property
    def mesh(self) -> DeviceMesh:
        """The processes, ``("data", "stage")``: pipelines, and the stages of each.

        Raises:
            RuntimeError: No fit or evaluation has begun yet.
        """
        if self._mesh is None:
            raise RuntimeError("processes are put into groups when the first fit or evaluation begins")
        return self._mesh

    @property
    def _module(self) -> pl.LightningModule:
        assert self.lightning_module is not None, "Lightning gives it before anything else"
        return self.lightning_module

    @property
    @override
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Batches are dealt to pipelines: the processes of one get the same."""
        size = self.processes_a_pipeline
        return {"num_replicas": self.world_size // size, "rank": self.global_rank // size}

    @override
    def setup_environment(self) -> None:
        super().setup_environment()
        require_divided(self.world_size, self.processes_a_pipeline)
        if self._mesh is None:
            self._mesh = pipeline_mesh(self.root_device.type, self.processes_a_pipeline, self._patience)
        if self._heartbeat is None and self.world_size > 1:
            self._heartbeat = self._begin_to_beat()

    def _begin_to_beat(self) -> Heartbeat:
        assert self.cluster_environment is not None
        address = self.cluster_environment.main_address
        store = Heartbeat.keep_store(address) if self.is_global_zero else None
        port = self.broadcast(store.port if store is not None else 0)
        return Heartbeat(address, port, self.global_rank, self.world_size, store)

    @override
    def setup(self, trainer: pl.Trainer) -> None:
        if self._layer_sync is not None:
            raise ValueError("Trainer(sync_batchnorm=True) normalizes over processes that hold the same layers: leave it out in a pipeline")
        require_pipelined(trainer, self._module, self.microbatches)
        if self.processes_a_pipeline == 1:
            logger.info("a pipeline of one process: micro-batches come one after another, no process waits, and none helps")
        super().setup(trainer)
        if trainer.state.fn != TrainerFn.FITTING:
            self._split()

    @override
    def configure_ddp(self) -> None:
        """Cut the network where DDP would wrap it: it is on its device, and no optimizer holds its parameters yet."""
        self._split()
        # the norm is of all gradients, of which a Trainer's plugin sees those of this process
        self.precision_plugin.clip_grad_by_norm = self._clip_norm  # type: ignore[method-assign]

    def _split(self) -> None:
        module = self._module
        for tensor in module.state_dict().values():  # the parts are of one network, whatever each process has drawn
            value = tensor.contiguous()  # a broadcast fills one piece of memory
            dist.broadcast(value, 0)
            tensor.copy_(value)
        network: EmbeddingNetwork = module.network  # type: ignore[assignment]
        inputs, count = example_inputs(module, network), self.processes_a_pipeline * self.stages_per_process
        stages = chosen_stages(self.costs, network, inputs, count, kept_rows=self._kept_rows(), rank=self.global_rank)
        self._split_module = SplitModule(
            module,
            stages,
            mesh=self.mesh,
            microbatches=self.microbatches,
            schedule=self.schedule,
            mining=self.mining,
            checkpoint_activations=self.checkpoint_activations,
            device=self.root_device,
        )

    def _kept_rows(self) -> int:
        """Rows of which a stage keeps what its backward pass needs, at most: all of a batch, or a micro-batch for each stage behind it."""
        rows = rows_of_batches(self._module)
        if rows is None:
            if self.costs.memory_limit is not None:
                raise ValueError("memory_limit is in bytes of a batch, whose size the data do not tell: fit on a datamodule with p and k")
            return self.microbatches
        kept = 1 if self.checkpoint_activations else self.microbatches
        return rows // self.microbatches * (min(kept, self.processes_a_pipeline) if self.schedule == "1f1b" else kept)

    def _clip_norm(self, optimizer: Optimizer, clip_val: int | float) -> None:
        clip_norm_over_stages(optimizer, float(clip_val), self.split.stage_parameters, self.split.group)

    @override
    def training_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        self._in_a_step = True
        try:
            with self.precision_plugin.train_step_context():
                return self.split.training_step(*args, **kwargs)
        finally:
            self._in_a_step = False

    @override
    def reduce(self, *args: Any, **kwargs: Any) -> Tensor:
        self._require_no_step("sync_dist=True")
        return super().reduce(*args, **kwargs)

    @override
    def all_gather(self, *args: Any, **kwargs: Any) -> Tensor:
        self._require_no_step("all_gather")
        return super().all_gather(*args, **kwargs)

    def _require_no_step(self, what: str) -> None:
        if self._in_a_step:
            raise ValueError(
                f"{what} in a training step waits for the other processes, and the last stage takes the step while they wait for it:"
                " leave it out, as all processes of a pipeline log the same"
            )

    @override
    def post_backward(self, closure_loss: Tensor) -> None:
        self.split.average_gradients()

    @override
    def on_validation_end(self) -> None:
        self._forget_evaluation()

    @override
    def on_train_end(self) -> None:
        for optimizer in self.optimizers:
            self.split.gather_optimizer(optimizer)
        self._join()

    @override
    def on_test_end(self) -> None:
        self._join()

    @override
    def on_predict_end(self) -> None:
        self._join()

    def _forget_evaluation(self) -> None:
        if self._module.trainer.state.fn == TrainerFn.FITTING:
            self.split.pipeline.forget("embedding", "parts")
        else:
            self._join()

    def _join(self) -> None:
        if self._split_module is not None:
            self.split.join()
            self._split_module = None

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Tensors of all stages, on rank 0; elsewhere those of other stages are without values."""
        return super().lightning_module_state_dict() if self._split_module is None else self.split.state_dict()

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """What the optimizers of all stages hold, on rank 0."""
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        in_stages = self._split_module is not None and self._module.trainer.state.fn == TrainerFn.FITTING
        return self.split.optimizer_state(inner) if in_stages else super().optimizer_state(inner)

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        states = [self.split.own_state(one, state) for one, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": states})

    @override
    def on_exception(self, exception: BaseException) -> None:
        super().on_exception(exception)
        if self._heartbeat is None:
            return
        if isinstance(exception, RuntimeError):  # as of a message that never came
            self._tell_who_has_gone(exception, self._heartbeat)
        self._heartbeat.tell(f"{type(exception).__name__}: {exception}")

    def _tell_who_has_gone(self, exception: RuntimeError, heartbeat: Heartbeat) -> None:
        words = heartbeat.words()
        gone = [words[0]] if words is not None else heartbeat.gone()
        if gone:
            who = self.split.told_stages(gone) if self._split_module is not None else ", ".join(f"rank {rank}" for rank in gone)
            last = "" if words is None else f" Its last words: {words[1]}"
            told = f"{who} has gone, without which no pipeline goes on: mend that, and resume from the last checkpoint.{last}"
            exception.add_note(told)
            logger.error(told)

    @override
    def teardown(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.end()
            self._heartbeat = None
        if self._split_module is None:
            super().teardown()
            return
        # after an error the module stays cut: its other stages are with processes that may have gone, and cannot be asked for
        self.split.release()
        self._split_module = None
        self.precision_plugin.teardown()
        assert self.accelerator is not None
        assert self.cluster_environment is not None
        self.accelerator.teardown()
        self.cluster_environment.teardown()
        self.checkpoint_io.teardown()
