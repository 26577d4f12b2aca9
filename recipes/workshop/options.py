"""How and where recipes run, by plain options as a command line has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.datamodules.client_splits import ClientSplit
from lightning_reid.federated import FedPav
from lightning_reid.federation import Client, Federation
from lightning_reid.pipeline import PipelineStrategy
from lightning_reid.recipes.workshop.stored_run import local_output


@dataclass
class PlainOptions:
    """Options at the top level of a command line.

    Attributes:
        switches: The options that are flags without a value, with their help.
    """

    switches: ClassVar[dict[str, str]]

    @classmethod
    def add_to(cls, parser: ArgumentParser, **defaults: Any) -> None:
        """Give a parser these options, and ``--config`` for a file of options; ``defaults`` are other defaults than the class'."""
        parser.add_argument("--config", action="config", help="YAML file with any of the options below")
        parser.add_class_arguments(cls, None, skip=set(cls.switches))
        for name, told in cls.switches.items():
            parser.add_argument(f"--{name}", action="store_true", help=told)
        parser.set_defaults(defaults)

    @classmethod
    def of(cls, cfg: Namespace) -> Self:
        """The options among parsed arguments."""
        told = {field.name: cfg[field.name] for field in fields(cls)}
        return cls(**(told | ({"output": local_output(told["output"])} if "output" in told else {})))


@dataclass
class RunOptions(PlainOptions):
    """How and where a recipe runs.

    Attributes:
        output: Folder for checkpoints, logs, tables and pictures; or an address (``s3://bucket/runs/hsr``), where they are kept, too.
        accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, as Lightning names them.
        devices: Processes, one a device.
        strategy: ``"auto"``, ``"ddp"``, ... as Lightning names them; or ``"pipeline"``, one network over all devices, each with some of its
            layers, of modules that embed a batch once a step (see ``PipelineStrategy``, as for the next three).
        microbatches: With ``"pipeline"``: into how many parts a batch is cut that go through it one behind the other; none: 4.
        stages: With ``"pipeline"``: devices of one network, of which there are then several copies; none: all, for one.
        checkpoint_activations: With ``"pipeline"``: compute activations again in the backward pass, for the memory.
        precision: ``"32-true"``, ``"bf16-mixed"``, ... as Lightning names them.
        logger: ``"csv"``, or ``"wandb"`` beside it (online, offline or disabled as W&B's own settings decide).
        seed: Seed of weights, draws and augmentations.
        log_every_n_steps: Steps between two logged values of a loss.
        tensorboard: Write TensorBoard logs too.
        resume: Continue the run in ``output``: finished stages are kept, the unfinished one goes on from its last epoch.
        quiet: Show no progress bars.
    """

    output: str = "runs/hsr"
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    microbatches: int | None = None
    stages: int | None = None
    checkpoint_activations: bool = False
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    logger: Literal["csv", "wandb"] = "csv"
    seed: int = 0
    log_every_n_steps: int = 10
    tensorboard: bool = False
    resume: bool = False
    quiet: bool = False

    switches: ClassVar[dict[str, str]] = {
        "tensorboard": "write TensorBoard logs too",
        "resume": "continue the run in --output from its last finished epoch",
        "quiet": "show no progress bars",
        "checkpoint_activations": "with --strategy pipeline, compute activations again in the backward pass, for the memory",
    }

    def __post_init__(self) -> None:
        """Refuse what only a pipeline takes, where none is asked for.

        Raises:
            ValueError: An option of the pipeline is given with another strategy, or is out of its range.
        """
        told = {"--microbatches": self.microbatches, "--stages": self.stages}
        given = " ".join(f"{name} {value}" for name, value in told.items() if value is not None)
        given = f"{given} --checkpoint_activations".strip() if self.checkpoint_activations else given
        if given and self.strategy != "pipeline":
            raise ValueError(f"{given} goes with --strategy pipeline, got --strategy {self.strategy}")
        self.trainer_strategy()

    def trainer_strategy(self) -> str | PipelineStrategy:
        """What a Trainer is given, a new one for each Trainer."""
        if self.strategy != "pipeline":
            return self.strategy
        told: dict[str, Any] = {} if self.microbatches is None else {"microbatches": self.microbatches}
        return PipelineStrategy(**told, stages=self.stages, checkpoint_activations=self.checkpoint_activations)


@dataclass
class FederationOptions(PlainOptions):
    """Who the clients are, and how long and where their federations run.

    Attributes:
        output: Folder of the federations, the tables and the split.
        split: What decides who gets which images, see ``split_clients``.
        num_clients: Clients of each data set, for ``"identity"`` and ``"dirichlet"``.
        concentration: Of the Dirichlet split, above 0: small is unequal.
        min_identities: People that every client of ``"identity"`` and ``"dirichlet"`` gets at least, 2 or more.
        rounds: Of a federation, at least 1.
        epochs: Most local epochs a round, at least 1.
        deadline: Seconds that a client may take a round; none waits for everybody.
        accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, as Lightning names them.
        seed: Of weights, draws and the split.
        resume: Go on with the federations in ``output``.
        quiet: Show no progress bars.
    """

    output: str = "runs/federation"
    split: ClientSplit = "dataset"
    num_clients: int | None = None
    concentration: float = 1.0
    min_identities: int = 2
    rounds: int = 30
    epochs: int = 4
    deadline: float | None = None
    accelerator: str = "auto"
    seed: int = 0
    resume: bool = False
    quiet: bool = False

    switches: ClassVar[dict[str, str]] = {"resume": "go on with the federations in --output", "quiet": "show no progress bars"}

    def of_one_run(self) -> RunOptions:
        """The options for a training that is no federation."""
        names = ("output", "accelerator", "seed", "resume", "quiet")
        return RunOptions(**{name: getattr(self, name) for name in names})

    def split_arguments(self) -> dict[str, Any]:
        """What ``FederatedData`` is told of the split."""
        names = ("split", "num_clients", "concentration", "min_identities", "seed")
        return {name: getattr(self, name) for name in names}

    def federation(self, row: str, strategy: FedPav, clients: Sequence[Client]) -> Federation:
        """The federation of a row of a table, in a folder of its own."""
        names = ("epochs", "deadline", "resume", "seed", "accelerator", "quiet")
        return Federation(strategy, clients, Path(self.output) / row.replace(" ", "-"), **{name: getattr(self, name) for name in names})


NETWORK = ("backbone", "backbone_options", "pretrained", "weights", "pooling", "bn_group")
"""Arguments of an image module that say which network it has."""


def network_arguments(model: Namespace) -> dict[str, Any]:
    """The arguments of a module that say which network it has, of all that were parsed, for another module with the same one."""
    return {name: model[name] for name in NETWORK if name in model}


def adam_arguments(lr: float, epochs: int) -> dict[str, Any]:
    """The arguments of a module that have it trained by Adam, at a tenth of ``lr`` from 60 % of the epochs on, a hundredth from 85 %."""
    return {"optimizer": "adam", "lr": lr, "milestones": [epochs * 6 // 10, epochs * 85 // 100]}
