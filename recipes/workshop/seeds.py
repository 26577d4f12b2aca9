"""Methods compared over seeds: every score, the means, and paired differences with their intervals, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_reid.recipes.workshop.comparisons import Pair, comparison_of_scores, corrected, p_cells


def seed_comparison(scores: Mapping[int, Mapping[str, float]], pairs: Sequence[Pair], primary: Pair | None = None) -> str:
    """Two tables in Markdown: the methods, and the paired differences.

    Args:
        scores: Seed to the score of every method, a fraction, shown in per cent; at least two seeds.
        pairs: Of methods, ``(better, worse)`` as one would have it; a pair with a method that was not run is left out.
        primary: The one of the pairs that the comparison is made for; all others are exploratory, and have a p-value with Holm's
            correction among themselves. ``None``: all are.

    Raises:
        ValueError: Fewer than two seeds, a score that is no fraction or that a seed lacks, or a primary comparison that is none of the
            pairs.
    """
    if primary is not None and primary not in pairs:
        raise ValueError(f"the primary comparison {' - '.join(primary)} is none of the pairs")
    seeds = sorted(scores)
    rows = sorted({name for one in scores.values() for name in one})
    lacking = [f"seed {seed} has no {name!r}" for seed in seeds for name in rows if name not in scores[seed]]
    outside = [f"{name!r} of seed {seed} is {value}" for seed in seeds for name, value in scores[seed].items() if not 0 <= value <= 1]
    if lacking or outside:
        raise ValueError(f"every seed has a fraction in [0, 1] of every method, got: {'; '.join(lacking + outside)}")
    column = {name: [scores[seed][name] for seed in seeds] for name in scores[seeds[0]]}
    lines = [
        f"mAP in per cent over seeds {seeds}",
        "",
        "| method | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean |",
        "|---|" + "---:|" * (len(seeds) + 1),
    ]
    for name, values in column.items():
        cells = [f"{100 * value:.1f}" for value in [*values, sum(values) / len(values)]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ran = [pair for pair in pairs if set(pair) <= set(column)]
    lines += [
        "",
        "| paired difference | mean | 95 % interval | above zero | p | p, Holm |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for one in corrected([comparison_of_scores(pair, column) for pair in ran], primary if primary in ran else None):
        figures = f"{100 * one.mean:+.1f} | {100 * one.low:+.1f} to {100 * one.high:+.1f} | {'yes' if one.low > 0 else 'no'}"
        lines.append(f"| {one.better} - {one.worse} | {figures} | {' | '.join(p_cells(one))} |")
    return "\n".join(lines)
