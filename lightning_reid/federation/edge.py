"""Unsupervised re-ID on the devices of several cameras: a walk, a graph of memories, and a walk by its labels.

Source: edge-device text, section 3. What it leaves open is decided where it is done; options whose default is not the text's say so.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lightning_reid.arguments import require_path, require_switch
from lightning_reid.clustering import global_labels
from lightning_reid.federated import FedPav, RandomWalk
from lightning_reid.federated.averaging import NamedTensors, WeightedAverage
from lightning_reid.federated.sharing import payload_bytes
from lightning_reid.federated.traffic import Ledger, bytes_by_kind
from lightning_reid.federation.edge_device import CLASSIFIER, LABELS, MEMORIES, WALK, Bank, LabelTask, digest, edge_module, write_tensors
from lightning_reid.federation.edge_folder import claim_folder
from lightning_reid.federation.edge_hub import EdgeHub
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.server import FederationServer
from lightning_reid.files import read_json, write_json
from lightning_reid.modules import TrackletReID
from lightning_reid.modules.classifier import new_classifier
from lightning_reid.networks.walking_statistics import averaged_statistics

logger = logging.getLogger(__name__)


class EdgeTraining:
    """All stages behind the style: what devices tell each other is counted, and nothing else crosses.

    Each step leaves a file in ``output``, and a run that was stopped goes on with ``resume`` and gives what an unbroken one gives.

    Args:
        hub: Reaches the devices.
        make: A fresh ``TrackletReID`` by its arguments; those of its network are the caller's.
        start: Tensors of the network (``network.`` and on) that all devices begin with; the front is installed on each.
        options: How they learn; the devices have the same.
        output: Folder.
        resume: Go on with what is in ``output``.
        quiet: Show no progress bars.
        after_visit: Called with a walk's federation after each visit; a stopped run may see one twice, and misses none.

    Attributes:
        ledger: What crossed, in bytes.

    Raises:
        ValueError: Fewer than two cameras with tracklets, an ``alpha`` that no edge between them can reach, start weights of another
            network, or a device has another front, or other options, than all others; or ``output`` holds another run.
        FileExistsError: ``output`` holds a run, and ``resume`` is not asked for.
    """

    def __init__(
        self,
        hub: EdgeHub,
        make: Callable[..., TrackletReID],
        start: NamedTensors,
        options: EdgeOptions,
        output: str | Path,
        *,
        resume: bool = False,
        quiet: bool = False,
        after_visit: Callable[[FederationServer], object] | None = None,
    ) -> None:
        require_path("output", output)
        require_switch("resume", resume)
        require_switch("quiet", quiet)
        options.check_cameras(sum(facts.num_tracklets > 0 for facts in hub.facts.values()))
        hub.check_options(options)
        self.hub, self.make, self.options, self.output = hub, make, options, Path(output)
        self.resume, self.quiet, self.after_visit = resume, quiet, after_visit
        self.start = {name: tensor.detach().cpu().clone() for name, tensor in start.items()}
        self.middle = edge_module(make, self.start, options).walking_prefixes
        front = digest({name: tensor for name, tensor in self.start.items() if not name.startswith(self.middle)})
        for name, facts in hub.facts.items():
            if facts.front != front:
                raise ValueError(f"{name} has another front of the network than the server: give all the same weights to start from")
        claim_folder(self.output, options, self.start, hub.facts, resume=resume)
        self.ledger = Ledger()

    def run(self) -> dict[str, Tensor]:
        """The tensors of the network that every device ends with."""
        weights = self.walk()
        for cycle in range(self.options.cycles):
            banks = self.memories(weights, cycle)
            weights = self.learn_labels(weights, banks, self.labels(banks, cycle), cycle)
        return self.unified(weights)

    def walk(self) -> dict[str, Tensor]:
        """The first walk: each device that has something to tell apart, by its own tracklets (section 3.2)."""
        return self._walked(WALK, 2, self._walking, self.start, self.options.visits)

    def averaged(self, rounds: int) -> dict[str, Tensor]:
        """In place of the first walk, as many rounds of federated averaging of the same middle: to compare with."""
        strategy = FedPav(self.middle)
        federation = self._federation(WALK, strategy, self._module_tensors(self.start), self._walking)
        state = federation.fit(rounds)
        self._count_visits(federation, "model, stage 2", walks=False)
        return self.start | state.tensors

    def memories(self, weights: NamedTensors, cycle: int = 0) -> dict[str, Bank]:
        """Each device's bank by the model that every device is given first; from files where they are."""
        found = {}
        files = {name: self.output / f"banks-{cycle}" / f"{name}.safetensors" for name in self.hub.facts}
        if not all(file.is_file() for file in files.values()):
            self._install(weights)
            for name, bank in self.hub.banks().items():
                write_tensors(files[name], {MEMORIES: bank.memories, "length": torch.tensor(bank.length, dtype=torch.float64)})
        for name, file in files.items():
            told = load_file(file)
            found[name] = Bank(told[MEMORIES], float(told["length"]))
        self._count_to_all("model to all", payload_bytes(self._middle_of(weights)))
        for name, bank in found.items():
            size = payload_bytes({MEMORIES: bank.memories})
            self.ledger.add_hub(MEMORIES, name, up=size)
            self.ledger.add_direct(MEMORIES, name, self._maker, size)
        return found

    def labels(self, banks: Mapping[str, Bank], cycle: int = 0) -> dict[str, Tensor]:
        """Labels across cameras of each device's tracklets, ``[num_tracklets]`` int64; from a file where it is."""
        file, options = self.output / f"labels-{cycle}.json", self.options
        if not file.is_file():
            labels = global_labels(*rows_of(banks), options.alpha, options.method, repeated=options.repeated)
            write_json(file, {LABELS: labels.tolist()})
        told = read_json(file, {LABELS: list}, way_on="remove it, and labels are made again")[LABELS]
        parts = torch.tensor(told, dtype=torch.int64).split([len(bank.memories) for bank in banks.values()])
        return dict(zip(banks, parts, strict=True))

    def learn_labels(
        self, weights: NamedTensors, banks: Mapping[str, Bank], labels: Mapping[str, Tensor], cycle: int = 0
    ) -> dict[str, Tensor]:
        """A walk that learns labels across cameras with a classifier that walks along (section 3.4)."""
        local = self.options.label_classifier == "local"  # of one label it has nothing to learn
        members = [one for one, facts in self.hub.facts.items() if facts.learns and (not local or len(labels[one].unique()) > 1)]
        number, name = int(torch.cat([*labels.values()]).max()) + 1, f"incremental-{cycle}"
        if number < 2 or not members:
            raise ValueError(
                f"no device has two labels across cameras to tell apart, of {number} in all (alpha={self.options.alpha},"
                f" method={self.options.method}): take a larger alpha, or 'one_per_camera'"
            )
        tensors, rows = dict(weights), None
        if local:
            rows = self._mean_memories(banks, labels, number)
        elif self.options.label_init == "memories":
            tensors[f"{CLASSIFIER}weight"] = self._mean_memories(banks, labels, number)
        else:
            torch.manual_seed(self.options.seed)
            tensors[f"{CLASSIFIER}weight"] = new_classifier(next(iter(banks.values())).memories.shape[1], number).weight.detach()
        tasks = {one: LabelTask(told.int(), number, None if rows is None else rows[told.unique()]) for one, told in labels.items()}
        self.hub.tell(name, tasks)
        for one, task in tasks.items():
            sent = {LABELS: payload_bytes({LABELS: task.labels}), "classifier": 0 if task.rows is None else payload_bytes({"": task.rows})}
            for kind, size in sent.items():
                self.ledger.add_hub(kind, one, down=size)
                self.ledger.add_direct(kind, self._maker, one, size)
        return self._walked(name, 4 + cycle, members, tensors, self.options.incremental_visits)

    def unified(self, weights: NamedTensors) -> dict[str, Tensor]:
        """Give every device the model of all (section 3.5), with averaged statistics where these are asked for."""
        self._install(weights)
        self._count_to_all("model to all", payload_bytes(self._middle_of(weights)))
        if self.options.statistics != "averaged":
            return dict(weights)
        measured = {name: told for name, told in self.hub.statistics().items() if told}
        averaged = averaged_statistics((told, self.hub.facts[name].num_images) for name, told in sorted(measured.items()))
        for name, told in measured.items():
            self.ledger.add_hub("batch statistics", name, up=payload_bytes(told))
            self.ledger.add_direct("batch statistics", name, self._maker, payload_bytes(told))
        self._count_to_all("batch statistics", payload_bytes(averaged), self._maker)
        self._install({**weights, **averaged}, only=averaged)
        return {**weights, **averaged}

    @property
    def _walking(self) -> list[str]:
        return [name for name, facts in self.hub.facts.items() if facts.walks]

    @property
    def _maker(self) -> str:
        """The device that would make the graph where there is no hub: the first that has memories."""
        return next(name for name, facts in self.hub.facts.items() if facts.num_tracklets)

    def _middle_of(self, weights: NamedTensors) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in weights.items() if name.startswith(self.middle)}

    def _module_tensors(self, tensors: NamedTensors) -> dict[str, Tensor]:
        return {**edge_module(self.make, self.start, self.options).state_dict(), **tensors}

    def _mean_memories(self, banks: Mapping[str, Bank], labels: Mapping[str, Tensor], number: int) -> Tensor:
        """``[C, D]``: the normalized mean memory of each label, so long that a feature of usual length has the usual logit at its own."""
        rows, of = rows_of(banks)[0], torch.cat([*labels.values()])
        means = F.normalize(torch.zeros(number, rows.shape[1]).index_add_(0, of, F.normalize(rows, dim=1)), dim=1)
        images = {name: self.hub.facts[name].num_images for name in banks}
        length = sum(images[name] * bank.length for name, bank in banks.items()) / sum(images.values())
        scale = float(edge_module(self.make, self.start, self.options).hparams["memory_scale"])
        return means * (scale / length)

    def _walked(self, walk: str, stage: int, members: Sequence[str], tensors: NamedTensors, visits: int) -> dict[str, Tensor]:
        """The network after the last visit, or the average of the last lap's."""
        if not members:
            raise ValueError("no device has two tracklets: there is nothing to walk to")
        options, images = self.options, {name: self.hub.facts[name].num_images for name in members}
        prefixes = (*self.middle, CLASSIFIER) if f"{CLASSIFIER}weight" in tensors else self.middle
        strategy = RandomWalk(prefixes, visits, options.walk, options.seed, stage, num_images=images)
        federation = self._federation(walk, strategy, self._module_tensors(tensors), members)
        rounds, lap = visits * len(members), self.output / walk / "last-lap"
        after = self.after_visit

        def visited(done: int) -> None:
            used = federation.rounds[-1].report.used
            place = done - federation.state.retried  # visits that make up for lost ones are beside the laps
            if options.unify == "average" and used and place > rounds - len(members):
                write_tensors(lap / f"{used[0]}.safetensors", self._middle_of(federation.state.tensors))
            if after is not None:
                after(federation)

        state = federation.fit(rounds, visited)
        self._count_visits(federation, "model, stage 2" if walk == WALK else "model, stage 4")
        middle = self._middle_of(state.tensors)
        if options.unify == "average":
            middle = self._average_of(lap, self.output / walk / "average.safetensors")
        return {**self.start, **middle}

    def _average_of(self, lap: Path, file: Path) -> dict[str, Tensor]:
        if not file.is_file():
            average = WeightedAverage()
            for one in sorted(lap.glob("*.safetensors")):
                average.add(load_file(one), 1.0)
            write_tensors(file, average.result())
        shutil.rmtree(lap, ignore_errors=True)
        return load_file(file)

    def _federation(self, walk: str, strategy: FedPav, tensors: NamedTensors, members: Sequence[str]) -> FederationServer:
        told = {"epochs": self.options.epochs, "seed": self.options.seed, "resume": self.resume, "quiet": self.quiet}
        federation = self.hub.federation(walk, strategy, tensors, members, self.output / walk, **told)
        if {one.report.round for one in federation.rounds} < {*range(federation.state.round)}:
            raise ValueError(
                f"{federation.rounds_file} does not tell all of the {federation.state.round} rounds that there were, so that what crossed"
                " cannot be counted: put it back, or begin anew in another folder"
            )
        return federation

    def _install(self, weights: NamedTensors, only: NamedTensors | None = None) -> None:
        """Install, and look that everybody has the same to the bit."""
        expected = digest({name: weights[name] for name in self.start})
        for name, found in self.hub.install(self._middle_of(weights) if only is None else only).items():
            if found != expected:
                raise RuntimeError(
                    f"{name} ended with another network than was sent: its folder was changed, or it began with other weights"
                )

    def _count_to_all(self, kind: str, size: int, sender: str | None = None) -> None:
        holder = self._maker if sender is None else sender
        for name in self.hub.facts:
            self.ledger.add_hub(kind, name, down=size)
            self.ledger.add_direct(kind, holder, name, size)

    def _count_visits(self, federation: FederationServer, model: str, *, walks: bool = True) -> None:
        sizes = bytes_by_kind(federation.state.tensors)
        holder: str | None = None
        for one in federation.rounds:
            for kind, size in zip((model, "classifier"), sizes.values(), strict=True):
                for name in (*one.bytes_down, *one.unanswered):
                    self.ledger.add_hub(kind, name, down=size)
                    begins = name if kind == model else self._maker  # everybody has the model, the classifier is where it was made
                    self.ledger.add_direct(kind, holder or begins, name, size if walks else 0)
                for name in one.report.bytes_up:
                    self.ledger.add_hub(kind, name, up=size)
            holder = one.report.used[0] if one.report.used else holder


def rows_of(banks: Mapping[str, Bank]) -> tuple[Tensor, Tensor]:
    """All memories ``[N, D]`` in float32, and the place ``[N]`` int64 of each one's camera."""
    rows = torch.cat([bank.memories.float() for bank in banks.values()])
    return rows, torch.cat([torch.full((len(bank.memories),), camera) for camera, bank in enumerate(banks.values())])
