"""A camera's device among others: what it learns, and what it says when it is asked; no image leaves it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lightning_reid.arguments import require_text
from lightning_reid.callbacks import TrackletMemories
from lightning_reid.clustering.memories import tracklet_memories
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.sharing import AllowList, TensorKind, not_finite
from lightning_reid.federation.client import Client
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.local_training import local_trainer
from lightning_reid.files import read_json, write_atomically, write_json
from lightning_reid.modules import TrackletReID
from lightning_reid.modules.tracklet import NETWORK
from lightning_reid.networks.embedding_pass import embedding_pass
from lightning_reid.networks.walking_statistics import measured_statistics

MEMORIES, LABELS, ROWS, CLASSIFIER = "memories", "labels", "rows", "classifier."
WALK = "walk"
"""Name of the first walk, by local tracklets; every other one is by labels that a device was told for it."""


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself before anything crosses.

    Attributes:
        num_tracklets: Rows of its bank.
        num_images: It trains on.
        front: Digest of the frozen front, which all have alike.
    """

    num_tracklets: int
    num_images: int
    front: str

    @property
    def walks(self) -> bool:
        """Whether it has tracklets to tell apart."""
        return self.num_tracklets > 1

    @property
    def learns(self) -> bool:
        """Whether it can learn labels across cameras: of one image there is no batch."""
        return self.num_images > 1


@dataclass(frozen=True)
class Bank:
    """The memories of a device.

    Attributes:
        memories: ``[num_tracklets, D]``.
        length: Mean length of a feature, above 0; 0 where there is none.
    """

    memories: Tensor
    length: float


@dataclass(frozen=True)
class LabelTask:
    """What a device is told for a walk by labels.

    Attributes:
        labels: ``[num_tracklets]`` int32, the label of each of its tracklets.
        number: C, of all labels.
        rows: ``[held labels, D]`` float32, where a local classifier begins, by ascending label; ``None`` where a classifier walks.
    """

    labels: Tensor
    number: int
    rows: Tensor | None = None


class EdgeDevice:
    """A device of one camera: its images stay, it learns when a network visits it, and it answers what it is asked.

    Args:
        id: Unlike any other's.
        data: Its images, set up.
        make: A ``TrackletReID`` by its arguments; those of its network are the caller's.
        start: Tensors of the network (``network.`` and on) that every device begins with; its front is never sent.
        options: How devices learn; all have the same.
        folder: For what it is told.
        accelerator: Of its Trainers.

    Raises:
        ValueError: ``start`` is of another network.
    """

    def __init__(
        self,
        id: str,
        data: DeviceDataModule,
        make: Callable[..., TrackletReID],
        start: NamedTensors,
        options: EdgeOptions,
        folder: str | Path,
        accelerator: str = "auto",
    ) -> None:
        require_text("id", id)
        self.id, self.data, self.make, self.options, self.folder, self.accelerator = id, data, make, options, Path(folder), accelerator
        self.start = {name: tensor.detach().cpu().clone() for name, tensor in start.items()}
        module = self.module()
        self.middle = module.walking_prefixes
        self.width = module.network.num_features

    @property
    def facts(self) -> DeviceFacts:
        """What it says of itself."""
        front = {name: tensor for name, tensor in self.start.items() if not name.startswith(self.middle)}
        return DeviceFacts(self.data.num_tracklets, len(self.data.target_records), digest(front))

    @property
    def model_file(self) -> Path:
        """The network that it was last given, whole."""
        return self.folder / "model.safetensors"

    def module(self, **arguments: object) -> TrackletReID:
        """A fresh module with the weights to start from.

        Raises:
            ValueError: They are of another network.
        """
        return edge_module(self.make, self.start, self.options, **arguments)

    def client(self, walk: str) -> Client:
        """The client that takes part in a walk, as whom the device is visited.

        Raises:
            FileNotFoundError: It was told no labels for that walk.
        """
        if walk == WALK:
            self.data.label_tracklets(None)
            init = self.options.classifier_init
            return Client(self.id, self.module(classifier_init=init), self.data, [TrackletMemories(init == "memories")])
        task = self.task(walk)
        self.data.label_tracklets(task.labels.long())
        options = self.options
        if task.rows is not None:
            module = self.module(classifier_init="memories")
            module.first_rows = task.rows
            self.data.label_tracklets(task.labels.unique(return_inverse=True)[1])
            return Client(self.id, module, self.data, [TrackletMemories(False)])
        module = self.module(num_labels=task.number, negatives=options.negatives, update_all=options.update_all)
        return Client(self.id, module, self.data, [TrackletMemories(False)])

    def take_task(self, walk: str, task: LabelTask) -> None:
        """Keep what it is told for a walk by labels.

        Raises:
            ValueError: Labels are not those of its tracklets, or a row is missing.
        """
        labels_list(self.data.num_tracklets).check({LABELS: task.labels})
        if task.rows is not None:
            rows_list(task.labels, self.width).check({ROWS: task.rows})
        if len(task.labels) and not 0 <= int(task.labels.min()) <= int(task.labels.max()) < task.number:
            raise ValueError(f"labels must lie in 0 to {task.number - 1}, got {int(task.labels.min())} to {int(task.labels.max())}")
        if task.rows is not None:
            write_tensors(self._rows_file(walk), {ROWS: task.rows})
        write_json(self._task_file(walk), {LABELS: task.labels.tolist(), "number": task.number, ROWS: task.rows is not None})

    def task(self, walk: str) -> LabelTask:
        """What it was told for a walk by labels.

        Raises:
            FileNotFoundError: Nothing.
        """
        file = self._task_file(walk)
        if not file.is_file():
            raise FileNotFoundError(f"{self.id} was told no labels for {walk}: there is no {file}")
        told = read_json(file, {LABELS: list, "number": int, ROWS: bool}, way_on="remove it, and let the server tell the labels again")
        rows = load_file(self._rows_file(walk))[ROWS] if told[ROWS] else None
        return LabelTask(torch.tensor(told[LABELS], dtype=torch.int32), told["number"], rows)

    def _task_file(self, walk: str) -> Path:
        return self.folder / f"{walk}-labels.json"

    def _rows_file(self, walk: str) -> Path:
        return self.folder / f"{walk}-rows.safetensors"

    def install(self, tensors: NamedTensors) -> str:
        """Take the middle of the network, or statistics of it, for its own; the digest of the whole network that it has then.

        Raises:
            ValueError: A tensor is not of the middle, or not finite.
        """
        own = self.model()
        kinds = AllowList.of(own, self.middle).kinds
        AllowList({name: kind for name, kind in kinds.items() if name in tensors}).check(dict(tensors))
        broken = not_finite(tensors)
        if broken is not None:
            raise ValueError(f"{self.id} is given {broken} with NaN or infinity")
        model = own | dict(tensors)
        write_tensors(self.model_file, model)
        return digest(model)

    def model(self) -> dict[str, Tensor]:
        """The network that it was last given; the one to start from before."""
        return load_file(self.model_file) if self.model_file.is_file() else dict(self.start)

    def bank(self) -> Bank:
        """The memories of its tracklets by the network that it was last given."""
        data, options = self.data, self.options
        if not data.num_tracklets:
            return Bank(torch.empty(0, self.width, dtype=torch.float16 if options.half else torch.float32), 0.0)
        embeddings = device_embeddings(self._given(), data)
        memories = tracklet_memories(embeddings, data.tracklets, data.num_tracklets, kind=options.memory, centered=options.centered)
        return Bank(memories.half() if options.half else memories, float(embeddings.norm(dim=1).mean()))

    def statistics(self) -> dict[str, Tensor]:
        """Running means and variances of the middle over its own images, by the network that it was last given; nothing without images."""
        if not len(self.data.target_records):
            return {}
        module = self._given()
        batches = (batch["images"].to(module.device) for batch in self.data.target_dataloader())
        return {name: tensor.cpu() for name, tensor in measured_statistics(module, batches, self.middle).items()}

    def _given(self) -> TrackletReID:
        module = self.module()
        module.load_state_dict(module.state_dict() | self.model())
        trainer = local_trainer(Client(self.id, module, self.data), 1, self.accelerator, self.folder)
        return module.to(trainer.strategy.root_device)


def edge_module(make: Callable[..., TrackletReID], start: NamedTensors, options: EdgeOptions, **arguments: object) -> TrackletReID:
    """A module as ``options`` want it, with the weights to start from.

    Raises:
        ValueError: They are of another network.
    """
    rates = {"lr": options.lr, "walking_lr_factor": options.walking_lr_factor}
    module = make(statistics="frozen" if options.statistics == "frozen" else "walk", **rates, **arguments)
    own = module.state_dict()
    wrong = [name for name, tensor in start.items() if name not in own or own[name].shape != tensor.shape]
    missing = [name for name in own if name.startswith(NETWORK) and name not in start]
    if wrong or missing:
        raise ValueError(
            f"the weights to start from are of another network: {[*wrong, *missing][0]} is in one of the two, or differs in shape"
        )
    module.load_state_dict(own | dict(start))
    return module


def bank_list(facts: DeviceFacts, width: int, *, half: bool) -> AllowList:
    """What a device may send of its memories: ``[num_tracklets, width]``."""
    return AllowList({MEMORIES: TensorKind((facts.num_tracklets, width), torch.float16 if half else torch.float32)})


def labels_list(num_tracklets: int) -> AllowList:
    """What a device may be told of labels: one a tracklet."""
    return AllowList({LABELS: TensorKind((num_tracklets,), torch.int32)})


def rows_list(labels: Tensor, width: int) -> AllowList:
    """What a device that was told ``labels`` may be told of a classifier: a row for each label that it holds."""
    return AllowList({ROWS: TensorKind((len(labels.unique()), width), torch.float32)})


def check_bank(bank: Bank, facts: DeviceFacts, width: int, *, half: bool) -> None:
    """Let a bank pass, whoever sends or takes it: one row a tracklet, nothing else.

    Args:
        bank: As it would cross.
        facts: Of the device whose it is.
        width: D.
        half: Whether memories cross in half precision.

    Raises:
        LeakError: It has another shape or dtype.
        ValueError: Memories or their length are not finite.
    """
    bank_list(facts, width, half=half).check({MEMORIES: bank.memories})
    broken = (~bank.memories.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"row {broken[0]} of the memories holds NaN or infinity: look at that camera's pictures, and at its network")
    if not 0 <= bank.length < float("inf") or (bank.length == 0) != (facts.num_tracklets == 0):
        raise ValueError(f"the mean length of a feature must be finite and above 0, got {bank.length}")


def digest(tensors: NamedTensors) -> str:
    """SHA-256 of names, dtypes, shapes and numbers, in the order of the names."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def device_embeddings(module: TrackletReID, data: DeviceDataModule) -> Tensor:
    """``[N, D]`` of a device's images without augmentation, not normalized, in their order."""
    found = torch.empty(len(data.target_records), module.network.num_features)
    for batch, output in embedding_pass(module, data.target_dataloader(), lambda batch: module.embed(batch["images"].to(module.device))):
        found[batch["indices"]] = output.embedding.cpu()
    return found


def true_people(data: DeviceDataModule) -> Tensor:
    """``[num_tracklets]`` int64, the true person of each tracklet: for reports."""
    people = torch.empty(data.num_tracklets, dtype=torch.int64)
    people[data.tracklets] = data.ground_truth()
    return people


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})  # not save_file: on a full disk that raises no OSError
    write_atomically(file, lambda draft: draft.write_bytes(content))
