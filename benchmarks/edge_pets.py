"""The graph between cameras on real people: the zones of PETS 2009 S2.L1 as cameras of devices, a network with ImageNet weights.

    python benchmarks/edge_pets.py CROPS --extractor WEIGHTS

CROPS is a folder in the Market naming; every image of all its parts that shows a person is used, junk is not. WEIGHTS are a state dict of
timm's ``mobilenetv2_100``; nothing is trained. As on image sets throughout, all images of a person in a camera are one tracklet, so
that the true people are used once more than a camera could know: its own images of one person are put together.

Right edges are the share of mutual neighbors that are one person, before triangles are asked for. Pairs are of two memories; those that
share a label are counted against those that are one person. In per cent.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_reid.clustering import global_labels
from lightning_reid.clustering.camera_labels import LabelMethod
from lightning_reid.clustering.graph_report import GraphReport, graph_report
from lightning_reid.clustering.memories import MemoryKind, tracklet_memories
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.datamodules.readers import read_market_folder
from lightning_reid.federation.edge_device import device_embeddings, true_people
from lightning_reid.modules import TrackletReID
from lightning_reid.records import ReIDDataset

IMAGE_SIZE = (128, 64)
ALPHAS: tuple[int | Literal["auto"], ...] = (0, 1, 2, "auto")
Row = tuple[MemoryKind, bool, int | Literal["auto"], LabelMethod]


def devices_of(crops: Path) -> dict[int, DeviceDataModule]:
    """A device for each camera, with its images of people."""
    data = read_market_folder(crops)
    people = [record for _, records in data.splits() for record in records if record.pid > 0]
    found = {}
    for camid in sorted({record.camid for record in people}):
        own = tuple(record for record in people if record.camid == camid)
        device = DeviceDataModule(f"c{camid}", image_size=IMAGE_SIZE, num_workers=0)
        device.serve(ReIDDataset(f"c{camid}", own, data.query, data.gallery))
        found[camid] = device
    return found


def judged(devices: Mapping[int, DeviceDataModule], embeddings: Mapping[int, Tensor]) -> dict[Row, GraphReport]:
    """What each way to make memories and labels comes to."""
    camids = torch.cat([torch.full((device.num_tracklets,), camid) for camid, device in devices.items()])
    pids = torch.cat([true_people(device) for device in devices.values()])
    found = {}
    for kind, centered in product(get_args(MemoryKind), (False, True)):
        memories = torch.cat(
            [
                tracklet_memories(embeddings[camid], device.tracklets, device.num_tracklets, kind=kind, centered=centered)
                for camid, device in devices.items()
            ]
        )
        for alpha, method in product(ALPHAS, get_args(LabelMethod)):
            labels = global_labels(memories, camids, alpha, method)
            found[kind, centered, alpha, method] = graph_report(memories, camids, labels, pids)
    return found


def table(found: Mapping[Row, GraphReport]) -> str:
    lines = [
        "| memory | centered | edges | right | method | alpha | labels | people | contradictions | precision | recall | F |",
        "|---|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (kind, centered, alpha, method), one in found.items():
        shares = " | ".join(f"{100 * share:.1f}" for share in (one.precision, one.recall, one.f_score))
        edges = f"{one.edges} | {100 * one.right_edges:.1f}"
        counts = f"{one.labels} | {one.people} | {one.contradictions}"
        lines.append(f"| {kind} | {'yes' if centered else 'no'} | {edges} | {method} | {alpha} | {counts} | {shares} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> dict[Row, GraphReport]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path, help="folder in the Market naming")
    parser.add_argument("--extractor", help="state dict of timm's mobilenetv2_100; without, a network at random: does it run?")
    args = parser.parse_args(argv)
    devices = devices_of(args.crops)
    module = TrackletReID(backbone="mobilenetv2_100", weights=args.extractor)
    found = judged(devices, {camid: device_embeddings(module, device) for camid, device in devices.items()})
    sizes = ", ".join(f"camera {camid}: {device.num_tracklets} tracklets, {device.num_images} images" for camid, device in devices.items())
    print(f"{sizes}\n{table(found)}")
    return found


if __name__ == "__main__":
    main()
