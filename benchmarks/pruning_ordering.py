"""Does CAIE beat the loss impact alone? A small VGG and ResNet, two tasks, several seeds.

    python benchmarks/pruning_ordering.py                              # all rows, about an hour of one core
    python benchmarks/pruning_ordering.py --networks vgg --tasks retrieval --rows CAIE "loss alone"

All rows of a seed prune the same trained network to half its multiply-adds, 8 channels after every 30 batches (the text's n; its m = 25
would take a network of 300 to 400 channels down in a few steps), and fine-tune for 100 steps. A seed changes weights, draws and
augmentations. n is the text's; the other settings are those of an earlier protocol with 5 batches a step, looked for on seed 100 by the
same test images. Nothing is decided by images within a run.

Primary comparison: CAIE - loss alone, ResNet, mAP, after fine-tuning. All others are exploratory.

Controls. "whole, trained as long" takes as many steps as CAIE's pruning and fine-tuning, and prunes nothing. "..., last five" trains
for the same 30 batches a step and estimates by the last five of them only (VGG, accuracy): whether what changes with n = 30 is the
estimate, or the training between the steps. "CAIE, trained as long as loss alone" (ResNet, mAP) is trained on for the batches that the
loss alone took more of: whether it is those that it is behind by. It was added when the other rows had been seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from pruning_runs import IMAGE, NETWORKS, TASKS, Experiment, HeldOutImages, generated_data, metric_of, shared_settings
from read_back import row
from result_files import parse_options, score_table, write_tables
from scipy.stats import spearmanr
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks import CAIEPruning
from lightning_reid.callbacks.caie_pruning import Importance
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.losses import label_smoothed_cross_entropy
from lightning_reid.metrics import paired_difference_interval
from lightning_reid.networks.channels.groups import find_channel_groups
from lightning_reid.networks.channels.plan import ChannelMasks
from lightning_reid.pruning import batch_norm_score, loss_impact
from lightning_reid.recipes.workshop.seeds import seed_comparison

SEEDS = (0, 1, 2, 3, 4)
EPOCHS, TUNING_EPOCHS, FLOPS = 24, 4, 0.5
METHODS: dict[str, Importance] = {"CAIE": "constraint-aware", "loss alone": "loss", "L1": "l1", "uniform": "uniform"}
CONTROLS: dict[str, Importance] = {"CAIE, last five": "constraint-aware", "loss alone, last five": "loss"}
LONGER, LONGER_CAIE = "whole, trained as long", "CAIE, trained as long as loss alone"
IMPORTANCE: dict[str, Importance] = METHODS | CONTROLS | {LONGER_CAIE: "constraint-aware"}
AS_LONG_AS = {LONGER: "CAIE", LONGER_CAIE: "loss alone"}
"""Rows that are trained for as many batches as the pruning of another one took."""
ONLY_ON = dict.fromkeys(CONTROLS, ("vgg", "classification")) | {LONGER_CAIE: ("resnet", "retrieval")}
"""Rows of one network and task."""
PRUNED, TUNED = "right after pruning", "after fine-tuning"
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 1e-2, "weight_decay": 1e-4}
STEP = {"filters_per_step": 8, "batches_per_step": 30}
TOLD = {
    "benchmark": "pruning_ordering",
    "protocol": "Generated crops 48x24, 600 steps of training with Adam, pruned to half the multiply-adds with SGD at 1e-2, 8 channels"
    " after every 30 batches, 100 steps of fine-tuning. All rows of a seed prune the same network; nothing is decided by the images that"
    " are scored. 'CAIE, trained as long as loss alone' was added when the other rows had been seen (bc912cd).",
}
OTHER_MEASURES = ("correlation",)


class LastFive(CAIEPruning):
    """Trains for all batches of a step, and forgets the impacts of all but the last five."""

    @override
    def on_before_optimizer_step(self, *arguments: Any) -> None:
        if self.running.num_batches == self.batches_per_step - 5:
            self.running.values = {}
        super().on_before_optimizer_step(*arguments)


def experiment_of(network: str, task: str, seed: int) -> Experiment:
    """Trained on all identities, or on three images of four of the first 60."""
    return Experiment(network, task, seed, EPOCHS, generated_data(HeldOutImages if task == "classification" else ImageReIDDataModule, seed))


def compared(experiment: Experiment, weights: Mapping[str, Tensor], name: str, batches: int | None = None) -> dict[str, float]:
    """Scores at ``FLOPS`` left, before and after fine-tuning; what is left, and after how many steps.

    With ``batches`` what is left is trained on as it was between the steps, until it has seen so many.
    """
    pruning = (LastFive if name in CONTROLS else CAIEPruning)({"flops": FLOPS}, importance=IMPORTANCE[name], **STEP)
    model = experiment.model(weights, **SGD)
    experiment.trainer(-1, [pruning]).fit(model, experiment.data)
    model.materialize(pruning.plan)
    found = {key: pruning.history[-1][key] for key in ("flops", "params", "step")}
    more = 0 if batches is None else batches - batches_of(found)
    if more > 0:
        experiment.trainer(steps=more).fit(model, experiment.data)
    return found | {"more": max(more, 0), PRUNED: experiment.score(model), TUNED: tuned(experiment, model)}


def batches_of(pruned: Mapping[str, float]) -> int:
    """That were trained with while a row was pruned."""
    return int(pruned["step"]) * STEP["batches_per_step"]


def unpruned(experiment: Experiment, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """The score that pruning starts from."""
    return dict.fromkeys((PRUNED, TUNED), experiment.score(experiment.model(weights)))


def tuned(experiment: Experiment, model: Any) -> float:
    """The score after fine-tuning, at a tenth of the learning rate from its middle on."""
    model.hparams["milestones"] = [TUNING_EPOCHS // 2]
    experiment.trainer(TUNING_EPOCHS).fit(model, experiment.data)
    return experiment.score(model)


def trained_as_long(experiment: Experiment, weights: Mapping[str, Tensor], steps: int) -> dict[str, float]:
    """The whole network after ``steps`` of what pruning trains with, and after fine-tuning."""
    model = experiment.model(weights, **SGD)
    experiment.trainer(steps=steps).fit(model, experiment.data)
    found = {PRUNED: experiment.score(model), "flops": 1.0}
    return found | {TUNED: tuned(experiment, model)}


def rank_correlation(experiment: Experiment, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Spearman's, between channels' impacts and the squared change of the loss when each is silenced; over all, and the lesser half."""
    model, data = experiment.model(weights).eval(), experiment.data
    data.trainer = experiment.trainer(1)
    batches = [data.on_after_batch_transfer(batch, 0) for batch, _ in zip(data.train_dataloader(), range(4))]
    data.trainer = None
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


def measured(experiment: Experiment, weights: Mapping[str, Tensor], name: str, batches: int | None) -> dict[str, float]:
    """One row; ``batches`` are those of the row that it is trained as long as."""
    if name == "whole":
        return unpruned(experiment, weights)
    if name == LONGER:
        assert batches is not None
        return trained_as_long(experiment, weights, batches)
    if name in OTHER_MEASURES:
        return rank_correlation(experiment, weights)
    return compared(experiment, weights, name, batches)


def settings_of_rows(network: str) -> dict[str, Any]:
    """By which all rows of a network are measured."""
    told = {"epochs": EPOCHS, "tuning_epochs": TUNING_EPOCHS, "flops": FLOPS, "step": STEP, "sgd": SGD}
    return shared_settings(network) | told


def run(network: str, task: str, seed: int, names: Sequence[str], output: Path, *, finished: bool = False) -> dict[str, dict[str, Any]]:
    """The rows of one network, task and seed; what was run before is read back, and with ``finished`` nothing is run.

    Rows that are trained as long as another one come last, and with ``finished`` they are left out where that one has not been run.
    """
    folder = output / f"{network}-{task}-seed{seed}"
    trained = cache(partial(trained_network, network, task, seed, output))
    found: dict[str, dict[str, Any]] = {}

    def measure(name: str, batches: int | None) -> dict[str, float]:
        return measured(*trained(), name, batches)

    asked = [name for name in names if ONLY_ON.get(name, (network, task)) == (network, task)]
    for name in ["whole", *sorted(asked, key=lambda name: name in AS_LONG_AS)]:
        settings, batches = settings_of_rows(network) | {"importance": IMPORTANCE.get(name)}, None
        if name in AS_LONG_AS:
            if finished and AS_LONG_AS[name] not in found:
                continue
            batches = batches_of(found[AS_LONG_AS[name]])
            settings |= {"batches": batches}
        file = folder / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        if file.is_file() or not finished:
            found[name] = row(file, partial(measure, name, batches), settings)
    return found


def trained_network(network: str, task: str, seed: int, output: Path) -> tuple[Experiment, dict[str, Tensor]]:
    """The experiment, and the weights of its whole network."""
    experiment = experiment_of(network, task, seed)
    return experiment, experiment.trained(output)


def of_all_seeds(found: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """The rows that every seed has."""
    return {
        seed: {name: one for name, one in rows.items() if all(name in other for other in found.values())} for seed, rows in found.items()
    }


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The paired differences that are shown."""
    wanted = [("CAIE", other) for other in (*list(METHODS)[1:], LONGER)] + [
        tuple(CONTROLS),
        (LONGER_CAIE, "loss alone"),
        (LONGER_CAIE, "CAIE"),
    ]
    return [(one, other) for one, other in wanted if {one, other} <= set(names)]


def report(found: Mapping[int, Mapping[str, Mapping[str, Any]]], metric: str) -> str:
    """Tables of one network and task."""
    names = [name for name in next(iter(found.values())) if name not in OTHER_MEASURES]
    parts = []
    for when in (PRUNED, TUNED):
        scores = {seed: {name: rows[name][when] for name in names} for seed, rows in found.items()}
        parts.append(f"{when}: " + seed_comparison(scores, pairs(names)).replace("mAP", metric, 1))
    left = {name: [rows[name]["flops"] for rows in found.values()] for name in names if name != "whole"}
    parts.append(f"multiply-adds left, of {FLOPS:.0%}: " + ", ".join(f"{name} {100 * mean(x):.1f} %" for name, x in left.items()))
    steps = {name: mean(rows[name]["step"] for rows in found.values()) for name in names if name in IMPORTANCE}
    parts.append("steps of pruning: " + ", ".join(f"{name} {number:.1f}" for name, number in steps.items()))
    for name in OTHER_MEASURES:
        means = {key: mean(rows[name][key] for rows in found.values() if name in rows) for key in next(iter(found.values())).get(name, {})}
        if means:
            parts.append(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items()))
    return "\n\n".join(parts)


def summary(found: Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, Any]]]]) -> str:
    """One table of all networks and tasks: means, and paired differences with their 95 % intervals."""
    shown = [
        name
        for name in ("whole", LONGER, *METHODS, *CONTROLS, LONGER_CAIE)
        if any(name in next(iter(seeds.values())) for seeds in found.values())
    ]
    head = [*shown, *(f"{one} - {other}" for one, other in pairs(shown))]
    lines = ["| per cent, mean | | " + " | ".join(head) + " |", "|---|---|" + "---:|" * len(shown) + "---|" * (len(head) - len(shown))]
    for ((network, task), seeds), when in product(found.items(), (PRUNED, TUNED)):
        column = {
            name: torch.tensor([rows[name][when] for rows in seeds.values()]).double()
            for name in shown
            if name in next(iter(seeds.values()))
        }
        cells = [f"{100 * float(column[name].mean()):.1f}" if name in column else "" for name in shown]
        for one, other in pairs(shown):
            cells.append(difference(column[one], column[other]) if {one, other} <= set(column) else "")
        lines.append(f"| {network}, {metric_of(task)} | {when} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(one: Tensor, other: Tensor) -> str:
    """The mean paired difference in points, with its 95 % interval."""
    low, high = paired_difference_interval(one, other)
    return f"{100 * float((one - other).mean()):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def results(found: Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, Any]]]], commit: str) -> list[dict[str, Any]]:
    """Of the results file: a table for each network and task, the rows of both moments in it."""
    tables = []
    for (network, task), seeds in found.items():
        rows = [name for name in next(iter(seeds.values())) if name not in OTHER_MEASURES]
        scores = {seed: {f"{name}, {when}": one[name][when] for name in rows for when in (PRUNED, TUNED)} for seed, one in seeds.items()}
        hours = sum(one[name]["seconds"] for one in seeds.values() for name in rows) / 3600
        told = {"table": f"chapter 6 on a small {network}, {task}", "unit": f"points of {metric_of(task)}"}
        compared_rows = [(f"{one}, {when}", f"{other}, {when}") for when in (PRUNED, TUNED) for one, other in pairs(rows)]
        primary = (f"CAIE, {TUNED}", f"loss alone, {TUNED}") if (network, task) == ("resnet", "retrieval") else None
        tables.append(score_table(TOLD | told, scores, compared_rows, primary, commit, hours))
    return tables


def main(argv: list[str] | None = None) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = (*METHODS, *CONTROLS, *AS_LONG_AS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="at least two for a report (default: 0 to 4)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which (default: all)")
    parser.add_argument("--rows", nargs="+", choices=(*rows, *OTHER_MEASURES), default=list(rows), help="which (default: all but the last)")
    parser.add_argument("--output", type=Path, default=Path("runs/pruning_ordering"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--finished", action="store_true", help="run nothing: show the rows that all seeds have")
    arguments, _ = parse_options(parser, argv)
    for name, other in AS_LONG_AS.items():
        if name in arguments.rows and other not in arguments.rows:
            parser.error(f"{name!r} takes as many steps as {other} does: add {other!r} to the rows")
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for network, task in product(arguments.networks, arguments.tasks):
        every = [run(network, task, seed, arguments.rows, arguments.output, finished=arguments.finished) for seed in arguments.seeds]
        found[network, task] = of_all_seeds(dict(zip(arguments.seeds, every)))
        if not any(found[network, task].values()):
            del found[network, task]
        elif len(arguments.seeds) > 1:
            print(f"\n{network}, {task}\n\n{report(found[network, task], metric_of(task))}", flush=True)
    if len(arguments.seeds) > 1:
        print(f"\n{summary(found)}")
    if arguments.results is not None:
        write_tables(arguments.results, results(found, arguments.commit))
    return found


if __name__ == "__main__":
    main()
