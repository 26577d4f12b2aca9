"""What a run logged over its epochs: how its clusters fared, what it learned."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_reid.command_line.finished_run import Curve, FinishedRun
from lightning_reid.command_line.report_page.charts import line_chart
from lightning_reid.command_line.report_page.markup import Markup, tag
from lightning_reid.command_line.report_page.sections import section

CLUSTERS = {
    "cluster/num_clusters": ("Clusters", "clusters"),
    "cluster/noise_fraction": ("Images in no cluster", "share of the images"),
    "cluster/v_measure": ("Clusters against people: V-measure", "V-measure, 0 to 1"),
    "cluster/homogeneity": ("Homogeneity: a cluster is one person", "homogeneity, 0 to 1"),
    "cluster/completeness": ("Completeness: a person is one cluster", "completeness, 0 to 1"),
    "pbh/v_measure": ("After part-based homogeneity: V-measure", "V-measure, 0 to 1"),
    "icm/precision": ("Inter-camera pairs of one person", "share of the pairs"),
    "select/fraction": ("Images that are selected", "share of the images"),
    "select/precision": ("Selected labels that are right", "share of the labels"),
}
"""Logged values that tell of clusters, with title and unit; those that judge by true people are logged where these are known."""
NMI = "nmi"
LARGEST = 1e100
"""From here on a value counts as infinite, and has no place on an axis."""
LEARNED = {
    "train/loss": ("Training loss", "loss"),
    "val/mAP": ("mAP in validation", "mAP, 0 to 1"),
    "val/R1": ("Rank-1 in validation", "rank-1, 0 to 1"),
}


def training_sections(run: FinishedRun | None) -> list[Markup]:
    """Clusters over the epochs, and what was learned; of a network alone a sentence each."""
    clusters, learning = "Clusters over the epochs", "Learning over the epochs"
    if run is None:
        told = "A network alone tells nothing of its training: give the folder of its run."
        return [section("clusters", clusters, tag("p", told)), section("learning", learning, tag("p", told))]
    logged = {name: method.curves() for name, method in run.methods.items()}
    names = sorted({name for curves in logged.values() for name in curves if NMI in name.lower()})
    shown = CLUSTERS | {name: (f"Agreement with the people: {name}", "NMI, 0 to 1") for name in names}
    grouped = "Nothing was clustered: this run was supervised, or logged no clusters."
    told = (
        "One line a method; values are of the clustering that an epoch was trained with. V-measure, homogeneity, completeness, precision"
        " are judged by the true people, where the data tell them; nothing was trained on these."
    )
    return [
        _section("clusters", clusters, charts_of(shown, logged), told, grouped),
        _section(
            "learning", learning, charts_of(LEARNED, logged), "One line a method, the last value of each epoch.", "Nothing was logged."
        ),
    ]


def _section(name: str, title: str, charts: list[Markup], told: str, nothing: str) -> Markup:
    if not charts:
        return section(name, title, tag("p", nothing))
    return section(name, title, tag("p", told), tag("div", *charts, class_="charts"))


def charts_of(shown: Mapping[str, tuple[str, str]], logged: Mapping[str, Mapping[str, Curve]]) -> list[Markup]:
    """A chart of each value that any method has logged.

    Args:
        shown: Name of the value to title and unit.
        logged: Method to its curves by name.
    """
    charts = []
    for name, (title, unit) in shown.items():
        told = {method: curves[name] for method, curves in logged.items() if name in curves}
        lines = {method: drawable for method, curve in told.items() if (drawable := _drawable(curve))[0]}
        left_out = sum(len(curve[0]) for curve in told.values()) - sum(len(curve[0]) for curve in lines.values())
        noted = f"{title} ({left_out:,} values that are not finite are left out)" if left_out else title
        if lines:
            charts.append(line_chart(noted, "epoch", unit, lines, list(logged)))
        elif told:
            charts.append(tag("p", f"{title}: none of the {left_out:,} values is finite."))
    return charts


def _drawable(curve: Curve) -> Curve:
    """The points of a curve that have a place: a training that diverges logs NaN."""
    points = [(x, y) for x, y in zip(*curve) if abs(x) < LARGEST and abs(y) < LARGEST]  # NaN is smaller than nothing
    return [x for x, _ in points], [y for _, y in points]
