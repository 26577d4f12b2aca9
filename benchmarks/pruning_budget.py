"""Is CAIE better than the loss alone at equal training? The networks, tasks and seeds of pruning_ordering.py.

    python benchmarks/pruning_budget.py        # 40 prunings, about half an hour of one core

On the ResNet CAIE comes to half of the multiply-adds in 21 steps and the loss alone in 30, and so CAIE's network trains less on the way.
Here all train for 1,200 batches, those of the pruning (ResNet: 630 and 900, VGG: 470 and 490) among them: what is left is trained on as
between the steps until it has seen so many, and then fine-tuned for 100 steps. Which one is better is asked of a given budget: who needs
fewer steps trains the small network for longer.

Primary comparison: CAIE - loss alone, ResNet, mAP, after fine-tuning. All others are exploratory. The protocol was written down when
"CAIE, trained as long as loss alone" of pruning_ordering.py had been seen, which equals the batches and trains only CAIE's network on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from pruning_ordering import METHODS, PRUNED, TUNED, compared, settings_of_rows, trained_network
from pruning_runs import metric_of, parse_networks_and_tasks
from read_back import row
from result_files import score_table, write_tables

from lightning_reid.recipes.workshop.seeds import seed_comparison

BATCHES = 1200
COMPARED = ("CAIE", "loss alone")
TRAINED = "trained on"
"""With the network that is left, before fine-tuning."""
PAIRS = tuple((f"CAIE, {when}", f"loss alone, {when}") for when in (TRAINED, TUNED))
TOLD = {
    "benchmark": "pruning_budget",
    "protocol": "The networks, tasks and seeds of pruning_ordering, half of the multiply-adds; each row trains for 1,200 batches, those of"
    " the pruning among them, and 100 steps of fine-tuning.",
}
Found = Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, Any]]]]


def run(network: str, task: str, seed: int, output: Path) -> dict[str, dict[str, Any]]:
    """The rows of a seed; what was run before is read back."""
    folder = output / f"{network}-{task}-seed{seed}"
    trained = cache(partial(trained_network, network, task, seed, output))

    def measured(name: str) -> dict[str, float]:
        found = compared(*trained(), name, BATCHES)
        if found["more"] == 0:
            raise ValueError(f"{name} took {BATCHES} batches or more to prune {network}, {task}, seed {seed}: there is no equal training")
        return found

    settings = settings_of_rows(network) | {"batches": BATCHES}
    return {
        name: row(
            folder / f"{BATCHES}-batches-{name.replace(' ', '-')}.json", partial(measured, name), settings | {"importance": METHODS[name]}
        )
        for name in COMPARED
    }


def scores(seeds: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[int, dict[str, float]]:
    """Seed to row to score, at both moments."""
    moments = {TRAINED: PRUNED, TUNED: TUNED}  # the first is measured where it was right after pruning
    return {
        seed: {f"{name}, {told}": rows[name][when] for name in COMPARED for told, when in moments.items()} for seed, rows in seeds.items()
    }


def results(found: Found, commit: str) -> list[dict[str, Any]]:
    """Of the results file: a table a network and task."""
    tables = []
    for (network, task), seeds in found.items():
        told = {"table": f"chapter 6 at equal training, {network}, {task}", "unit": f"points of {metric_of(task)}"}
        hours = sum(one["seconds"] for rows in seeds.values() for one in rows.values()) / 3600
        primary = PAIRS[1] if (network, task) == ("resnet", "retrieval") else None
        tables.append(score_table(TOLD | told, scores(seeds), PAIRS, primary, commit, hours))
    return tables


def main(argv: list[str] | None = None) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments = parse_networks_and_tasks(parser, argv)
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for network, task in product(arguments.networks, arguments.tasks):
        seeds = found[network, task] = {seed: run(network, task, seed, arguments.output) for seed in arguments.seeds}
        if len(seeds) > 1:
            told = seed_comparison(scores(seeds), PAIRS).replace("mAP", metric_of(task), 1)
            print(f"\n{network}, {task}\n\n{told}", flush=True)
    if arguments.results is not None:
        write_tables(arguments.results, results(found, arguments.commit))
    return found


if __name__ == "__main__":
    main()
