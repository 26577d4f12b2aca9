"""Does CAIE beat the loss impact alone? And where do CPO and uniform removal end? A small VGG and ResNet, two tasks, several seeds.

    python benchmarks/pruning_ordering.py                              # all, about forty minutes
    python benchmarks/pruning_ordering.py --networks vgg --tasks retrieval --seeds 0 1

Generated crops (``market-like``, 48x24), settings fixed before any of the seeds was run. A seed changes weights, draws and augmentations;
all methods of a seed prune the same trained network. Retrieval is mAP on the set's queries and gallery. Classification is the accuracy on
held-out images of 60 of the training identities, every fourth of each.

CPO and uniform removal stop by the drop on these very images, and end at different scores: their rows are no test of the drop, and no
comparison of what they remove.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import pytorch_lightning as pl
import torch
from scipy.stats import spearmanr
from timm.models import register_model
from torch import Tensor, nn
from torchvision.models.vgg import make_layers
from typing_extensions import override

from lightning_reid.callbacks import CAIEPruning, CPOPruning, FilterPruning
from lightning_reid.callbacks.caie_pruning import Importance
from lightning_reid.callbacks.cpo_pruning import SearchName
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.files import write_json
from lightning_reid.losses import label_smoothed_cross_entropy
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks.channels.groups import find_channel_groups
from lightning_reid.networks.channels.plan import ChannelMasks
from lightning_reid.pruning import batch_norm_score, loss_impact
from lightning_reid.recipes.workshop.seeds import seed_comparison
from lightning_reid.records import ImageRecord, ReIDDataset

IMAGE, P, K, STEPS_AN_EPOCH = (48, 24), 8, 4, 25
CLASSES = 60
NETWORKS: dict[str, dict[str, Any]] = {
    "vgg": {"backbone": "benchmark_vgg", "backbone_options": {"last_stride": 2}},
    "resnet": {"backbone": "resnet18", "backbone_options": {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}},
}
TASKS = ("classification", "retrieval")
METHODS: tuple[Importance, ...] = ("constraint-aware", "loss", "l1", "uniform")
PAIRS = tuple(("constraint-aware", other) for other in METHODS[1:])
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 1e-2, "weight_decay": 1e-4}
STEP = {"filters_per_step": 8, "batches_per_step": 5}
TWO_CONSTRAINTS = {"vgg": {"flops": 0.5, "params": 0.4}, "resnet": {"flops": 0.5, "params": 0.2}}
"""Parameters as CAIE left them on seed 100 under the first constraint alone, so that neither of the two follows from the other."""
EXPECTED_DROP = 0.02
RETRAIN_EPOCHS: dict[SearchName, int] = {"layer by layer": 1, "uniform": 4}
"""So that both take about as many in all."""


@dataclass(frozen=True)
class Protocol:
    """Epochs of training, and of fine-tuning, and the share of multiply-adds that is left."""

    epochs: int = 24
    tuning_epochs: int = 4
    flops: float = 0.5


class PlainVGG(nn.Module):
    """VGG's plan at a quarter of its channels and five convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = make_layers([16, "M", 32, "M", 64, 64, "M", 128, 128], batch_norm=True)

    def forward_features(self, images: Tensor) -> Tensor:
        """``[B, 128, H / 8, W / 8]``."""
        features: Tensor = self.features(images)
        return features


@register_model
def benchmark_vgg(pretrained: bool = False, **options: Any) -> nn.Module:
    """Under a name that timm knows, as a user's own network would be."""
    return PlainVGG()


class ImageClassifier(SupervisedReID):
    """Identities as classes, by cross-entropy alone."""

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = self.logits(self.embed_batch(batch))
        return label_smoothed_cross_entropy(logits, batch["pids"], self.hparams["label_smoothing"])

    @override
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        assert self.classifier is not None
        embeddings, asked = self.embed_batch(batch).embedding, batch["is_query"]
        right = self.classifier(embeddings).argmax(1) == batch["pids"] - 1
        stage = "test" if self.trainer.testing else "val"
        self.log(f"{stage}/accuracy", right[asked].double().mean(), batch_size=int(asked.sum()), on_epoch=True)
        return {"embeddings": embeddings, "indices": batch["indices"], "is_query": asked}

    @override
    def _log_scores(self, stage: str) -> None:
        """There is nothing to retrieve."""


class HeldOutImages(ImageReIDDataModule):
    """Training images of the first identities, every fourth of each held out; they are 1, 2... in the order of their pids."""

    @override
    def read(self) -> ReIDDataset:
        records = super().read().train
        number = {pid: place + 1 for place, pid in enumerate(sorted({record.pid for record in records})[:CLASSES])}
        seen: Counter[int] = Counter()
        train: list[ImageRecord] = []
        held_out: list[ImageRecord] = []
        for record in records:
            if record.pid not in number:
                continue
            seen[record.pid] += 1
            (held_out if seen[record.pid] % 4 == 0 else train).append(replace(record, pid=number[record.pid]))
        return ReIDDataset("held-out images", tuple(train), tuple(held_out[:-1]), tuple(held_out[-1:]))


class Experiment:
    """One network and task at one seed: trained once, then pruned by every method."""

    def __init__(self, network: str, task: str, seed: int, protocol: Protocol) -> None:
        self.network, self.seed, self.protocol = network, seed, protocol
        self.module_class = ImageClassifier if task == "classification" else SupervisedReID
        self.metric = "accuracy" if task == "classification" else "mAP"
        data_class = HeldOutImages if task == "classification" else ImageReIDDataModule
        options = {"crop_padding": 4, "erasing_probability": 0.0, "num_workers": 0, "eval_batch_size": 256, "val_identities": 0}
        self.data = data_class("market-like", image_size=IMAGE, p=P, k=K, seed=seed, **options)
        self.data.prepare_data()
        self.data.setup()

    def model(self, weights: Mapping[str, Tensor] | None = None, **options: Any) -> SupervisedReID:
        """The module, of random weights or of ``weights``."""
        torch.manual_seed(self.seed)
        arguments: dict[str, Any] = NETWORKS[self.network] | {"num_classes": self.data.num_classes} | options
        model = self.module_class(**arguments)
        if weights is not None:
            model.load_state_dict(weights)
        return model

    def trainer(self, epochs: int, callbacks: Sequence[pl.Callback] = (), *, validate_every: int | None = None) -> pl.Trainer:
        """For so many epochs of 25 steps."""
        pl.seed_everything(self.seed, verbose=False)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        batches: dict[str, Any] = {"limit_train_batches": STEPS_AN_EPOCH, "limit_val_batches": 1.0 if validate_every else 0}
        ours = {"num_sanity_val_steps": 0}
        batches["check_val_every_n_epoch"] = validate_every or 1
        return pl.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=list(callbacks), **quiet, **batches, **ours)

    def score(self, model: SupervisedReID) -> float:
        """Accuracy or mAP, in [0, 1]."""
        return float(self.trainer(1).test(model, self.data, verbose=False)[0][f"test/{self.metric}"])

    def train(self) -> dict[str, Tensor]:
        """Weights of the whole network."""
        steps = [self.protocol.epochs // 2, self.protocol.epochs * 3 // 4]
        model = self.model(optimizer="adam", lr=1e-3, milestones=steps)
        self.trainer(self.protocol.epochs).fit(model, self.data)
        return model.state_dict()

    def pruned(self, weights: Mapping[str, Tensor], pruning: FilterPruning, **options: Any) -> SupervisedReID:
        """The smaller module."""
        model = self.model(weights, **options)
        every = pruning.retrain_epochs if isinstance(pruning, CPOPruning) else None
        self.trainer(-1, [pruning], validate_every=every).fit(model, self.data)
        model.materialize(pruning.plan)
        return model

    def compare(self, weights: Mapping[str, Tensor], method: Importance) -> dict[str, float]:
        """Scores at ``flops`` left, before and after fine-tuning; what the last step took too much."""
        pruning = CAIEPruning({"flops": self.protocol.flops}, importance=method, **STEP)
        model = self.pruned(weights, pruning, **SGD)
        found = {"pruned": self.score(model)} | {name: pruning.history[-1][name] for name in ("flops", "params", "step")}
        model.hparams["milestones"] = [self.protocol.tuning_epochs // 2]
        self.trainer(self.protocol.tuning_epochs).fit(model, self.data)
        return found | {"tuned": self.score(model)}

    def overshoot(self, weights: Mapping[str, Tensor], method: Importance) -> dict[str, float]:
        """By how much each of two constraints is passed, and the mean step in it."""
        constraints = TWO_CONSTRAINTS[self.network]
        pruning = CAIEPruning(constraints, importance=method, **STEP)
        model = self.pruned(weights, pruning, **SGD)
        found = {"pruned": self.score(model)}
        for name, share in constraints.items():
            left = [1.0, *(row[name] for row in pruning.history)]
            found[f"{name} overshoot"] = share - left[-1]
            found[f"{name} step"] = (1 - left[-1]) / (len(left) - 1)
        return found

    def search(self, weights: Mapping[str, Tensor], name: SearchName) -> dict[str, float]:
        """What is left at a drop that was tolerable, and the drop; the few trials of uniform removal retrain longer."""
        whole, epochs = self.score(self.model(weights)), RETRAIN_EPOCHS[name]
        pruning = CPOPruning(EXPECTED_DROP, f"val/{self.metric}", epochs, whole, search=name)
        model = self.pruned(weights, pruning, optimizer="adam", lr=3e-4)
        kept = [row for row in pruning.history if row["verdict"] == "keep"]
        last = kept[-1] if kept else {"flops": 1.0, "params": 1.0, "drop": 0.0}
        drop = whole - self.score(model)
        return {"flops": last["flops"], "params": last["params"], "drop": drop, "epochs": float(epochs * len(pruning.history))}

    def rank_correlation(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Spearman's, between channels' impacts and the squared change of the loss when each is silenced; over all, and the lesser half."""
        model = self.model(weights).eval()
        assert model.classifier is not None
        trainer = self.trainer(1)
        self.data.trainer = trainer
        batches = [self.data.on_after_batch_transfer(batch, 0) for batch, _ in zip(self.data.train_dataloader(), range(4))]
        self.data.trainer = None
        images, pids = (torch.cat([batch[name] for batch in batches]) for name in ("images", "pids"))

        def loss() -> Tensor:
            assert model.classifier is not None
            return label_smoothed_cross_entropy(model.classifier(model.embed(images).embedding), pids, 0.1)

        groups = find_channel_groups(model.network, (1, 3, *IMAGE))
        whole = loss()
        whole.backward()
        norms = {gate.name: model.network.get_submodule(gate.name) for group in groups for gate in group.gates}
        scores = {name: batch_norm_score(norm.weight, norm.bias, norm.weight.grad, norm.bias.grad) for name, norm in norms.items()}
        impacts, changes = [], []
        masks = ChannelMasks(model.network, groups)
        for group in groups:
            impacts.append(loss_impact([scores[gate.name][gate.channels].sum(1) for gate in group.gates]))
            for channel in range(group.size):
                keep = torch.ones(group.size, dtype=torch.bool)
                keep[channel] = False
                masks.set({group.name: keep})
                with torch.no_grad():
                    changes.append(float(loss() - whole) ** 2)
            masks.set({group.name: torch.ones(group.size, dtype=torch.bool)})
        masks.stop()
        estimated, true = torch.cat(impacts).double(), torch.tensor(changes, dtype=torch.float64)
        low = estimated.argsort()[: len(estimated) // 2]
        return {"all": float(spearmanr(estimated, true)[0]), "smaller half": float(spearmanr(estimated[low], true[low])[0])}


def run(network: str, task: str, seed: int, output: Path, protocol: Protocol) -> dict[str, Any]:
    """All of one network, task and seed; what was run before is read back."""
    file = output / f"{network}-{task}-seed{seed}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    experiment = Experiment(network, task, seed, protocol)
    weights = experiment.train()
    found = {"whole": experiment.score(experiment.model(weights)), "correlation": experiment.rank_correlation(weights)}
    found["compare"] = {method: experiment.compare(weights, method) for method in METHODS}
    found["overshoot"] = {method: experiment.overshoot(weights, method) for method in METHODS[:2]}
    found["search"] = {name: experiment.search(weights, name) for name in RETRAIN_EPOCHS}
    output.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def report(found: Mapping[int, Mapping[str, Any]], metric: str, flops: float) -> str:
    """Tables of one network and task."""
    parts = []
    for name in ("pruned", "tuned"):
        scores = {seed: {"whole": one["whole"]} | {m: row[name] for m, row in one["compare"].items()} for seed, one in found.items()}
        parts.append(f"{name}: " + seed_comparison(scores, PAIRS).replace("mAP", metric, 1))
    left = {m: [one["compare"][m]["flops"] for one in found.values()] for m in METHODS}
    parts.append(f"multiply-adds left, of {flops:.0%}: " + ", ".join(f"{m} {100 * mean(x):.2f} %" for m, x in left.items()))
    for name in ("flops", "params"):
        over = {m: [one["overshoot"][m][f"{name} overshoot"] for one in found.values()] for m in METHODS[:2]}
        steps = [one["overshoot"][METHODS[0]][f"{name} step"] for one in found.values()]
        within = sum(passed <= step for passed, step in zip(over[METHODS[0]], steps))
        text = ", ".join(f"{m} {100 * mean(x):.2f}" for m, x in over.items())
        parts.append(f"overshoot in {name}, points: {text}; a step is {100 * mean(steps):.2f}; CAIE within one in {within} of {len(found)}")
    for name in RETRAIN_EPOCHS:
        rows = [one["search"][name] for one in found.values()]
        means = {key: mean(row[key] for row in rows) for key in rows[0]}
        parts.append(
            f"{name}: {100 * means['flops']:.1f} % of multiply-adds and {100 * means['params']:.1f} % of parameters left, drop"
            f" {100 * means['drop']:+.2f} on the images it decided by, {means['epochs']:.0f} epochs"
        )
    for name in ("all", "smaller half"):
        parts.append(f"rank correlation, {name}: {mean(one['correlation'][name] for one in found.values()):.2f}")
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="at least two for a report (default: 0 to 4)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which (default: all)")
    parser.add_argument("--epochs", type=int, default=Protocol.epochs, help="of training (default: %(default)s)")
    parser.add_argument("--tuning_epochs", type=int, default=Protocol.tuning_epochs, help="of fine-tuning (default: %(default)s)")
    parser.add_argument("--flops", type=float, default=Protocol.flops, help="share of multiply-adds left (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/pruning_ordering"), help="folder of the results (default: %(default)s)")
    arguments = parser.parse_args(argv)
    protocol = Protocol(arguments.epochs, arguments.tuning_epochs, arguments.flops)
    results: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for network, task in product(arguments.networks, arguments.tasks):
        found = {seed: run(network, task, seed, arguments.output, protocol) for seed in arguments.seeds}
        results[network, task] = found
        if len(found) > 1:
            print(f"\n{network}, {task}\n\n{report(found, 'accuracy' if task == 'classification' else 'mAP', protocol.flops)}")
    return results


if __name__ == "__main__":
    main()
