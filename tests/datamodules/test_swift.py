"""Blocks in a real replicated store: OpenStack Swift in four zones of this machine, through its S3 API."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from swift_store import KEY, SECRET, SwiftStore

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.blocks import BlockStore, PackedData, StoreError, pack
from lightning_reid.datamodules.blocks.health import health
from lightning_reid.datamodules.catalog import read_prepared
from lightning_reid.recipes.workshop.stored_run import StoredRun

pytestmark = pytest.mark.slow
URL = "s3://people/market"


@pytest.fixture(scope="module")
def swift(tmp_path_factory) -> Iterator[SwiftStore]:
    store = SwiftStore(tmp_path_factory.mktemp("swift") / "swift")
    try:
        store.start()
        yield store
    finally:
        store.stop()


@pytest.fixture(scope="module")
def stored(swift, market_folder) -> SwiftStore:
    store = BlockStore(URL, swift.storage_options)
    store.make_bucket()
    pack(read_prepared(str(market_folder), None), store, block_bytes=30_000, progress=False)
    return swift


def epoch(data: ImageReIDDataModule, context: str | None = None) -> Iterator[dict[str, torch.Tensor]]:
    data.setup("fit")
    loader = data.train_dataloader()
    if context is not None:
        loader.multiprocessing_context = context
    yield from loader


def packed(stored: SwiftStore, tmp_path: Path, **options) -> ImageReIDDataModule:
    told = {"image_size": (32, 16), "p": 4, "k": 2, "val_identities": 0, "seed": 3, "num_workers": 0} | options
    return ImageReIDDataModule(URL, storage_options=stored.storage_options, block_cache=str(tmp_path / "cache"), **told)


def from_files(market_folder: Path) -> list[dict[str, torch.Tensor]]:
    return [*epoch(ImageReIDDataModule(str(market_folder), image_size=(32, 16), p=4, k=2, val_identities=0, seed=3, num_workers=0))]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(
    ("gigabytes", "num_workers", "context"),
    [(1.0, 0, None), (1.0, 2, "fork"), (0.0, 0, None), (0.0, 1, "spawn")],
    ids=["cached", "cached, forked workers", "in ranges", "in ranges, a spawned worker"],
)
def test_batches_are_those_of_the_files(stored, market_folder, tmp_path, gigabytes, num_workers, context):
    data = packed(stored, tmp_path, num_workers=num_workers, block_cache_gb=gigabytes)
    for one, other in zip(from_files(market_folder), epoch(data, context), strict=True):
        assert same(one, other)
    if not num_workers:
        counts, index = data.dataset.pictures.reader.counts.total(), data.dataset.pictures.reader.index
        assert counts.whole_reads == (len(index.blocks) if gigabytes else 0)
        assert counts.requests < counts.frames


def test_a_damaged_copy_that_is_read_first_gives_right_frames_and_is_made_anew(stored, market_folder):
    reader = PackedData(URL, stored.storage_options, cache_gb=0).pictures.reader
    expected = reader.frames(range(reader.index.num_frames))
    number, near = next(
        (number, copy)
        for number, block in enumerate(reader.index.blocks)
        for copy in stored.copies(block.md5)
        if "zone1" in copy.parts  # which is read first
    )
    block = reader.index.blocks[number]
    assert len(stored.copies(block.md5)) == 3
    content = bytearray(near.read_bytes())
    content[int(reader.index.frames["offset"][np.flatnonzero(reader.index.frames["block"] == number)[0]]) + 5] ^= 1
    near.write_bytes(content)  # in place: the object's metadata are attributes of the file
    again = PackedData(URL, stored.storage_options, cache_gb=0).pictures.reader
    assert again.frames(range(reader.index.num_frames)) == expected
    assert again.counts.total().wrong_reads > 0
    assert [*stored.home.glob("zone*/disk/quarantined/objects/*")]
    assert not near.exists()
    stored.replicate()
    assert len(stored.copies(block.md5)) == 3
    near.write_bytes(content)
    found = health(URL, stored.storage_options, progress=False)
    assert (found.is_whole, found.mended) == (True, [block.name])


def test_a_node_that_dies_within_an_epoch_changes_no_batch(stored, market_folder, tmp_path):
    expected, data = from_files(market_folder), packed(stored, tmp_path, block_cache_gb=0.0)
    batches = epoch(data)
    assert same(next(batches), expected[0])
    stored.stop_zone(1)
    try:
        for one, other in zip(expected[1:], batches, strict=True):
            assert same(one, other)
    finally:
        stored.start_zone(1)


def test_a_block_that_was_cut_short_is_named(stored, market_folder):
    store = BlockStore("s3://people/cut", stored.storage_options)
    report = pack(read_prepared(str(market_folder), None), store, block_bytes=30_000, progress=False)
    store.write("blocks/00000.zip", store.read("00000.zip")[:15_000])
    reader = PackedData(store.url, stored.storage_options, cache_gb=0).pictures.reader
    last = int(np.flatnonzero(report.index.frames["block"] == 0)[-1])
    with pytest.raises(StoreError, match=r"has a 00000\.zip that is shorter than it was packed: lightning-reid health"):
        reader.frames([last])
    assert health(store.url, stored.storage_options, progress=False).damaged == ["00000.zip"]


def test_a_run_that_is_kept_there_is_found_by_another_machine(stored, tmp_path, monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_ENDPOINT_URL", stored.endpoint)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    (tmp_path / "here").mkdir()
    run = StoredRun("s3://people/runs/one", tmp_path / "here")
    for epoch_number in range(2):
        (tmp_path / "here" / "last.ckpt").write_bytes(bytes([epoch_number]) * 100_000)
        assert run.push()
    StoredRun("s3://people/runs/one", tmp_path / "there").pull()
    assert (tmp_path / "there" / "last.ckpt").read_bytes() == (tmp_path / "here" / "last.ckpt").read_bytes()


def test_what_is_wrong_with_the_address_is_told_in_seconds(stored):
    options = stored.storage_options
    for url, told, words in (
        (URL, options | {"secret": "guessed"}, "refuses index.safetensors: look at the credentials"),
        ("s3://nobody/market", options, "has no index.safetensors: is the address right, bucket"),
        (URL, options | {"endpoint_url": "http://127.0.0.1:9"}, "Is the endpoint up"),
    ):
        began = time.monotonic()
        with pytest.raises(StoreError, match=words) as caught:
            PackedData(url, told)
        assert time.monotonic() - began < 30
        assert "guessed" not in str(caught.value)


def test_a_clock_that_is_off_is_told_of(stored, monkeypatch):
    ahead = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: ahead.replace(tzinfo=None))
    with pytest.raises(StoreError, match=r"refuses index\.safetensors: look at the credentials, and at the clock of this machine"):
        PackedData(URL, stored.storage_options)
