"""Embeddings of a folder of person crops by a trained network, and the rank list of a query image.

Without --checkpoint by the network that comes with the library, trained on generated people alone. Takes checkpoints of lightning-reid,
ResNets and OSNets of torchreid, and ResNets of fast-reid. Leaves in --output: embeddings.npz (embeddings
[N, D] float32 of length 1, paths [N]), config.yaml (the options, for --config), and with --query neighbors.csv and rank_list.png.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.arguments import height_and_width
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.files import write_atomically
from lightning_reid.inference import EmbeddedImages, EmbeddingPass, draw_search, find_crops, nearest_images, write_embeddings
from lightning_reid.inference.search import print_neighbors, write_neighbors
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.shipped import DEFAULT, located, shipped_names


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="embed.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_argument(
        "--crops", type=str, nargs="+", help="image files, and folders with images at any depth: first.jpg second.PNG more/ night_*.jpg"
    )
    # paths are no YAML: a folder may be called null or [cam1]
    parser.add_argument(
        "--checkpoint",
        type=str,
        default=DEFAULT,
        help="weights: our last.ckpt or model folder, a ResNet or OSNet of torchreid, a ResNet of fast-reid, or the name of a network that"
        f" comes with the library: {', '.join(shipped_names())}",
    )
    parser.add_argument("--query", type=str, help="image file of the person to search for; it need not be among the crops")
    parser.add_argument("--top", type=PositiveInt, default=10, help="number of answers in the rank list")
    parser.add_argument("--output", type=str, default="runs/embed", help="folder for embeddings, table and picture")
    parser.add_argument(
        "--image_size",
        type=height_and_width,
        help="HEIGHTxWIDTH in pixels that images are resized to; by default as the checkpoint says, or 256x128 where it does not",
    )
    parser.add_class_arguments(EmbeddingPass, None, skip={"quiet", "image_size"})
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    return parser


def parse(argv: list[str] | None) -> tuple[ArgumentParser, Namespace]:
    parser = build_parser()
    cfg = parser.parse_args(argv)
    if not cfg.crops:
        parser.error("give --crops (a folder of person crops, or image files)")
    if cfg.query is not None and not Path(cfg.query).is_file():
        parser.error(f"--query must be one image file, there is none at {cfg.query}")
    return parser, cfg


def main(argv: list[str] | None = None) -> EmbeddedImages:
    parser, cfg = parse(argv)
    network = load_embedding_network(cfg.checkpoint)
    if cfg.checkpoint == DEFAULT:
        print(f"by {DEFAULT}, trained on generated people alone; what it is good for, and what not: {located(DEFAULT) / 'README.md'}")
    options, output = EmbeddingPass(**{field.name: cfg[field.name] for field in fields(EmbeddingPass)}), Path(cfg.output)
    cfg.image_size = options.size_for(network)
    options = replace(options, image_size=cfg.image_size)
    picture = output / "rank_list.png"
    # the picture of an earlier run is no crop, where the output lies among the crops
    crops = [path for path in find_crops(cfg.crops) if not (picture.exists() and Path(path).samefile(picture))]
    # a read-only folder is found now, not after the pass
    write_atomically(output / "config.yaml", lambda file: file.write_text(parser.dump(cfg), encoding="utf-8"))
    if cfg.query is not None:
        query = replace(options, unreadable="error", num_workers=0, quiet=True).run(network, [cfg.query])
    began = time.monotonic()
    images = options.run(network, crops)
    rate = len(crops) / (time.monotonic() - began)
    write_embeddings(output / "embeddings.npz", images)
    (number, length), (height, width) = images.embeddings.shape, cfg.image_size
    print(
        f"{number} embeddings of {length} numbers in {output / 'embeddings.npz'}; images resized to {height}x{width}, {rate:.0f} a second"
    )
    if cfg.query is not None:
        neighbors = nearest_images(cfg.query, query.embeddings[0], images, cfg.top)
        write_neighbors(output / "neighbors.csv", neighbors)
        write_atomically(picture, draw_search(cfg.query, neighbors).save)
        print_neighbors(cfg.query, neighbors)
        print(f"rank list in {picture} and {output / 'neighbors.csv'}")
    return images


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main()
    except CorruptImageError as error:  # of what was given; from Python it is raised
        sys.exit(f"embed.py: {error}")
