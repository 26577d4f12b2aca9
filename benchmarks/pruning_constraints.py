"""Does CAIE pass two constraints by less than the loss alone? The networks, tasks and seeds of pruning_ordering.py.

    python benchmarks/pruning_constraints.py        # 40 prunings, some 20 minutes of one core
    python benchmarks/pruning_constraints.py --networks vgg --tasks retrieval

Pruning ends with the first step after which both constraints hold: half of the multiply-adds, and 40 % (VGG) or 20 % (ResNet) of the
parameters, which is what CAIE left on seed 100 of an earlier protocol under the first constraint alone, so that neither follows from the
other. A step is 8 channels after 30 batches, the text's n. What lies below a constraint at the end was removed for the other one's sake.

Primary comparison: loss alone - CAIE, the share of the whole network that lies below a constraint, mean over networks, tasks and
constraints. Exploratory: the same of each constraint, mean over networks and tasks. The text's words, "within a step", are counted too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from pruning_ordering import METHODS, SEEDS, SGD, STEP, settings_of_rows, trained_network
from pruning_runs import NETWORKS, TASKS, Experiment
from read_back import row
from result_files import parse_options, score_table, write_tables
from torch import Tensor

from lightning_reid.callbacks import CAIEPruning
from lightning_reid.recipes.workshop.seeds import seed_comparison

TWO_CONSTRAINTS = {"vgg": {"flops": 0.5, "params": 0.4}, "resnet": {"flops": 0.5, "params": 0.2}}
RESOURCES = {"flops": "multiply-adds", "params": "parameters"}
COMPARED = ("CAIE", "loss alone")
PRIMARY = ("loss alone", "CAIE")
PAIRS = (PRIMARY, *((f"loss alone, {told}", f"CAIE, {told}") for told in RESOURCES.values()))
TOLD = {
    "benchmark": "pruning_constraints",
    "protocol": "The networks, tasks and seeds of pruning_ordering, pruned under two constraints: half of the multiply-adds, and 40 % (VGG)"
    " or 20 % (ResNet) of the parameters; 8 channels after every 30 batches, until both hold.",
}
Found = Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, Any]]]]


def pruned(experiment: Experiment, weights: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """What is left of each resource after each step, as shares of the whole network."""
    pruning = CAIEPruning(TWO_CONSTRAINTS[experiment.network], importance=METHODS[name], **STEP)
    experiment.trainer(-1, [pruning]).fit(experiment.model(weights, **SGD), experiment.data)
    return {resource: [step[resource] for step in pruning.history] for resource in RESOURCES}


def run(network: str, task: str, seed: int, output: Path) -> dict[str, dict[str, Any]]:
    """The prunings of a seed; what was run before is read back."""
    folder, settings = output / f"{network}-{task}-seed{seed}", settings_of_rows() | {"constraints": TWO_CONSTRAINTS[network]}
    trained = cache(partial(trained_network, network, task, seed, output))
    return {
        name: row(folder / f"two-constraints-{name.replace(' ', '-')}.json", partial(lambda name: pruned(*trained(), name), name), settings)
        for name in COMPARED
    }


def below(network: str, left: Mapping[str, Any], resource: str) -> float:
    """The share of the whole network that lies below a constraint at the end."""
    return TWO_CONSTRAINTS[network][resource] - left[resource][-1]


def step_of(left: Mapping[str, Any], resource: str) -> float:
    """The mean step, as a share of the whole network."""
    return (1 - left[resource][-1]) / len(left[resource])


def scores(found: Found) -> dict[int, dict[str, float]]:
    """Seed to row to the mean share that lies below a constraint."""
    scored: dict[int, dict[str, float]] = {}
    for seed in next(iter(found.values())):
        of_resource = {
            f"{name}, {told}": mean(below(network, seeds[seed][name], resource) for (network, _), seeds in found.items())
            for name, (resource, told) in product(COMPARED, RESOURCES.items())
        }
        of_all = {name: mean(of_resource[f"{name}, {told}"] for told in RESOURCES.values()) for name in COMPARED}
        scored[seed] = of_all | of_resource
    return scored


def within_a_step(found: Found, name: str) -> int:
    """Cases, of a network, task, seed and constraint each, that end no further below the constraint than the mean step is long."""
    return sum(
        below(network, rows[name], resource) <= step_of(rows[name], resource)
        for (network, _), seeds in found.items()
        for rows in seeds.values()
        for resource in RESOURCES
    )


def table(found: Found) -> str:
    """A row a network, task and constraint: means over the seeds in points, and cases within a step."""
    columns = [*COMPARED, *(f"a step of {name}" for name in COMPARED), *(f"{name} within a step" for name in COMPARED)]
    lines = ["| below its constraint, points | | " + " | ".join(columns) + " |", "|---|---|" + "---:|" * len(columns)]
    for ((network, task), seeds), (resource, told) in product(found.items(), RESOURCES.items()):
        ends = [mean(100 * below(network, rows[name], resource) for rows in seeds.values()) for name in COMPARED]
        steps = [mean(100 * step_of(rows[name], resource) for rows in seeds.values()) for name in COMPARED]
        counts = [
            sum(below(network, rows[name], resource) <= step_of(rows[name], resource) for rows in seeds.values()) for name in COMPARED
        ]
        cells = [f"{value:.2f}" for value in (*ends, *steps)] + [f"{count} of {len(seeds)}" for count in counts]
        lines.append(f"| {network}, {task} | {told} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def results(found: Found, commit: str) -> list[dict[str, Any]]:
    """Of the results file: the comparison, and the count."""
    cases = len(found) * len(next(iter(found.values()))) * len(RESOURCES)
    hours = sum(left["seconds"] for seeds in found.values() for rows in seeds.values() for left in rows.values()) / 3600
    compared = {"table": "CAIE, two constraints", "unit": "points of the whole network below a constraint"}
    counted = {"table": "CAIE, two constraints, within a step", "unit": f"cases of {cases}"}
    first = score_table(TOLD | compared, scores(found), PAIRS, PRIMARY, commit, hours)
    figures = {f"{name} within a step": within_a_step(found, name) for name in COMPARED}
    made = {key: first[key] for key in ("commit", "date", "hours", "machine")}
    return [first, TOLD | counted | made | {"figures": figures, "primary": None, "exploratory": []}]


def main(argv: list[str] | None = None) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="at least two for a report (default: 0 to 4)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which (default: all)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/pruning_ordering"), help="folder of the runs and whole networks (default: %(default)s)"
    )
    arguments, _ = parse_options(parser, argv)
    found = {
        (network, task): {seed: run(network, task, seed, arguments.output) for seed in arguments.seeds}
        for network, task in product(arguments.networks, arguments.tasks)
    }
    print(table(found))
    if len(arguments.seeds) > 1:
        unit = "points below a constraint"
        print(f"\n{seed_comparison(scores(found), PAIRS, PRIMARY).replace('mAP', unit, 1)}")
    if arguments.results is not None:
        write_tables(arguments.results, results(found, arguments.commit))
    return found


if __name__ == "__main__":
    main()
