"""What the parts of the edge-device method take: Table 4 of its text, with ResNet-50 and MobileNetV2.

    python benchmarks/edge_runtime.py
    python benchmarks/edge_runtime.py --small       # at once, to see that it runs

Style transfer by CycleGAN's networks at 256x256, re-identification at 256x128 in mini-batches of 64; medians of 10 after 2 that warm up.
Training steps are those of a Trainer, from a batch that is there to the end of the optimizer's step. Weights are random: they change no
time. Memories are drawn: cameras, tracklets of each, and the network's width. Multiply-adds are those of one picture, and those of style
training are of one of its two generators, which see three batches each in a step.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.lightning_messages import say_each_thing_once
from lightning_reid.modules import StyleTransfer, TrackletReID
from lightning_reid.recipes.workshop.edge_times import TimedPart, print_parts, time_parts
from lightning_reid.records import ReIDDataset

SMALL = {
    "image_size": [64, 32],
    "style_size": [64, 32],
    "batch": 8,
    "width": 8,
    "blocks": 1,
    "repetitions": 1,
    "cameras": 3,
    "tracklets": 20,
}


def device_data(args: argparse.Namespace) -> DeviceDataModule:
    """Generated pictures of one camera, as many as a mini-batch has."""
    whole = ImageReIDDataModule("generated-people,people=60,cameras=2", val_identities=0, p=2, k=2, num_workers=0)
    whole.setup()
    records = [record for record in whole.dataset.train if record.camid == whole.dataset.train[0].camid]
    data = DeviceDataModule("camera 1", batch_size=args.batch, image_size=tuple(args.image_size), num_workers=0)
    data.serve(ReIDDataset("camera 1", tuple((records * args.batch)[: args.batch])))
    return data


def main(argv: list[str] | None = None) -> dict[str, list[TimedPart]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet50", "mobilenetv2_100"], help="names of timm's networks")
    parser.add_argument("--image_size", type=int, nargs=2, default=[256, 128], help="height and width of crops, in pixels")
    parser.add_argument("--style_size", type=int, nargs=2, default=[256, 256], help="height and width of translated pictures, in pixels")
    parser.add_argument("--batch", type=int, default=64, help="pictures of a mini-batch of re-identification")
    parser.add_argument("--width", type=int, default=64, help="channels after CycleGAN's first convolutions")
    parser.add_argument("--blocks", type=int, default=9, help="residual blocks of its generators")
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--tracklets", type=int, default=750, help="of each camera")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--small", action="store_true", help="the smallest sizes, whatever else is asked")
    args = parser.parse_args(argv)
    if args.small:
        args = argparse.Namespace(**(vars(args) | SMALL))
    say_each_thing_once()
    found = {}
    for backbone in args.backbones:
        module = TrackletReID(backbone=backbone, pretrained=False)
        transfer = StyleTransfer(args.blocks, args.width, discriminator_width=args.width)
        draw = torch.Generator().manual_seed(0)
        width = module.network.num_features
        banks = {f"camera {m}": F.normalize(torch.randn(args.tracklets, width, generator=draw), dim=1) for m in range(args.cameras)}
        with tempfile.TemporaryDirectory() as folder:
            sizes = {"style_size": tuple(args.style_size), "repetitions": args.repetitions}
            how = {"folder": Path(folder), "accelerator": args.accelerator}
            found[backbone] = time_parts(module, transfer, device_data(args), banks, **sizes, **how)
        print(backbone)
        print_parts(found[backbone], str(module.device))
    return found


if __name__ == "__main__":
    main()
