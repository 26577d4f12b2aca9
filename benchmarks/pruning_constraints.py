"""Does CAIE pass two constraints by less than the loss alone? The networks, tasks and seeds of pruning_ordering.py.

    python benchmarks/pruning_constraints.py                       # 40 prunings, some 20 minutes of one core
    python benchmarks/pruning_constraints.py --part elsewhere      # 80
    python benchmarks/pruning_constraints.py --part "fewer than either leaves"
    python benchmarks/pruning_constraints.py --networks vgg --tasks retrieval

Pruning ends with the first step after which both constraints hold: half of the multiply-adds, and a share of the parameters. A step is 8
channels after 30 batches, the text's n. What lies below a constraint at the end was removed for the other one's sake, or by the last step.

Under the first constraint alone CAIE leaves 40 to 45 % of the VGG's parameters and 29 to 36 % of the ResNet's, the loss alone 34 to 40 and
14 to 17 %. In the first part the parameters are 40 % (VGG) or 20 % (ResNet), which CAIE left on seed 100 of an earlier protocol (5 batches
a step). That could favor it, and so "elsewhere" has the other shares of 20, 30 and 40 %; it was written down when the first part had been
seen. Of the ResNet the shares of both are above what the loss alone leaves by itself, and it has to pass them; so a third part has shares
below what either leaves, which was written down while the second ran, before its table was printed.

Primary comparison of each part: loss alone - CAIE, the share of the whole network that lies below a constraint, mean over networks, tasks
and constraints. Exploratory: the same of each constraint, mean over networks and tasks. How many end within a step, an earlier protocol's
measure, is counted too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from pruning_ordering import EPOCHS, METHODS, SGD, STEP, trained_network
from pruning_runs import Experiment, parse_networks_and_tasks, shared_settings
from read_back import row
from result_files import score_table, write_tables
from torch import Tensor

from lightning_reid.callbacks import CAIEPruning
from lightning_reid.recipes.workshop.seeds import seed_comparison

FLOPS = 0.5
PARTS: dict[str, dict[str, tuple[float, ...]]] = {
    "as CAIE left them": {"vgg": (0.4,), "resnet": (0.2,)},
    "elsewhere": {"vgg": (0.2, 0.3), "resnet": (0.3, 0.4)},
    "fewer than either leaves": {"vgg": (0.25,), "resnet": (0.1,)},
}
"""Shares of the parameters."""
RESOURCES = {"flops": "multiply-adds", "params": "parameters"}
COMPARED = ("CAIE", "loss alone")
PRIMARY = ("loss alone", "CAIE")
PAIRS = (PRIMARY, *((f"loss alone, {told}", f"CAIE, {told}") for told in RESOURCES.values()))
TOLD = {
    "benchmark": "pruning_constraints",
    "protocol": "The networks, tasks and seeds of pruning_ordering, pruned under two constraints: half of the multiply-adds, and {shares}"
    " of the parameters; 8 channels after every 30 batches, until both hold.",
}
Case = tuple[str, str, float]
"""Network, task, share of the parameters."""
Found = Mapping[Case, Mapping[int, Mapping[str, Mapping[str, Any]]]]


def constraints_of(params: float) -> dict[str, float]:
    """Both constraints."""
    return {"flops": FLOPS, "params": params}


def pruned(experiment: Experiment, weights: Mapping[str, Tensor], name: str, params: float) -> dict[str, Any]:
    """What is left of each resource after each step, as shares of the whole network."""
    pruning = CAIEPruning(constraints_of(params), importance=METHODS[name], **STEP)
    experiment.trainer(-1, [pruning]).fit(experiment.model(weights, **SGD), experiment.data)
    return {resource: [step[resource] for step in pruning.history] for resource in RESOURCES}


def run(case: Case, seed: int, output: Path) -> dict[str, dict[str, Any]]:
    """The prunings of a seed; what was run before is read back."""
    network, task, params = case
    folder = output / f"{network}-{task}-seed{seed}"
    settings = shared_settings(network) | {"epochs": EPOCHS, "sgd": SGD, "step": STEP, "constraints": constraints_of(params)}
    trained = cache(partial(trained_network, network, task, seed, output))

    def measured(name: str) -> dict[str, Any]:
        return pruned(*trained(), name, params)

    files = {name: folder / f"params-{params:g}-{name.replace(' ', '-')}.json" for name in COMPARED}
    return {name: row(file, partial(measured, name), settings | {"importance": METHODS[name]}) for name, file in files.items()}


def below(case: Case, left: Mapping[str, Any], resource: str) -> float:
    """The share of the whole network that lies below a constraint at the end."""
    return constraints_of(case[2])[resource] - float(left[resource][-1])


def step_of(left: Mapping[str, Any], resource: str) -> float:
    """The mean step, as a share of the whole network."""
    return (1 - float(left[resource][-1])) / len(left[resource])


def within_a_step(case: Case, seeds: Mapping[int, Mapping[str, Mapping[str, Any]]], name: str, resource: str) -> int:
    """Seeds that end no further below the constraint than the mean step is long."""
    return sum(below(case, rows[name], resource) <= step_of(rows[name], resource) for rows in seeds.values())


def scores(found: Found) -> dict[int, dict[str, float]]:
    """Seed to row to the mean share that lies below a constraint."""
    scored: dict[int, dict[str, float]] = {}
    for seed in next(iter(found.values())):
        of_resource = {
            f"{name}, {told}": mean(below(case, seeds[seed][name], resource) for case, seeds in found.items())
            for name, (resource, told) in product(COMPARED, RESOURCES.items())
        }
        of_all = {name: mean(of_resource[f"{name}, {told}"] for told in RESOURCES.values()) for name in COMPARED}
        scored[seed] = of_all | of_resource
    return scored


def table(found: Found) -> str:
    """A row a network, task and constraint: means over the seeds in points, and seeds within a step."""
    columns = [*COMPARED, *(f"a step of {name}" for name in COMPARED), *(f"{name} within a step" for name in COMPARED)]
    lines = ["| below its constraint, points | | " + " | ".join(columns) + " |", "|---|---|" + "---:|" * len(columns)]
    for (case, seeds), (resource, told) in product(found.items(), RESOURCES.items()):
        ends = [mean(100 * below(case, rows[name], resource) for rows in seeds.values()) for name in COMPARED]
        steps = [mean(100 * step_of(rows[name], resource) for rows in seeds.values()) for name in COMPARED]
        counts = [f"{within_a_step(case, seeds, name, resource)} of {len(seeds)}" for name in COMPARED]
        cells = [f"{value:.2f}" for value in (*ends, *steps)] + counts
        lines.append(f"| {case[0]}, {case[1]} | {told}, {100 * constraints_of(case[2])[resource]:.0f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def results(found: Found, part: str, commit: str) -> list[dict[str, Any]]:
    """Of the results file: the comparison, and the count."""
    cases = len(found) * len(next(iter(found.values()))) * len(RESOURCES)
    hours = sum(left["seconds"] for seeds in found.values() for rows in seeds.values() for left in rows.values()) / 3600
    told = {network: " or ".join(f"{100 * share:.0f} %" for share in shares) for network, shares in PARTS[part].items()}
    protocol = {"protocol": TOLD["protocol"].format(shares=f"{told['vgg']} (VGG) or {told['resnet']} (ResNet)")}
    compared = {"table": f"CAIE, two constraints, {part}", "unit": "points of the whole network below a constraint"}
    counted = {"table": f"CAIE, two constraints, {part}, within a step", "unit": f"cases of {cases}"}
    first = score_table(TOLD | protocol | compared, scores(found), PAIRS, PRIMARY, commit, hours)
    counts = {
        f"{name} within a step": sum(within_a_step(case, seeds, name, resource) for case, seeds in found.items() for resource in RESOURCES)
        for name in COMPARED
    }
    made = {key: first[key] for key in ("commit", "date", "hours", "machine")}
    return [first, TOLD | protocol | counted | made | {"figures": counts, "primary": None, "exploratory": []}]


def main(argv: list[str] | None = None) -> dict[Case, dict[int, dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="as CAIE left them", help="which shares of parameters (default: %(default)s)")
    arguments = parse_networks_and_tasks(parser, argv)
    found = {
        (network, task, params): {seed: run((network, task, params), seed, arguments.output) for seed in arguments.seeds}
        for network, task in product(arguments.networks, arguments.tasks)
        for params in PARTS[arguments.part][network]
    }
    print(table(found))
    if len(arguments.seeds) > 1:
        unit = "points below a constraint"
        print(f"\n{seed_comparison(scores(found), PAIRS, PRIMARY).replace('mAP', unit, 1)}")
    if arguments.results is not None:
        write_tables(arguments.results, results(found, arguments.part, arguments.commit))
    return found


if __name__ == "__main__":
    main()
