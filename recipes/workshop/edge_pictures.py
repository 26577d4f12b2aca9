"""Rows, tables and pictures of devices that learn together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from lightning_reid.callbacks.crop_sheet import NEUTRAL, WRONG, FramedCrop, draw_crop_sheet
from lightning_reid.clustering.graph_report import GraphReport
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federated.traffic import Bytes
from lightning_reid.federation.edge_style import LEAST_KEPT, StyleReport
from lightning_reid.files import read_json, write_atomically
from lightning_reid.recipes.workshop.tables import per_cent, print_table

logger = logging.getLogger(__name__)

EdgeRow = Literal[
    "walk",
    "style + walk",
    "walk + clustering",
    "style + walk + clustering",
    "federated averaging",
    "walk + clustering by components",
    "walk + clustering, average of the last lap",
]
ROWS: dict[EdgeRow, dict[str, Any]] = {
    "walk": {},
    "style + walk": {"style": True},
    "walk + clustering": {"labels": True},
    "style + walk + clustering": {"style": True, "labels": True},
    "federated averaging": {"average": True},
    "walk + clustering by components": {"labels": True, "edge": {"method": "components", "alpha": 1}},
    "walk + clustering, average of the last lap": {"labels": True, "edge": {"unify": "average"}},
}
"""The text's Table 1, and beside it what is ours."""
_LARGEST, _STRIP = 8, 10


def print_edges(name: str, graph: GraphReport) -> None:
    """Print what a graph came to."""
    headings = ("row", "labels", "isolated", "contradictions", "people", "edges", "right edges %", "pairs right %", "pairs found %", "F %")
    shares = (graph.right_edges, graph.precision, graph.recall, graph.f_score)
    counts = (graph.labels, graph.isolated, graph.contradictions, graph.people, graph.edges)
    print_table("labels across cameras", headings, [[name, *map(str, counts), *map(per_cent, shares)]])


def print_styles(told: Mapping[str, StyleReport]) -> None:
    """Print how near each device came to camera 1, and warn where people dissolve."""
    rows = [[name, f"{one.before:.3f}", f"{one.after:.3f}", per_cent(one.kept)] for name, one in told.items()]
    print_table("colors, and their distance to camera 1", ("device", "before", "after", "kept %"), rows)
    for name, one in told.items():
        if one.kept < LEAST_KEPT:
            logger.warning("%s: only %s %% of its translations are still nearest to their own tracklet", name, per_cent(one.kept))


def draw_labels(path: Path, devices: Mapping[str, DeviceDataModule], labels: Mapping[str, Tensor]) -> None:
    """The largest labels as strips, a picture a memory; red where a camera has another memory of that label already."""
    members: dict[int, list[tuple[str, int]]] = {}
    for name, of in labels.items():
        for tracklet, label in enumerate(of.tolist()):
            members.setdefault(label, []).append((name, tracklet))
    largest = sorted(members, key=lambda label: (-len(members[label]), label))[:_LARGEST]
    rows, names = [], []
    for label in largest:
        seen, strip = set[str](), []
        for name, tracklet in members[label][:_STRIP]:
            data = devices[name]
            first = int((data.tracklets == tracklet).nonzero()[0])
            strip.append(FramedCrop(f"{name}|{data.target_records[first].path}", WRONG if name in seen else NEUTRAL))
            seen.add(name)
        rows.append(strip)
        names.append(f"label {label}: {len(members[label])} memories of {len({name for name, _ in members[label]})} cameras")

    def opened(told: str) -> Image.Image:
        name, _, file = told.partition("|")
        return picture_of(devices[name], file)

    sheet = draw_crop_sheet(rows, [], names=names, open_crop=opened)
    write_atomically(path, lambda draft: sheet.save(draft, format="PNG"))


def picture_of(data: DeviceDataModule, file: str) -> Image.Image:
    """A crop of a device, whether it is a file or drawn."""
    return Image.fromarray(data.picture(file).permute(1, 2, 0).numpy())


def draw_styles(path: Path, before: Mapping[str, DeviceDataModule], after: Mapping[str, DeviceDataModule]) -> None:
    """Some pictures of each device as they were, and in the style of camera 1 below; the first row is camera 1's own."""
    rows, names = [], []
    pictures: dict[str, tuple[DeviceDataModule, str]] = {}
    for name, data in before.items():
        for told, shown in (("", data), (", translated", after[name])):
            if told and data is after[name]:
                continue
            step = max(1, len(data.target_records) // _STRIP)
            strip = [record.path for record in shown.target_records[::step][:_STRIP]]
            pictures |= {f"{name}{told}|{file}": (shown, file) for file in strip}
            rows.append([FramedCrop(f"{name}{told}|{file}", NEUTRAL) for file in strip])
            names.append(f"{name}{told}")
    sheet = draw_crop_sheet(rows, [], names=names, open_crop=lambda told: picture_of(*pictures[told]))
    write_atomically(path, lambda draft: sheet.save(draft, format="PNG"))


def draw_bytes(path: Path, crossed: Mapping[str, Bytes], devices: Sequence[DeviceDataModule]) -> None:
    """What crossed by kind, beside the bytes of all local images as they would be sent."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    kinds = [*crossed]
    for shift, field in ((-0.2, "direct"), (0.2, "hub")):
        sizes = [getattr(crossed[kind], field) / 1e6 for kind in kinds]
        label = "from device to device" if field == "direct" else "through a hub"
        axes.barh([place + shift for place in range(len(kinds))], sizes, height=0.38, label=label)
    images = sum(3 * data.image_size[0] * data.image_size[1] * data.num_images for data in devices) / 1e6
    axes.axvline(images, color="gray", linestyle="--", label="all images, as resized pixels")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("MB in all")
    axes.legend(fontsize=8)
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))


def draw_walk(path: Path, folder: Path) -> None:
    """MAP along the walks of a row, a point a visit, colored by device; nothing where visits were not scored."""
    points: list[tuple[str, float]] = []
    ends = []
    for file in sorted(folder.glob("*/visits.json"), key=lambda one: one.parent.name != "walk"):
        told = read_json(file, {"visits": dict}, way_on="remove it, and the curve begins anew")["visits"]
        points += [(str(told[number][0]), 100 * float(told[number][1])) for number in sorted(told, key=int)]
        ends.append(len(points))
    if not points:
        return
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(points) + 1), [score for _, score in points], color="lightgray", zorder=1)
    for device in sorted({name for name, _ in points}):
        mine = [(place, score) for place, (name, score) in enumerate(points, 1) if name == device]
        places, scores = zip(*mine, strict=True)
        axes.scatter(places, scores, s=18, label=device, zorder=2)
    for end in ends[:-1]:
        axes.axvline(end + 0.5, color="gray", linestyle="--")
    axes.set_xlabel("visits")
    axes.set_ylabel("mAP after the visit, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))
