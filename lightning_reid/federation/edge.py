"""Unsupervised re-ID on the devices of several cameras: a walk, a graph of memories, and a walk by its labels.

Source: edge-device text, section 3. What it leaves open is decided where it is done; options whose default is not the text's say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_number, require_seed, require_switch
from lightning_reid.callbacks import TrackletMemories
from lightning_reid.clustering import contradictions, global_labels, mutual_top1
from lightning_reid.clustering.camera_graph import LabelMethod
from lightning_reid.clustering.memories import MemoryKind, tracklet_memories
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federated import FedPav, RandomWalk
from lightning_reid.federated.averaging import WeightedAverage
from lightning_reid.federated.random_walk import WalkName
from lightning_reid.federated.traffic import Bytes, bytes_by_kind
from lightning_reid.federation.client import Client
from lightning_reid.federation.in_process import Federation
from lightning_reid.files import read_json, write_atomically, write_json
from lightning_reid.modules import TrackletReID
from lightning_reid.modules.tracklet import TrackletClassifierInit
from lightning_reid.networks.embedding_pass import embedding_pass
from lightning_reid.networks.walking_statistics import averaged_statistics, measured_statistics

logger = logging.getLogger(__name__)

CLASSIFIER = "classifier."
Unification = Literal["last", "average"]
Statistics = Literal["walk", "frozen", "averaged", "local"]


@dataclass(frozen=True)
class EdgeOptions:
    """How devices learn together. Defaults are decided here where the text says something else, which stands beside them.

    Attributes:
        visits: Laps of the first walk (the text trains 6 epochs a device on Market-1501 and MARS, 8 on DukeMTMC-reID, 3 on MSMT17).
        incremental_visits: Laps of the walk by labels across cameras.
        epochs: Of a visit. Short visits are the known cure of forgetting.
        walk: Where the model goes, see ``walk_order``.
        classifier_init: Rows of a new classifier; the text's is ``"random"``.
        memory: Of a tracklet; the text's is ``"sum"`` (eq. 4), whose distances follow the lengths of tracklets.
        centered: Each device takes the mean of its memories away before they are sent (ours).
        half: Send memories in half precision.
        alpha: Triangles of an edge (the text: 1 for Market-1501 and MARS, 2 for DukeMTMC-reID), or ``"auto"`` (ours).
        method: How labels follow from edges; ``"one_per_camera"`` is ours.
        repeated: Take edges away again and again.
        negatives: Of the walk by labels, see ``TrackletReID``.
        update_all: See ``TrackletReID``.
        statistics: Running statistics of the middle: they ``"walk"``, are ``"frozen"``, are ``"averaged"`` after the last visit, or are
            ``"local"``, each device keeping its own.
        unify: The model of all is that of the ``"last"`` visit, or the ``"average"`` of the last lap's.
        cycles: How often the graph is made and learned.
        lr: Of classifiers; the text's is 0.1, for large networks and long trainings.
        walking_lr_factor: Of the middle; the text's is 1.
        seed: Of everything that is drawn.

    Raises:
        ValueError: One is out of range; it is named.
    """

    visits: int = 6
    incremental_visits: int = 6
    epochs: int = 1
    walk: WalkName = "laps"
    classifier_init: TrackletClassifierInit = "memories"
    memory: MemoryKind = "mean"
    centered: bool = True
    half: bool = False
    alpha: int | Literal["auto"] = 1
    method: LabelMethod = "components"
    repeated: bool = False
    negatives: Literal["all", "held"] = "all"
    update_all: bool = False
    statistics: Statistics = "walk"
    unify: Unification = "last"
    cycles: int = 1
    lr: float = 0.01
    walking_lr_factor: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("visits", "incremental_visits", "epochs", "cycles"):
            require_count(name, getattr(self, name))
        for name in ("centered", "half", "repeated", "update_all"):
            require_switch(name, getattr(self, name))
        require_choice("statistics", self.statistics, ("walk", "frozen", "averaged", "local"))
        require_choice("unify", self.unify, ("last", "average"))
        require_number("lr", self.lr, above=0)
        require_number("walking_lr_factor", self.walking_lr_factor, above=0, high=1)
        require_seed("seed", self.seed)
        if self.alpha != "auto":
            require_count("alpha", self.alpha, low=0)


@dataclass(frozen=True)
class GraphReport:
    """What a graph came to; the first four need no true label.

    Attributes:
        labels: How many there are.
        isolated: Memories that share a label with none.
        contradictions: Memories too many for their camera, see ``contradictions``.
        edges: Mutual neighbors, before triangles are asked for.
        right_edges: Share of them that join one person; NaN without edges. From the true labels, for reports only.
        people: True people.
        precision: Of pairs that share a label, how many are one person.
        recall: Of pairs of one person, how many share a label.
    """

    labels: int
    isolated: int
    contradictions: int
    edges: int
    right_edges: float
    people: int
    precision: float
    recall: float

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall of pairs, 0 where both are."""
        return 2 * self.precision * self.recall / (self.precision + self.recall) if self.precision + self.recall else 0.0


def graph_report(memories: Tensor, camids: Tensor, labels: Tensor, pids: Tensor) -> GraphReport:
    """Judge labels across cameras, by themselves and by the true people.

    Args:
        memories: ``[N, D]`` float.
        camids: ``[N]`` int64.
        labels: ``[N]`` int64.
        pids: ``[N]`` int64, true.
    """
    edges = mutual_top1(memories, camids)
    right = (pids[edges[:, 0]] == pids[edges[:, 1]]).double().mean() if len(edges) else torch.tensor(float("nan"))
    sizes = labels.unique(return_counts=True)[1]
    both = torch.stack([labels, pids]).unique(dim=1, return_counts=True)[1]
    shared, true, hits = (_pairs(counts) for counts in (sizes, pids.unique(return_counts=True)[1], both))
    return GraphReport(
        labels=len(sizes),
        isolated=int((sizes == 1).sum()),
        contradictions=contradictions(labels, camids),
        edges=len(edges),
        right_edges=float(right),
        people=len(pids.unique()),
        precision=hits / shared if shared else float("nan"),
        recall=hits / true if true else float("nan"),
    )


def _pairs(counts: Tensor) -> float:
    return float((counts * (counts - 1)).sum() / 2)


class EdgeTraining:
    """All devices in one process: what each tells the others is counted, and nothing else crosses.

    Each step leaves a file in ``output``, and a run that was stopped goes on with ``resume`` and gives what an unbroken one gives.

    Args:
        devices: Id to images of one camera, set up; ids in the order of cameras.
        make: A fresh ``TrackletReID`` by its arguments; those of its network are the caller's.
        start: Tensors of the network (``network.`` and on) that all devices begin with; the front is installed once.
        options: How they learn.
        output: Folder.
        accelerator: Of the devices' Trainers.
        resume: Go on with what is in ``output``.
        quiet: Show no progress bars.
        after_visit: Called with a walk's federation after each visit; a stopped run may see one twice, and misses none.

    Attributes:
        bytes: Kind to the payload that crossed, by the hub and from device to device.

    Raises:
        ValueError: Fewer than two cameras, or start weights of another network.
    """

    def __init__(
        self,
        devices: Mapping[str, DeviceDataModule],
        make: Callable[..., TrackletReID],
        start: Mapping[str, Tensor],
        options: EdgeOptions,
        output: str | Path,
        *,
        accelerator: str = "auto",
        resume: bool = False,
        quiet: bool = False,
        after_visit: Callable[[Federation], object] | None = None,
    ) -> None:
        if len(devices) < 2:
            raise ValueError(f"a graph of memories needs two cameras or more, got {len(devices)}")
        self.devices, self.make, self.options, self.output = dict(devices), make, options, Path(output)
        self.accelerator, self.resume, self.quiet = accelerator, resume, quiet
        self.start = {name: tensor.detach().cpu().clone() for name, tensor in start.items()}
        self._module()  # refuses weights of another network now
        self.bytes: dict[str, Bytes] = {}
        self.after_visit = after_visit

    def run(self) -> dict[str, Tensor]:
        """The tensors of the network that every device ends with."""
        weights = self.walk()
        for cycle in range(self.options.cycles):
            memories = self.memories(weights, cycle)
            weights = self.learn_labels(weights, memories, self.labels(memories, cycle), cycle)
        return weights

    def walk(self) -> dict[str, Tensor]:
        """The first walk: each device that has something to tell apart, by its own tracklets (section 3.2)."""
        members = {name: data for name, data in self.devices.items() if data.num_tracklets > 1}
        for data in members.values():
            data.label_tracklets(None)
        modules = {name: self._module(classifier_init=self.options.classifier_init) for name in members}
        embed = self.options.classifier_init == "memories"
        return self._walked("walk", 2, members, modules, self.start, self.options.visits, embed=embed)

    def averaged(self, rounds: int) -> dict[str, Tensor]:
        """In place of a walk, as many rounds of federated averaging of the same middle: to compare with."""
        members = {name: data for name, data in self.devices.items() if data.num_tracklets > 1}
        for data in members.values():
            data.label_tracklets(None)
        modules = {name: self._module(classifier_init=self.options.classifier_init) for name in members}
        embed = self.options.classifier_init == "memories"
        clients = [Client(one, modules[one], data, [TrackletMemories(embed)]) for one, data in members.items()]
        strategy = FedPav(next(iter(modules.values())).walking_prefixes)
        federation = self._federation(strategy, clients, "average")
        state = federation.fit(rounds)
        self._count_walk(federation, "average")
        return self.start | state.tensors

    def learn_labels(
        self, weights: Mapping[str, Tensor], memories: Mapping[str, Tensor], labels: Mapping[str, Tensor], cycle: int = 0
    ) -> dict[str, Tensor]:
        """A walk that learns labels across cameras with a classifier that walks along, and the model of all (sections 3.4 and 3.5)."""
        members = {name: data for name, data in self.devices.items() if len(data.target_records) > 1}
        number = int(torch.cat([*labels.values()]).max()) + 1
        for name, data in members.items():
            data.label_tracklets(labels[name])
        head = self._first_rows(weights, memories, labels, number)
        module = {"num_labels": number, "negatives": self.options.negatives, "update_all": self.options.update_all}
        modules = {name: self._module(**module) for name in members}
        begun = {**weights, f"{CLASSIFIER}weight": head}
        learned = self._walked(f"incremental-{cycle}", 4 + cycle, members, modules, begun, self.options.incremental_visits)
        self._count_model_to_all(learned)
        return learned

    def memories(self, weights: Mapping[str, Tensor], cycle: int = 0) -> dict[str, Tensor]:
        """Each device's bank, as it is sent, by the model that every device has by now; from files where they are."""
        found = {}
        module = self._module()
        module.load_state_dict(module.state_dict() | dict(weights))
        for name, data in self.devices.items():
            file = self.output / f"banks-{cycle}" / f"{name}.safetensors"
            if not file.is_file():
                content = save({"memories": self._bank(module, data)})  # not save_file: on a full disk that raises no OSError
                write_atomically(file, partial(_write, content))
            found[name] = load_file(file)["memories"]
        sent = sum(bank.numel() * bank.element_size() for bank in found.values())
        hub = next(iter(found.values()))
        self._count("memories", Bytes(sent - hub.numel() * hub.element_size(), sent))
        self._count_model_to_all(weights)
        return found

    def labels(self, memories: Mapping[str, Tensor], cycle: int = 0) -> dict[str, Tensor]:
        """Labels across cameras of each device's tracklets; from a file where it is."""
        file = self.output / f"labels-{cycle}.json"
        camids = torch.cat([torch.full((len(bank),), camera) for camera, bank in enumerate(memories.values())])
        if not file.is_file():
            rows = torch.cat([bank.float() for bank in memories.values()])
            options = self.options
            labels = global_labels(rows, camids, options.alpha, options.method, repeated=options.repeated)
            write_json(file, {"labels": labels.tolist()})
        told = read_json(file, {"labels": list}, way_on="remove it, and labels are made again")["labels"]
        parts = torch.tensor(told, dtype=torch.int64).split([len(bank) for bank in memories.values()])
        hub = len(parts[0])
        self._count("labels", Bytes(4 * (len(told) - hub), 4 * len(told)))
        return dict(zip(memories, parts, strict=True))

    def report(self, memories: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> GraphReport:
        """Judge labels by themselves and by the true people, whom nobody was told of."""
        rows = torch.cat([bank.float() for bank in memories.values()])
        camids = torch.cat([torch.full((len(bank),), camera) for camera, bank in enumerate(memories.values())])
        pids = torch.cat([true_people(self.devices[name]) for name in memories])
        return graph_report(rows, camids, torch.cat([*labels.values()]), pids)

    def _bank(self, module: TrackletReID, data: DeviceDataModule) -> Tensor:
        if not data.num_tracklets:
            return torch.empty(0, module.network.num_features)
        embeddings = device_embeddings(module, data)
        bank = tracklet_memories(embeddings, data.tracklets, data.num_tracklets, kind=self.options.memory, centered=self.options.centered)
        return bank.half() if self.options.half else bank

    def _first_rows(
        self, weights: Mapping[str, Tensor], memories: Mapping[str, Tensor], labels: Mapping[str, Tensor], number: int
    ) -> Tensor:
        """``[C, D]``: the normalized mean memory of each label, as long as a local classifier's rows are at the device that makes them."""
        module = self._module()
        module.load_state_dict(module.state_dict() | dict(weights))
        rows, of = torch.cat([bank.float() for bank in memories.values()]), torch.cat([*labels.values()])
        means = F.normalize(torch.zeros(number, rows.shape[1]).index_add_(0, of, F.normalize(rows, dim=1)), dim=1)
        hub = next(data for data in self.devices.values() if data.num_tracklets)
        length = float(device_embeddings(module, hub).norm(dim=1).mean())
        return means * float(module.hparams["memory_scale"]) / length

    def _module(self, **arguments: Any) -> TrackletReID:
        statistics = "frozen" if self.options.statistics == "frozen" else "walk"
        rates = {"lr": self.options.lr, "walking_lr_factor": self.options.walking_lr_factor}
        module = self.make(statistics=statistics, **rates, **arguments)
        own = module.state_dict()
        wrong = [name for name, tensor in self.start.items() if name not in own or own[name].shape != tensor.shape]
        if wrong:
            raise ValueError(f"the weights to start from are of another network: {wrong[0]} is not in it, or of another shape")
        module.load_state_dict(own | self.start)
        return module

    def _walked(
        self,
        name: str,
        stage: int,
        members: Mapping[str, DeviceDataModule],
        modules: Mapping[str, TrackletReID],
        weights: Mapping[str, Tensor],
        visits: int,
        *,
        embed: bool = False,
    ) -> dict[str, Tensor]:
        """The tensors of all that walked, after the last visit."""
        if not members:
            raise ValueError("no device has two tracklets: there is nothing to walk to")
        for module in modules.values():
            module.load_state_dict(module.state_dict() | dict(weights))
        clients = [Client(one, modules[one], data, [TrackletMemories(embed)]) for one, data in members.items()]
        first = next(iter(modules.values()))
        prefixes = (*first.walking_prefixes, CLASSIFIER) if first.hparams["num_labels"] is not None else first.walking_prefixes
        options = self.options
        images = {one.id: one.num_images for one in clients}
        strategy = RandomWalk(prefixes, visits, options.walk, options.seed, stage, num_images=images)
        federation = self._federation(strategy, clients, name)
        after = self.after_visit

        def visited(rounds_done: int) -> None:
            if after is not None:
                after(federation)

        state = federation.fit(visits * len(clients), visited)
        self._count_walk(federation, name)
        tensors = dict(state.tensors)
        if options.unify == "average":
            average = WeightedAverage()
            last = {one for done in federation.rounds[-len(clients) :] for one in done.report.used}
            for client in federation.clients:
                if client.id in last:
                    average.add({one: client.module.state_dict()[one].cpu() for one in tensors}, 1.0)
            tensors = average.result()
        found = {one: tensor for one, tensor in {**weights, **tensors}.items() if not one.startswith(CLASSIFIER)}
        return found | (self._averaged_statistics(found) if options.statistics == "averaged" else {})

    def _federation(self, strategy: FedPav, clients: Sequence[Client], name: str) -> Federation:
        told = {"epochs": self.options.epochs, "seed": self.options.seed, "resume": self.resume, "quiet": self.quiet}
        return Federation(strategy, clients, self.output / name, accelerator=self.accelerator, **told)

    def device_statistics(self, weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Each device's own running statistics of the middle under a model."""
        found = {}
        for name, data in self.devices.items():
            if not len(data.target_records):
                continue
            module = self._module()
            module.load_state_dict(module.state_dict() | dict(weights))
            batches = (batch["images"] for batch in data.target_dataloader())
            found[name] = measured_statistics(module, batches, module.walking_prefixes)
        return found

    def _averaged_statistics(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        measured = self.device_statistics(weights)
        size = sum(tensor.numel() * tensor.element_size() for tensor in next(iter(measured.values())).values())
        self._count("batch statistics", Bytes(2 * (len(measured) - 1) * size, 2 * len(measured) * size))
        return averaged_statistics((one, len(self.devices[name].target_records)) for name, one in measured.items())

    def _count_model_to_all(self, weights: Mapping[str, Tensor]) -> None:
        prefixes = self._module().walking_prefixes
        model = sum(tensor.numel() * tensor.element_size() for name, tensor in weights.items() if name.startswith(prefixes))
        self._count("model to all", Bytes((len(self.devices) - 1) * model, len(self.devices) * model))

    def _count_walk(self, federation: Federation, name: str) -> None:
        kinds = bytes_by_kind(federation.state.tensors)
        messages = sum(len(one.bytes_down) + len(one.report.bytes_up) for one in federation.rounds)
        arrived = sum(len(one.report.used) for one in federation.rounds)
        for kind, size in kinds.items():
            told = f"{kind}, {'stage 4' if name.startswith('incremental') else 'stage 2'}" if kind == "model" else kind
            if size:
                self._count(told, Bytes(max(arrived - 1, 0) * size, messages * size))

    def _count(self, kind: str, crossed: Bytes) -> None:
        before = self.bytes.get(kind, Bytes(0, 0))
        self.bytes[kind] = Bytes(before.direct + crossed.direct, before.hub + crossed.hub)


def _write(content: bytes, file: Path) -> None:
    file.write_bytes(content)


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
