"""How good is CAIE's greedy choice? Toys of a few filters with random losses and freed resources, against the best of all subsets.

    python benchmarks/pruning_optimality.py

Losses and freed resources are drawn evenly from (0, 1), the goal is a share of the whole drawn evenly from 0.2 to 0.8. The text proves that
choosing by loss over freed resource is optimal; the proof neglects what the last filter frees too much.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

TOLERANCE = 1e-12


def greedy(order: Tensor, loss: Tensor, freed: Tensor, goal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of what is taken in an order ``[T, F]`` until ``goal`` ``[T]`` is freed; of all but its last filter; what all of it frees."""
    losses, frees = loss.gather(1, order).cumsum(1), freed.gather(1, order).cumsum(1)
    last = (frees < goal[:, None]).sum(1, keepdim=True).clamp(max=loss.shape[1] - 1)
    taken = losses.gather(1, last).squeeze(1)
    return taken, taken - loss.gather(1, order.gather(1, last)).squeeze(1), frees.gather(1, last).squeeze(1)


def best(loss: Tensor, freed: Tensor, goal: Tensor) -> Tensor:
    """``[T]``: the least loss of all subsets that free the goal."""
    filters = loss.shape[1]
    subsets = (torch.arange(2**filters)[:, None] >> torch.arange(filters) & 1).to(loss.dtype)
    reaches = freed @ subsets.T >= goal[:, None] - TOLERANCE
    return (loss @ subsets.T).masked_fill(~reaches, torch.inf).amin(1)


def toys(number: int, filters: int, seed: int = 0) -> dict[str, float]:
    """Shares of toys, in [0, 1], and mean ratios of losses."""
    generator = torch.Generator().manual_seed(seed)
    loss, freed = (torch.rand(number, filters, dtype=torch.float64, generator=generator) for _ in range(2))
    goal = freed.sum(1) * (0.2 + 0.6 * torch.rand(number, dtype=torch.float64, generator=generator))
    caie, but_last, frees = greedy((loss / freed).argsort(1), loss, freed, goal)
    alone, _, alone_frees = greedy(loss.argsort(1), loss, freed, goal)
    optimum, optimum_filled = best(loss, freed, goal), best(loss, freed, frees)
    loses = alone < caie - TOLERANCE
    return {
        "without its last filter at most the optimum": float((but_last <= optimum + TOLERANCE).double().mean()),
        "the optimum for what it freed": float(((caie - optimum_filled).abs() <= 1e-9).double().mean()),
        "the optimum for the goal": float((caie <= optimum + TOLERANCE).double().mean()),
        "loss alone is better": float(loses.double().mean()),
        "CAIE is better": float((caie < alone - TOLERANCE).double().mean()),
        "CAIE / loss alone where loss alone is better": float((caie / alone)[loses].mean()),
        "loss alone / CAIE where CAIE is better": float((alone / caie)[caie < alone - TOLERANCE].mean()),
        "CAIE / optimum": float((caie / optimum).mean()),
        "loss alone / optimum": float((alone / optimum).mean()),
        "CAIE's overshoot": float(((frees - goal) / freed.sum(1)).mean()),
        "loss alone's overshoot": float(((alone_frees - goal) / freed.sum(1)).mean()),
    }


def main(argv: list[str] | None = None) -> dict[int, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toys", type=int, default=5000, help="drawn for each number of filters")
    parser.add_argument("--filters", type=int, nargs="+", default=[4, 8, 12], help="of a toy, at most 16: all subsets are tried")
    arguments = parser.parse_args(argv)
    if not 2 <= min(arguments.filters) <= max(arguments.filters) <= 16:
        parser.error(f"--filters must lie in 2..16, got {arguments.filters}")
    found = {filters: toys(arguments.toys, filters) for filters in arguments.filters}
    print(f"| {arguments.toys} toys, filters each | " + " | ".join(map(str, found)) + " |")
    print("|---|" + "---:|" * len(found))
    for name in next(iter(found.values())):
        print(f"| {name} | " + " | ".join(f"{row[name]:.3f}" for row in found.values()) + " |")
    return found


if __name__ == "__main__":
    main()
