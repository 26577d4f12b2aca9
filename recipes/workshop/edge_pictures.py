"""Tables and pictures of devices that learn together."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor
from torchvision.io import encode_jpeg

from lightning_reid.callbacks.crop_sheet import NEUTRAL, WRONG, FramedCrop, draw_crop_sheet
from lightning_reid.clustering.graph_report import GraphReport
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federated.traffic import Bytes, Ledger
from lightning_reid.federation.edge_device import WALK
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.edge_style import LEAST_KEPT, StyleReport
from lightning_reid.files import read_json, write_atomically
from lightning_reid.recipes.workshop.tables import per_cent, print_table

logger = logging.getLogger(__name__)

_LARGEST, _STRIP = 8, 10


def print_options(options: EdgeOptions, style: str) -> None:
    """Print the options that are not the text's, as the table below them was made with them."""
    unlike = options.unlike_the_text() | ({} if style == "cyclegan" else {"style": (style, "cyclegan")})
    rows = [[name, str(here), str(told)] for name, (here, told) in unlike.items()]
    print_table("options that are not the text's", ("option", "here", "the text"), rows)


def print_graphs(name: str, graphs: Mapping[str, GraphReport], options: EdgeOptions) -> None:
    """Print what a graph came to, by the number of triangles that edges need."""
    headings = (
        "triangles",
        "labels",
        "isolated",
        "contradictions",
        "people",
        "edges",
        "right edges %",
        "pairs right %",
        "pairs found %",
        "F %",
    )
    rows = []
    for asked, graph in graphs.items():
        counts = (graph.labels, graph.isolated, graph.contradictions, graph.people, graph.edges)
        shares = (graph.right_edges, graph.precision, graph.recall, graph.f_score)
        rows.append([asked, *map(str, counts), *("-" if math.isnan(one) else per_cent(one) for one in shares)])
    told = "people and all to the right of them are from the true labels, which no device knows"
    print_table(f"{name}: labels across cameras, by {options.method}", headings, rows, caption=told)


def print_traffic(name: str, ledger: Ledger, images: int, averaging: int) -> None:
    """Print what crossed, in bytes of payload; and what all images would, and federated averaging for as many epochs as the walk."""
    rows: list[Sequence[str] | None] = [[kind, f"{size.direct:,}", f"{size.hub:,}"] for kind, size in ledger.totals().items()]
    rows += [None, ["all images, as stored", f"{images:,}", f"{images:,}"]]
    rows += [["federated averaging as long as the walk", "-", f"{averaging:,}"]]
    print_table(f"{name}: bytes that crossed", ("kind", "from device to device", "through a hub"), rows)


def stored_bytes(data: DeviceDataModule, addresses: Iterable[str] | None = None) -> int:
    """Bytes of a device's images, or of some: of their files, or as JPEG of quality 95 where they are drawn and lie in none."""
    asked = [record.path for record in data.target_records] if addresses is None else addresses
    return sum(file.stat().st_size if (file := Path(one)).is_file() else len(encode_jpeg(data.picture(one), quality=95)) for one in asked)


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


def draw_bytes(path: Path, crossed: Mapping[str, Bytes], images: int) -> None:
    """What crossed by kind, beside the bytes of all images."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    kinds = [*crossed]
    for shift, field, label in ((-0.2, "direct", "from device to device"), (0.2, "hub", "through a hub")):
        sizes = [getattr(crossed[kind], field) / 1e6 for kind in kinds]
        axes.barh([place + shift for place in range(len(kinds))], sizes, height=0.38, label=label)
    axes.axvline(images / 1e6, color="gray", linestyle="--", label="all images, as stored")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("MB in all")
    axes.legend(fontsize=8)
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))


def draw_walk(path: Path, folders: Sequence[Path]) -> None:
    """MAP along the walks of some folders, a point a visit, colored by device; nothing where visits were not scored."""
    points: list[tuple[str, float]] = []
    ends = []
    for file in (file for folder in folders for file in sorted(folder.glob("*/visits.json"), key=lambda one: one.parent.name != WALK)):
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
