"""The two tables of the poster on FedUReID, for ``fedureid.py``: their rows, and how they are printed."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from types import MappingProxyType
from typing import Any, Literal

from lightning_reid.recipes.workshop.round_scores import print_rounds, told_with_unmatched
from lightning_reid.recipes.workshop.tables import per_cent, print_table

RowName = Literal["standalone", "baseline", "PC", "PE", "PC and PE", "PU", "all", "true labels"]
START, STANDALONE, BASELINE, ALL, TRUE_LABELS = "first network", "standalone", "baseline", "all", "true labels"
ROWS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        STANDALONE: {"clustering": False, "epoch": False, "update": True, "local_share": 1.0},
        BASELINE: {"clustering": False, "epoch": False, "update": False},
        "PC": {"clustering": True, "epoch": False, "update": False},
        "PE": {"clustering": False, "epoch": True, "update": False},
        "PC and PE": {"clustering": True, "epoch": True, "update": False},
        "PU": {"clustering": False, "epoch": False, "update": True},
        ALL: {"clustering": True, "epoch": True, "update": True},
        TRUE_LABELS: {"clustering": False, "epoch": False, "update": False},
    }
)
"""What each row tells ``Personalization``; clients that go on with their own models alone are in no federation.

``"true labels"`` is the baseline, of the same rounds and epochs, with the true identities in place of clusters: what the loss and the
training could come to if the clustering were right.
"""
FOUR_SCORES = ("R1", "R5", "R10", "mAP")

Found = Mapping[str, Mapping[str, Any]]
"""Rows by their names, as ``results.json`` has them."""


def print_found(found: Found, title: str) -> None:
    """All tables of a run."""
    print_rounds(curves(found), "mAP of the personal models, mean over the clients, per cent")
    agreement = curves(found, "V-measure by round")
    print_rounds(agreement, "V-measure of the clusters that a round trained on, mean over the clients, per cent")
    print_clusters(found)
    print_methods(found)
    print_rows(found, title)


def curves(found: Found, name: str = "mAP by round") -> dict[str, Mapping[int, float]]:
    """The federations by their rows, each a score by round; what was only tested is none."""
    return {row: one[name] for row, one in found.items() if name in one}


def print_rows(found: Found, title: str) -> None:
    """Rank-1 and mAP of each client by row, the means, and what was trained and sent."""
    first = next(iter(found.values()))["scores"]
    means = [{key: mean(scores[key] for scores in one["scores"].values()) for key in ("R1", "mAP")} for one in found.values()]
    cells: list[list[str] | None] = [[name, *(_cell(one["scores"][name]) for one in found.values())] for name in first]
    cells += [None, ["mean", *map(_cell, means)], ["local steps", *(f"{one['steps']:,}" for one in found.values())]]
    cells.append(["MB", *(f"{one['payload_bytes'] / 1e6:.2f}" for one in found.values())])
    caption = "R1 / mAP in per cent of each client's personal model; MB are one way, a client and round"
    print_table(title, ("client", *found), cells, caption=told_with_unmatched(caption, first))


def print_clusters(found: Found) -> None:
    """How good the clusters of each row were in the last round, and how many of a client's images the largest one held."""
    cells: list[list[str] | None] = []
    for row, one in found.items():
        latest = list(one.get("clusters by round", {}).values())[-1:]
        for numbers in latest:
            means = {name: mean(client[name] for client in numbers.values()) for name in next(iter(numbers.values()))}
            shares = [per_cent(means[name]) for name in ("v_measure", "homogeneity", "completeness", "largest_share")]
            cells.append([row, f"{means['clusters']:.0f}", f"{means['people']:.0f}", *shares])
    headings = ("row", "clusters", "people", "V-measure", "homogeneity", "completeness", "images in the largest")
    print_table("clusters of the last round against true identities, means over the clients; shares in per cent", headings, cells)


def print_methods(found: Found) -> None:
    """The poster's first table: four scores of each client, a row a method."""
    cells: list[list[str] | None] = []
    methods = [row for row in (STANDALONE, BASELINE, ALL) if row in found]
    for name in next(iter(found.values()))["scores"]:
        for row in methods:
            scores = found[row]["scores"][name]
            cells.append([name if row == methods[0] else "", row, *(per_cent(scores[score]) for score in FOUR_SCORES)])
        cells.append(None)
    print_table("every client's personal model, per cent", ("client", "method", *FOUR_SCORES), cells, names=2)


def _cell(scores: Mapping[str, float]) -> str:
    return f"{per_cent(scores['R1'])} / {per_cent(scores['mAP'])}"
