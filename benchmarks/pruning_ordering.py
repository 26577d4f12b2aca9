"""Does CAIE beat the loss impact alone? A small VGG and ResNet, two tasks, several seeds.

    python benchmarks/pruning_ordering.py                              # all rows, about an hour of one core
    python benchmarks/pruning_ordering.py --networks vgg --tasks retrieval --rows CAIE "loss alone"

All rows of a seed prune the same trained network to half its multiply-adds, 8 channels after every 30 batches (the text's n; its m = 25
would take a network of 300 to 400 channels down in a few steps), and fine-tune for 100 steps. A seed changes weights, draws and
augmentations. n is the text's; the other settings are those of an earlier protocol with 5 batches a step, looked for on seed 100 by the
same test images. Nothing is decided by images within a run.

Primary comparison: CAIE - loss alone, ResNet, mAP, after fine-tuning. All others are exploratory.

Two controls. "whole, trained as long" takes as many steps as CAIE's pruning and fine-tuning, and prunes nothing. "..., last five" trains
for the same 30 batches a step and estimates by the last five of them only (VGG, accuracy): whether what changes with n = 30 is the
estimate, or the training between the steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from pruning_runs import IMAGE, NETWORKS, TASKS, Experiment, HeldOutImages, generated_data, metric_of, read_row, row
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
CONTROLS_ON = ("vgg", "classification")
LONGER = "whole, trained as long"
PRUNED, TUNED = "right after pruning", "after fine-tuning"
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 1e-2, "weight_decay": 1e-4}
STEP = {"filters_per_step": 8, "batches_per_step": 30}
TOLD = {
    "benchmark": "pruning_ordering",
    "protocol": "Generated crops 48x24, 600 steps of training with Adam, pruned to half the multiply-adds with SGD at 1e-2, 8 channels"
    " after every 30 batches, 100 steps of fine-tuning. All rows of a seed prune the same network; nothing is decided by the images that"
    " are scored.",
}
TWO_CONSTRAINTS = {"vgg": {"flops": 0.5, "params": 0.4}, "resnet": {"flops": 0.5, "params": 0.2}}
"""Parameters as CAIE left them on seed 100 under the first constraint alone, so that neither of the two follows from the other."""
OVERSHOOT_STEP = {"filters_per_step": 8, "batches_per_step": 5}
OTHER_MEASURES = ("overshoot", "correlation")


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


def compared(experiment: Experiment, weights: Mapping[str, Tensor], name: str) -> dict[str, float]:
    """Scores at ``FLOPS`` left, before and after fine-tuning; what is left, and after how many steps."""
    pruning = (LastFive if name in CONTROLS else CAIEPruning)({"flops": FLOPS}, importance=(METHODS | CONTROLS)[name], **STEP)
    model = experiment.model(weights, **SGD)
    experiment.trainer(-1, [pruning]).fit(model, experiment.data)
    model.materialize(pruning.plan)
    found = {PRUNED: experiment.score(model)} | {key: pruning.history[-1][key] for key in ("flops", "params", "step")}
    return found | {TUNED: tuned(experiment, model)}


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


def overshoot(experiment: Experiment, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """By how much each of two constraints is passed, and the mean step in it; five batches a step."""
    found = {}
    for name in ("CAIE", "loss alone"):
        constraints = TWO_CONSTRAINTS[experiment.network]
        pruning = CAIEPruning(constraints, importance=METHODS[name], **OVERSHOOT_STEP)
        experiment.trainer(-1, [pruning]).fit(experiment.model(weights, **SGD), experiment.data)
        for resource, share in constraints.items():
            left = [1.0, *(step[resource] for step in pruning.history)]
            found[f"{name}, {resource} overshoot"] = share - left[-1]
            found[f"{name}, {resource} step"] = (1 - left[-1]) / (len(left) - 1)
    return found


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


def measured(experiment: Experiment, weights: Mapping[str, Tensor], name: str, steps: int) -> dict[str, float]:
    """One row; ``steps`` are those of CAIE's pruning."""
    if name == "whole":
        return unpruned(experiment, weights)
    if name == LONGER:
        return trained_as_long(experiment, weights, steps)
    if name in OTHER_MEASURES:
        return (overshoot if name == "overshoot" else rank_correlation)(experiment, weights)
    return compared(experiment, weights, name)


def run(network: str, task: str, seed: int, names: Sequence[str], output: Path, *, finished: bool = False) -> dict[str, dict[str, Any]]:
    """The rows of one network, task and seed; what was run before is read back, and with ``finished`` nothing is run."""
    names = ["whole", *(name for name in names if name not in CONTROLS or (network, task) == CONTROLS_ON)]
    folder = output / f"{network}-{task}-seed{seed}"
    files = {name: folder / f"{name.replace(', ', '-').replace(' ', '-')}.json" for name in names}
    if finished or all(file.is_file() for file in files.values()):
        return {name: read_row(file) for name, file in files.items() if file.is_file()}
    experiment = experiment_of(network, task, seed)
    weights = experiment.trained(output)
    found: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        steps = int(found.get("CAIE", {"step": 0})["step"]) * STEP["batches_per_step"]
        found[name] = row(file, partial(measured, experiment, weights, name, steps))
    return found


def of_all_seeds(found: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """The rows that every seed has."""
    return {
        seed: {name: one for name, one in rows.items() if all(name in other for other in found.values())} for seed, rows in found.items()
    }


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The paired differences that are shown."""
    wanted = [("CAIE", other) for other in (*list(METHODS)[1:], LONGER)] + [tuple(CONTROLS)]
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
    steps = {name: mean(rows[name]["step"] for rows in found.values()) for name in names if name not in ("whole", LONGER)}
    parts.append("steps of pruning: " + ", ".join(f"{name} {number:.1f}" for name, number in steps.items()))
    for name in OTHER_MEASURES:
        means = {key: mean(rows[name][key] for rows in found.values() if name in rows) for key in next(iter(found.values())).get(name, {})}
        if means:
            parts.append(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items()))
    return "\n\n".join(parts)


def summary(found: Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, Any]]]]) -> str:
    """One table of all networks and tasks: means, and paired differences with their 95 % intervals."""
    shown = [name for name in ("whole", LONGER, *METHODS, *CONTROLS) if any(name in next(iter(seeds.values())) for seeds in found.values())]
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
    rows = (*METHODS, *CONTROLS, LONGER)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="at least two for a report (default: 0 to 4)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which (default: all)")
    parser.add_argument(
        "--rows", nargs="+", choices=(*rows, *OTHER_MEASURES), default=list(rows), help="which (default: all but the last two)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/pruning_ordering"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--finished", action="store_true", help="run nothing: show the rows that all seeds have")
    arguments, _ = parse_options(parser, argv)
    if LONGER in arguments.rows and "CAIE" not in arguments.rows:
        parser.error(f"{LONGER!r} takes as many steps as CAIE does: add CAIE to the rows")
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
