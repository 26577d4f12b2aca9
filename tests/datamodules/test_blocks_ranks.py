"""Batches from blocks are those from files on every rank, and a resumed run goes on with the batch that an unbroken one has next."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from lying_store import LyingFileSystem

from lightning_reid.datamodules import ImageReIDDataModule, VideoReIDDataModule
from lightning_reid.datamodules.blocks import BlockStore, PackedData, pack
from lightning_reid.datamodules.catalog import read_prepared, read_prepared_video
from lightning_reid.datamodules.generated import GeneratedTracklets

Make = Callable[..., ImageReIDDataModule | VideoReIDDataModule]
WAYS = {"in a folder": {}, "cached": {}, "in ranges": {"block_cache_gb": 0.0}}


@pytest.fixture(scope="module")
def sets(market_folder, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Of images and of tracklets: the files, and their blocks."""
    home = tmp_path_factory.mktemp("sets")
    people = GeneratedTracklets(num_train_pids=6, num_test_pids=3, num_distractors=0, frames=(3, 6), height=32, width=16)
    mars = people.write(home / "mars", progress=False)
    for name, dataset in (("images", read_prepared(str(market_folder), None)), ("tracklets", read_prepared_video(str(mars), None))):
        pack(dataset, BlockStore(str(home / name)), block_bytes=30_000, progress=False)
    return {"images": (str(market_folder), str(home / "images")), "tracklets": (str(mars), str(home / "tracklets"))}


@pytest.fixture(params=["images", "tracklets"])
def pair(request, sets, tmp_path) -> tuple[Make, Make]:
    """What makes a datamodule on files, and one on blocks."""
    files, blocks = sets[request.param]
    kind, options = (ImageReIDDataModule, {"p": 4}) if request.param == "images" else (VideoReIDDataModule, {"p": 2, "clip_length": 3})
    options |= {"k": 2, "image_size": (32, 16), "val_identities": 0, "num_workers": 0, "seed": 3}

    def on_blocks(way: str, **more) -> ImageReIDDataModule | VideoReIDDataModule:
        url = blocks if way == "in a folder" else f"lying://{blocks}"
        return kind(url, block_cache=str(tmp_path), **WAYS[way], **options | more)

    return lambda **more: kind(files, **options | more), on_blocks


def batches_of(data: ImageReIDDataModule | VideoReIDDataModule, rank: int = 0, world_size: int = 1, epoch: int = 0) -> list[dict]:
    data.setup("fit")
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, current_epoch=epoch)
    return [*data.train_dataloader(), *data.test_dataloader()]


def same(some: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one) for one, other in pairs)


@pytest.mark.parametrize("way", WAYS)
def test_both_ranks_have_the_batches_of_the_files(pair, way):
    on_files, on_blocks = pair
    ranks = [batches_of(on_blocks(way, p=2), rank, 2, epoch=1) for rank in range(2)]
    for rank, batches in enumerate(ranks):
        assert same(batches, batches_of(on_files(p=2), rank, 2, epoch=1))
    assert not same(*ranks)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_stops_after_step_three_goes_on_as_if_it_had_not(pair, way):
    on_files, on_blocks = pair
    files, blocks = on_files(p=1), on_blocks(way, p=1)
    for data in (files, blocks):
        data.setup("fit")
    unbroken, stopped = [*files.train_dataloader()], blocks.train_dataloader()
    assert len(unbroken) > 3
    batches = iter(stopped)
    first = [next(batches) for _ in range(3)]
    place = stopped.state_dict()
    again = on_blocks(way, p=1)
    again.setup("fit")
    resumed = again.train_dataloader()
    resumed.load_state_dict(place)
    assert same([*first, *resumed], unbroken)


def test_the_ways_are_those_that_they_say(sets, tmp_path):
    url = f"lying://{sets['images'][1]}"
    for told, kind in (({"cache": str(tmp_path)}, "whole"), ({"cache_gb": 0}, "range")):
        reader = PackedData(url, **told).pictures.reader
        LyingFileSystem.honest()
        reader.frames([0, 1])
        assert set(LyingFileSystem.asked) == {kind}
