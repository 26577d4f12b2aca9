"""Methods compared over seeds: every score, the means, and paired differences with their intervals, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lightning_reid.metrics import paired_difference_interval


def seed_comparison(scores: Mapping[int, Mapping[str, float]], pairs: Sequence[tuple[str, str]]) -> str:
    """Two tables in Markdown: the methods, and the paired differences.

    Args:
        scores: Seed to the score of every method, a fraction, shown in per cent; at least two seeds.
        pairs: Of methods, ``(better, worse)`` as one would have it; a pair with a method that was not run is left out.

    Raises:
        ValueError: Fewer than two seeds, or a score that is not finite.
    """
    seeds = sorted(scores)
    column = {name: torch.tensor([scores[seed][name] for seed in seeds], dtype=torch.float64) for name in scores[seeds[0]]}
    lines = [
        f"mAP in per cent over seeds {seeds}",
        "",
        "| method | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean |",
        "|---|" + "---:|" * (len(seeds) + 1),
    ]
    for name, values in column.items():
        cells = [f"{100 * value:.1f}" for value in [*values.tolist(), float(values.mean())]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| paired difference | mean | 95 % interval | above zero |", "|---|---:|---:|---|"]
    for better, worse in pairs:
        if not {better, worse} <= set(column):
            continue
        low, high = paired_difference_interval(column[better], column[worse])
        mean = float((column[better] - column[worse]).mean())
        lines.append(f"| {better} - {worse} | {100 * mean:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} | {'yes' if low > 0 else 'no'} |")
    return "\n".join(lines)
