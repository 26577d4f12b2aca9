"""What style transfer does to the pictures of devices: how near camera 1's colors come, who is still recognized, and the edges to camera 1.

    python benchmarks/edge_style.py --extractor mobilenetv2_100-imagenet.safetensors
    python benchmarks/edge_style.py --extractor FILE --devices 5 --steps 400 --ways statistics cyclegan

Six generated cameras, a device each; all but the first translate their pictures, by six numbers or by a CycleGAN that each learns. Nothing
of re-identification is trained. "Kept" are translations whose nearest memory among the device's originals is of their own tracklet. Edges
are mutual neighbors between the centered memories of a device and of camera 1; right are those that join one person. "Few steps" is a
generator that has hardly begun. Asked: distances fall by 90 % with statistics, and by half with about 400 steps of CycleGAN.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from lightning_reid.clustering import mutual_top1
from lightning_reid.clustering.memories import tracklet_memories
from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.federation import Client
from lightning_reid.federation.edge_device import device_embeddings, true_people
from lightning_reid.federation.edge_style import (
    StyleReport,
    Translate,
    by_cyclegan,
    by_statistics,
    shared_pictures,
    statistics_of,
    style_report,
    translated,
)
from lightning_reid.federation.local_training import score_client
from lightning_reid.modules import StyleTransfer, TrackletReID
from lightning_reid.recipes.workshop.edge_pictures import print_styles
from lightning_reid.records import ReIDDataset

WAYS = ("statistics", "cyclegan", "few steps")


class Row(NamedTuple):
    """A device's translation by one way."""

    device: str
    way: str
    steps: int
    seconds: float
    style: StyleReport
    right_before: float
    right_after: float


def devices_of(whole: ImageReIDDataModule) -> list[DeviceDataModule]:
    found = []
    for camid in sorted({record.camid for record in whole.dataset.train}):
        records = tuple(record for record in whole.dataset.train if record.camid == camid)
        found.append(device(f"camera {camid}", records, whole.image_size))
    return found


def device(name: str, records: tuple, image_size: tuple[int, int]) -> DeviceDataModule:
    data = DeviceDataModule(name, batch_size=32, image_size=image_size, num_workers=0)
    data.serve(ReIDDataset(name, records))
    return data


def right_edges(module: TrackletReID, first: DeviceDataModule, other: DeviceDataModule) -> float:
    """Share of the mutual neighbors of two devices that are one person."""
    banks = [
        tracklet_memories(device_embeddings(module, data), data.tracklets, data.num_tracklets, centered=True) for data in (first, other)
    ]
    people = torch.cat([true_people(first), true_people(other)])
    edges = mutual_top1(torch.cat(banks), torch.arange(2).repeat_interleave(torch.tensor([len(bank) for bank in banks])))
    return float((people[edges[:, 0]] == people[edges[:, 1]]).double().mean())


def learned(own: DeviceDataModule, first: DeviceDataModule, steps: int, folder: Path, args: argparse.Namespace) -> tuple[Translate, int]:
    """A CycleGAN's translation after about so many steps of batch 1, in whole passes; and how many they were."""
    epochs = max(1, round(steps / own.num_images))
    some = device(own.dataset_name, own.target_records[: steps // epochs], own.image_size)
    module = StyleTransfer(args.blocks, args.width, discriminator_width=args.width, epochs=epochs, decay_epochs=0, seed=args.seed)
    pictures = shared_pictures(first, 300, share_style_images=True, seed=args.seed)
    how = {"image_size": tuple(args.style_size), "accelerator": args.accelerator, "seed": args.seed, "quiet": True}
    return by_cyclegan(some, pictures, module, folder, **how), epochs * some.num_images


def measured(way: str, own: DeviceDataModule, first: DeviceDataModule, module: TrackletReID, folder: Path, args: argparse.Namespace) -> Row:
    style, began, steps = statistics_of(first), time.perf_counter(), 0
    if way == "statistics":
        translate = by_statistics(own, style)
    else:
        translate, steps = learned(own, first, args.few_steps if way == "few steps" else args.steps, folder / "cyclegan", args)
    after = translated(own, translate, folder / "pictures", num_workers=0)
    seconds = time.perf_counter() - began
    edges = [right_edges(module, first, data) for data in (own, after)]
    return Row(own.dataset_name, way, steps, seconds, style_report(module, own, after, style), *edges)


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractor", required=True, help="file of ImageNet weights of the backbone")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--dataset", default="generated-people,people=60,cameras=6")
    parser.add_argument("--image_size", type=int, nargs=2, default=(96, 48), help="height and width of crops, in pixels")
    parser.add_argument(
        "--style_size", type=int, nargs=2, default=(64, 32), help="height and width at which CycleGAN translates, in pixels"
    )
    parser.add_argument("--devices", type=int, default=1, help="translate so many, from camera 2 on")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--steps", type=int, default=400, help="of CycleGAN, about")
    parser.add_argument("--few_steps", type=int, default=20)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accelerator", default="cpu")
    args = parser.parse_args(argv)
    whole = ImageReIDDataModule(args.dataset, p=2, k=2, image_size=tuple(args.image_size), val_identities=0, num_workers=0, seed=args.seed)
    whole.setup()
    module = TrackletReID(backbone=args.backbone, weights=args.extractor)
    first, *others = devices_of(whole)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        mean_ap = score_client(Client("everybody", module, whole), args.accelerator, Path(folder))["mAP"]
        print(f"{args.dataset} at {args.image_size}, direct transfer of {args.backbone}: mAP {100 * mean_ap:.1f} %")
        for own in others[: args.devices]:
            for way in args.ways:
                rows.append(measured(way, own, first, module, Path(folder) / own.dataset_name / way, args))
        again = score_client(Client("everybody", module, whole), args.accelerator, Path(folder))["mAP"]
    print_styles({f"{row.device}, {row.way}": row.style for row in rows})
    print(f"direct transfer after all translations: mAP {100 * again:.1f} %")
    print("| device | by | steps | s | distance before | after | falls by % | kept % | right edges % | after |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        before, after = row.style.before, row.style.after
        shares = f"{100 * row.style.kept:.1f} | {100 * row.right_before:.1f} | {100 * row.right_after:.1f}"
        told = f"{row.steps or ''} | {row.seconds:.0f} | {before:.3f} | {after:.3f} | {100 * (1 - after / before):.0f}"
        print(f"| {row.device} | {row.way} | {told} | {shares} |")
    return rows


if __name__ == "__main__":
    main()
