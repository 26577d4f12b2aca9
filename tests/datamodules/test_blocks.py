"""A data set in blocks: every frame is the one that was packed, or an error."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pytest
import pytorch_lightning as pl
from hypothesis import given
from hypothesis import strategies as st
from lying_store import LyingFileSystem

from lightning_reid.blocks import CorruptBlockError, ForeignIndexError, merged_ranges, parse_index
from lightning_reid.blocks.ranges import Span
from lightning_reid.callbacks import BlockAccessLogger
from lightning_reid.datamodules import (
    CrossDomainDataModule,
    FederatedData,
    ImageReIDDataModule,
    SemiSupervisedDataModule,
    UnlabeledDataModule,
    VideoReIDDataModule,
)
from lightning_reid.datamodules.blocks import BlockStore, PackedData, StoreError, pack
from lightning_reid.datamodules.blocks.addresses import row_of
from lightning_reid.datamodules.blocks.cache import BlockCache, digest_of
from lightning_reid.datamodules.blocks.health import health
from lightning_reid.datamodules.blocks.unpacking import unpack
from lightning_reid.datamodules.catalog import read_prepared, read_prepared_video
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.public_and_local import PublicAndLocalDataModule
from lightning_reid.datamodules.tested import read_test_part
from lightning_reid.evaluation import embed_test
from lightning_reid.inference import EmbeddingPass, load_network
from lightning_reid.modules import SupervisedReID

SMALL_BLOCKS = 40_000


@pytest.fixture(scope="module")
def mars(tmp_path_factory) -> Path:
    people = GeneratedTracklets(num_train_pids=4, num_test_pids=3, num_distractors=1, frames=(3, 6), height=32, width=16)
    return people.write(tmp_path_factory.mktemp("mars") / "mars", progress=False)


@pytest.fixture(scope="module")
def packed(market_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blocks") / "market"
    pack(read_prepared(str(market_folder), None), BlockStore(str(folder)), block_bytes=SMALL_BLOCKS, progress=False)
    return folder


@pytest.fixture(scope="module")
def packed_mars(mars, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blocks") / "mars"
    pack(read_prepared_video(str(mars), None), BlockStore(str(folder)), block_bytes=SMALL_BLOCKS, progress=False)
    return folder


@pytest.fixture(autouse=True)
def honest():
    LyingFileSystem.honest()


def blocks_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "blocks").iterdir())}


def test_every_frame_is_as_it_was_and_every_record_in_its_place(market_folder, packed, mars, packed_mars):
    there, here = read_prepared(str(market_folder), None), PackedData(str(packed))
    assert len(here.index.blocks) > 3
    for (_, before), (_, after) in zip(there.splits(), here.images().splits(), strict=True):
        assert [(one.pid, one.camid, one.frame) for one in before] == [(one.pid, one.camid, one.frame) for one in after]
        contents = here.pictures.reader.frames([row_of(one.path) for one in after])
        assert contents == [Path(one.path).read_bytes() for one in before]
    walks, packed_walks = read_prepared_video(str(mars), None), PackedData(str(packed_mars))
    for (_, before), (_, after) in zip(walks.splits(), packed_walks.tracklets().splits(), strict=True):
        for one, other in zip(before, after, strict=True):
            assert (one.pid, one.camid, one.frame, one.second_pid) == (other.pid, other.camid, other.frame, other.second_pid)
            contents = packed_walks.pictures.reader.frames([row_of(path) for path in other.paths])
            assert contents == [Path(path).read_bytes() for path in one.paths]


def test_a_block_is_a_zip_file_that_anybody_unpacks_and_holds_whole_tracklets(packed):
    index = PackedData(str(packed)).index
    names = []
    for block in index.blocks:
        with zipfile.ZipFile(packed / "blocks" / block.name) as archive:
            assert archive.testzip() is None
            assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
            names += archive.namelist()
    assert names == index.members(range(index.num_frames))
    of_tracklets = np.repeat(np.arange(index.num_tracklets), index.tracklets["count"])
    assert all(len({*index.frames["block"][of_tracklets == one].tolist()}) == 1 for one in range(index.num_tracklets))


def test_the_same_set_gives_the_same_bytes_wherever_it_lies_and_a_killed_packing_goes_on(market_folder, packed, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere" / market_folder.name
    moved.parent.mkdir()
    moved.symlink_to(market_folder, target_is_directory=True)
    store, writes = BlockStore(str(tmp_path / "again")), []
    honest_write = BlockStore.write

    def dies(self, name, content):
        if len(writes) == 2:
            raise KeyboardInterrupt
        writes.append(name)
        honest_write(self, name, content)

    monkeypatch.setattr(BlockStore, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        pack(read_prepared(str(moved), None), store, block_bytes=SMALL_BLOCKS, progress=False)
    with pytest.raises(StoreError, match=r"has no index\.safetensors"):
        PackedData(str(tmp_path / "again"))
    monkeypatch.undo()
    report = pack(read_prepared(str(moved), None), store, block_bytes=SMALL_BLOCKS, progress=False)
    assert (report.kept, report.written) == (2, len(report.index.blocks) - 2)
    assert blocks_of(tmp_path / "again") == blocks_of(packed)
    assert (tmp_path / "again" / "index.safetensors").read_bytes() == (packed / "index.safetensors").read_bytes()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_those_of_the_files(market_folder, packed, num_workers):
    options = {"image_size": (32, 16), "p": 4, "k": 2, "val_identities": 0, "seed": 3}
    files = ImageReIDDataModule(str(market_folder), num_workers=0, **options)
    blocks = ImageReIDDataModule(str(packed), num_workers=num_workers, **options)
    for data in (files, blocks):
        data.setup("fit")
    for one, other in zip(files.train_dataloader(), blocks.train_dataloader(), strict=True):
        assert all(one[name].equal(other[name]) for name in one)
    for one, other in zip(files.test_dataloader(), blocks.test_dataloader(), strict=True):
        assert all(one[name].equal(other[name]) for name in one)


def test_clips_are_those_of_the_files_and_come_with_few_questions(mars, packed_mars):
    options = {"image_size": (32, 16), "clip_length": 3, "p": 2, "k": 2, "num_workers": 0, "val_identities": 0}
    files = VideoReIDDataModule(str(mars), **options)
    blocks = VideoReIDDataModule(f"lying://{packed_mars}", block_cache_gb=0, **options)
    for data in (files, blocks):
        data.setup("fit")
    batches = 0
    for one, other in zip(files.train_dataloader(), blocks.train_dataloader(), strict=True):
        assert all(one[name].equal(other[name]) for name in one)
        batches += 1
    counts = blocks.dataset.pictures.reader.counts.total()
    assert counts.frames > 0
    assert counts.requests < 0.4 * counts.frames
    assert batches > 0
    with pytest.raises(ValueError, match="is packed in blocks, and packed= keeps decoded frames of files: leave packed out"):
        VideoReIDDataModule(str(packed_mars), packed=str(packed_mars / "cache"), **options).prepare_data()


def test_what_is_new_is_appended_as_new_blocks(market_folder, packed, tmp_path):
    whole = read_prepared(str(market_folder), None)
    first, store = type(whole)(whole.name, whole.train[:10], notes=whole.notes), BlockStore(str(tmp_path / "grows"))
    pack(first, store, block_bytes=SMALL_BLOCKS, progress=False)
    before = blocks_of(tmp_path / "grows")
    with pytest.raises(ValueError, match=r"with other contents, from \d{5}\.zip on: give --append"):
        pack(whole, store, block_bytes=SMALL_BLOCKS, progress=False)
    rest = type(whole)(whole.name, tuple(one for one in whole.train if (one.pid, one.camid) not in {(o.pid, o.camid) for o in first.train}))
    pack(rest, store, append=True, block_bytes=SMALL_BLOCKS, progress=False)
    after = blocks_of(tmp_path / "grows")
    assert before.items() <= after.items()
    grown = PackedData(str(tmp_path / "grows"))
    expected = [Path(one.path).read_bytes() for one in (*first.train, *rest.train)]
    assert grown.pictures.reader.frames([row_of(one.path) for one in grown.images().train]) == expected
    again = pack(rest, store, append=True, block_bytes=SMALL_BLOCKS, progress=False)
    assert again.left_out == len({(one.pid, one.camid) for one in rest.train})
    assert blocks_of(tmp_path / "grows") == after


def test_two_hundred_flipped_bits_give_no_wrong_frame(packed, tmp_path):
    index, draw = PackedData(str(packed)).index, np.random.default_rng(0)
    contents = blocks_of(packed)
    good = PackedData(str(packed)).pictures.reader.frames(range(index.num_frames))
    named = 0
    for _ in range(200):
        row = int(draw.integers(index.num_frames))
        block = index.blocks[int(index.frames["block"][row])]
        place = int(index.frames["offset"][row]) + int(draw.integers(index.frames["length"][row]))
        folder = tmp_path / "flipped"
        (folder / "blocks").mkdir(parents=True, exist_ok=True)
        (folder / "index.safetensors").write_bytes((packed / "index.safetensors").read_bytes())
        damaged = bytearray(contents[block.name])
        damaged[place] ^= 1 << int(draw.integers(8))
        for name, content in contents.items():
            (folder / "blocks" / name).write_bytes(damaged if name == block.name else content)
        reader = PackedData(str(folder)).pictures.reader
        with pytest.raises(CorruptBlockError) as caught:
            reader.frames([row])
        assert caught.value.block == block.name
        assert caught.value.frames == tuple(index.members([row]))
        named += 1
        others = [one for one in range(index.num_frames) if one != row]
        assert reader.frames(others) == [good[one] for one in others]
    assert named == 200


@pytest.mark.parametrize(("ranges", "wholes"), [(1, 0), (2, 0), (2, 1), (10**9, 0), (10**9, 2)])
def test_a_store_that_lies_below_the_limit_is_found_out_and_the_frames_are_right(packed, ranges, wholes):
    expected = PackedData(str(packed)).pictures.reader.frames([3])
    reader = PackedData(f"lying://{packed}", cache_gb=0).pictures.reader
    LyingFileSystem.wrong_ranges, LyingFileSystem.wrong_wholes = ranges, wholes
    assert reader.frames([3]) == expected
    assert reader.counts.total().wrong_reads == min(ranges, 2) + wholes


def flipped(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)  # in place, as a disk that goes bad does


def test_a_damaged_block_in_the_cache_is_forgotten_and_fetched_once(packed, tmp_path):
    reader = PackedData(f"lying://{packed}", cache=str(tmp_path)).pictures.reader
    expected, block = reader.frames([3]), reader.index.blocks[0]
    flipped(tmp_path / f"{block.md5}.zip", int(reader.index.frames["offset"][3]))
    LyingFileSystem.asked.clear()
    assert reader.frames([3]) == expected
    assert reader.frames([3]) == expected  # from the new file, and not by the handle of the old one
    assert (LyingFileSystem.asked, reader.counts.total().wrong_reads) == (["whole"], 1)
    assert digest_of((tmp_path / f"{block.md5}.zip").read_bytes()) == block.md5


@pytest.mark.parametrize(("times", "asked"), [(1, ["whole"]), (10**9, ["whole", "whole", "range"])], ids=["once", "always"])
def test_a_block_that_another_process_takes_out_of_the_cache_is_fetched_again(packed, tmp_path, monkeypatch, times, asked):
    reader = PackedData(f"lying://{packed}", cache=str(tmp_path)).pictures.reader
    expected, taken = reader.frames([3]), []

    def and_taken(honest):
        def told(*arguments):
            path = honest(*arguments)
            if path is not None and len(taken) < times:
                taken.append(path)
                path.unlink(missing_ok=True)
            return path

        return told

    for name in ("found", "fetched"):
        monkeypatch.setattr(BlockCache, name, and_taken(getattr(BlockCache, name)))
    LyingFileSystem.asked.clear()
    assert pickle.loads(pickle.dumps(reader)).frames([3]) == expected
    assert LyingFileSystem.asked == asked


def test_a_whole_read_that_heals_is_kept_where_there_is_a_cache(packed, tmp_path, monkeypatch):
    reader = PackedData(f"lying://{packed}", cache=str(tmp_path)).pictures.reader
    expected = PackedData(str(packed)).pictures.reader.frames([3])
    honest_write, fails = Path.write_bytes, [True, True]

    def full_at_first(path, content):
        if fails:
            fails.pop()
            raise OSError(28, "No space left on device")
        return honest_write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_at_first)
    LyingFileSystem.wrong_ranges = 2
    assert reader.frames([3]) == expected
    asked = len(LyingFileSystem.asked)
    assert LyingFileSystem.asked[-1] == "whole"
    assert reader.frames([3]) == expected
    assert len(LyingFileSystem.asked) == asked
    assert reader.counts.total().cache_hits == 1


@pytest.mark.parametrize("url", ["{}", "lying://{}"])
def test_a_block_that_was_cut_short_is_named(packed, tmp_path, url):
    for name, content in blocks_of(packed).items():
        (tmp_path / "blocks").mkdir(exist_ok=True)
        (tmp_path / "blocks" / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "index.safetensors").write_bytes((packed / "index.safetensors").read_bytes())
    reader = PackedData(url.format(tmp_path), cache_gb=0).pictures.reader
    last = int(np.flatnonzero(reader.index.frames["block"] == 0)[-1])
    assert reader.frames([0]) == PackedData(str(packed)).pictures.reader.frames([0])
    with pytest.raises(CorruptBlockError, match=r"00000\.zip: \d{4}_.* should have md5 .* pack the set again") as caught:
        reader.frames([0, last])
    assert caught.value.frames == tuple(reader.index.members([last]))


@pytest.mark.parametrize("url", ["{}", "lying://{}"])
def test_an_index_is_sent_to_other_processes_as_its_place(packed_mars, tmp_path, url):
    there = PackedData(url.format(packed_mars), cache=str(tmp_path))
    sent = pickle.dumps((there.pictures, there.tracklets()))
    arrays = sum(array.nbytes for array in (*there.index.frames.values(), *there.index.tracklets.values()))
    assert len(pickle.dumps(there.index)) < 500 < arrays
    pictures, records = pickle.loads(sent)
    for part in ("frames", "tracklets", "splits"):
        assert all(np.array_equal(array, getattr(there.index, part)[name]) for name, array in getattr(pictures.reader.index, part).items())
    assert records.train == there.tracklets().train
    assert pictures(records.train[0].paths[-1]).equal(there.pictures(there.tracklets().train[0].paths[-1]))
    assert not pictures.reader.index.frames["crc32"].flags.writeable
    assert not pictures.reader.index.frames["crc32"].flags.owndata


def test_an_index_that_was_replaced_meanwhile_is_no_index_of_the_records_that_are_sent(packed, packed_mars, tmp_path):
    path = tmp_path / "index.safetensors"
    path.write_bytes((packed / "index.safetensors").read_bytes())
    sent = pickle.dumps(PackedData(str(tmp_path)).index)
    path.unlink()
    path.write_bytes((packed_mars / "index.safetensors").read_bytes())
    with pytest.raises(ForeignIndexError, match="another index than the one that was opened"):
        pickle.loads(sent)


def test_an_index_in_the_cache_is_one_of_the_store_and_made_anew_where_it_is_damaged(packed, tmp_path, caplog):
    url = f"lying://{packed}"
    expected = PackedData(str(packed)).images()
    PackedData(url, cache=str(tmp_path))
    (kept,) = tmp_path.glob("*.safetensors")
    assert kept.read_bytes() == (packed / "index.safetensors").read_bytes()
    flipped(kept, kept.stat().st_size - 9)
    assert PackedData(url, cache=str(tmp_path)).images() == expected
    assert kept.read_bytes() == (packed / "index.safetensors").read_bytes()
    assert [*tmp_path.glob("*.safetensors")] == [kept]
    (tmp_path / "file").touch()
    assert PackedData(url, cache=str(tmp_path / "file" / "cache")).images() == expected
    assert "stays in memory" in caplog.text


def test_two_hundred_flipped_bits_of_an_index_are_all_found(packed_mars):
    content, draw = (packed_mars / "index.safetensors").read_bytes(), np.random.default_rng(0)
    begin = 8 + int.from_bytes(content[:8], "little")
    for place in (*draw.integers(begin, size=100), *draw.integers(begin, len(content), size=100)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(draw.integers(8))
        with pytest.raises(ForeignIndexError, match="here is "):
            parse_index(bytes(damaged), "here")


def test_an_address_of_another_set_or_of_one_that_was_packed_anew_is_refused(packed, packed_mars):
    there, other = PackedData(str(packed)), PackedData(str(packed_mars))
    one, strange = there.images().train[0].path, other.tracklets().train[0].paths[0]
    renumbered = one.replace(f"/{row_of(one)}/", f"/{row_of(one) + 1}/")
    for path in (strange, renumbered, one.replace(f"/{row_of(one)}/", "/999999/")):
        with pytest.raises(CorruptImageError, match="is no frame of market as it is packed now"):
            there.pictures(path)
        with pytest.raises(ValueError, match="is no frame of market as it is packed now"):
            there.pictures.fetch([one, path])
    for row in (-1, there.index.num_frames):
        with pytest.raises(IndexError, match=f"asked for {row} to {row}"):
            there.pictures.reader.frames([row])


def test_a_store_that_lies_beyond_it_is_named(packed):
    reader = PackedData(f"lying://{packed}", cache_gb=0).pictures.reader
    LyingFileSystem.wrong_ranges = LyingFileSystem.wrong_wholes = 10**9
    with pytest.raises(CorruptBlockError, match=r"lightning-reid health lying://.*pack the set again") as caught:
        reader.frames([int(np.argmax(reader.index.frames["offset"]))])
    assert caught.value.expected != caught.value.got


def test_a_question_without_an_answer_is_asked_again_with_longer_waits_and_then_named(packed, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("lightning_reid.datamodules.blocks.store.time.sleep", waits.append)
    reader = PackedData(f"lying://{packed}", cache_gb=0).pictures.reader
    LyingFileSystem.failures = 3
    assert reader.frames([0]) == PackedData(str(packed)).pictures.reader.frames([0])
    assert len(waits) == reader.counts.total().retries == 3
    assert waits[0] < waits[2]
    LyingFileSystem.failures = 10**9
    with pytest.raises(StoreError, match=r"did not give \d{5}\.zip: ConnectionError\. Is the endpoint up"):
        reader.frames([0])


def test_a_block_is_asked_for_once_however_many_processes_there_are(packed, tmp_path):
    reader = PackedData(f"lying://{packed}", cache=str(tmp_path)).pictures.reader
    expected = PackedData(str(packed)).pictures.reader.frames(range(reader.index.num_frames))
    LyingFileSystem.asked.clear()
    assert reader.frames(range(reader.index.num_frames)) == expected
    assert LyingFileSystem.asked == ["whole"] * len(reader.index.blocks)
    other = pickle.loads(pickle.dumps(reader))
    assert other.frames(range(reader.index.num_frames)) == expected
    assert LyingFileSystem.asked == ["whole"] * len(reader.index.blocks)
    assert other.counts.total().cache_hits == reader.index.num_frames


def test_a_cache_keeps_to_its_limit_and_one_that_is_smaller_than_the_set_is_not_filled(packed, tmp_path):
    index = PackedData(str(packed)).index
    sizes = sorted(block.size for block in index.blocks)
    cache = BlockCache(tmp_path / "cache", sizes[-1] + sizes[-2])
    for block in index.blocks:
        content = (packed / "blocks" / block.name).read_bytes()
        path = cache.fetched(block, lambda content=content: content)
        assert path.read_bytes() == content
        assert sum(file.stat().st_size for file in cache.folder.glob("*.zip")) <= cache.limit
    assert cache.found(index.blocks[-1]) is not None
    assert cache.found(index.blocks[0]) is None
    small = PackedData(f"lying://{packed}", cache=str(tmp_path / "small"), cache_gb=sizes[0] / 1e9).pictures.reader
    assert small.frames([0, 1]) == PackedData(str(packed)).pictures.reader.frames([0, 1])
    assert not [*(tmp_path / "small").glob("*.zip")]


def test_a_full_disk_is_told_once_and_frames_come_in_ranges(packed, tmp_path, monkeypatch, caplog):
    reader = PackedData(f"lying://{packed}", cache=str(tmp_path)).pictures.reader
    expected = PackedData(str(packed)).pictures.reader.frames([0, 50])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert reader.frames([0, 50]) == expected
    assert reader.frames([0, 50]) == expected
    assert caplog.text.count("no room for blocks") == 1
    assert not [*tmp_path.glob("*.zip")]


def _fill(folder: str, blocks: list, contents: list[bytes]) -> None:
    cache = BlockCache(Path(folder), 10**9)
    while True:
        for block, content in zip(blocks, contents, strict=True):
            cache.fetched(block, lambda content=content: content)
            cache.forget(block)


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_fills_a_cache_leaves_no_half_of_a_block(packed, tmp_path):
    index = PackedData(str(packed)).index
    contents = [(packed / "blocks" / block.name).read_bytes() for block in index.blocks]
    for turn in range(20):
        process = multiprocessing.get_context("fork").Process(target=_fill, args=(str(tmp_path), index.blocks, contents))
        process.start()
        time.sleep(0.02 + 0.005 * turn)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for block in index.blocks:
            found = BlockCache(tmp_path, 10**9).found(block)
            assert found is None or digest_of(found.read_bytes()) == block.md5
    fresh = BlockCache(tmp_path, 10**9)
    assert fresh.fetched(index.blocks[0], lambda: contents[0]).read_bytes() == contents[0]
    assert not [*tmp_path.glob(".*partial*")]


def test_what_is_no_index_is_refused_by_what_it_is(packed, tmp_path):
    content = (packed / "index.safetensors").read_bytes()
    with pytest.raises(ForeignIndexError, match="is a damaged index of blocks: array "):
        parse_index(content[:-5], "here")
    with pytest.raises(ForeignIndexError, match="is no index of blocks, or a damaged one"):
        parse_index(content[:500], "here")
    with pytest.raises(ForeignIndexError, match="version 7, and this is for 'lightning-reid blocks', version 1"):
        parse_index(content.replace(b'\\"version\\": 1', b'\\"version\\": 7'), "here")
    with pytest.raises(ForeignIndexError, match=r"block '\.\./00\.zip'"):
        parse_index(content.replace(b"00000.zip", b"../00.zip"), "here")
    with pytest.raises(StoreError, match=r"has no index\.safetensors: is the address right"):
        PackedData(f"lying://{tmp_path}")
    with pytest.raises(ValueError, match="holds images, expected tracklets: read it with ImageReIDDataModule"):
        PackedData(str(packed)).tracklets()


def test_the_health_of_a_set_tells_what_is_missing_damaged_and_foreign(packed, tmp_path):
    assert health(str(packed), progress=False).is_whole
    for name, content in blocks_of(packed).items():
        (tmp_path / "blocks").mkdir(exist_ok=True)
        (tmp_path / "blocks" / name).write_bytes(content)
    (tmp_path / "index.safetensors").write_bytes((packed / "index.safetensors").read_bytes())
    (tmp_path / "blocks" / "00000.zip").unlink()
    cut = tmp_path / "blocks" / "00001.zip"
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "blocks" / "notes.txt").write_text("mine")
    found = health(str(tmp_path), progress=False)
    assert (found.missing, found.damaged, found.foreign) == (["00000.zip"], ["00001.zip"], ["notes.txt"])
    assert not found.is_whole
    with pytest.raises((CorruptBlockError, StoreError), match=r"00000\.zip"):
        PackedData(str(tmp_path)).pictures.reader.frames([0])


def test_what_is_unpacked_is_read_as_what_was_packed(market_folder, packed, mars, packed_mars, tmp_path):
    unpack(str(packed), tmp_path / "images", progress=False)
    before, after = read_prepared(str(market_folder), None), read_prepared(str(tmp_path / "images"), None)
    for (_, one), (_, other) in zip(before.splits(), after.splits(), strict=True):
        assert [(a.pid, a.camid, a.frame) for a in one] == [(a.pid, a.camid, a.frame) for a in other]
        assert [Path(a.path).read_bytes() for a in one] == [Path(a.path).read_bytes() for a in other]
    _, table = unpack(str(packed_mars), tmp_path / "walks", progress=False)
    walks = read_prepared_video(str(tmp_path / "walks" / table), None)
    for (_, one), (_, other) in zip(read_prepared_video(str(mars), None).splits(), walks.splits(), strict=True):
        assert [[Path(path).read_bytes() for path in a.paths] for a in one] == [
            [Path(path).read_bytes() for path in a.paths] for a in other
        ]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5000), st.integers(1, 400)), min_size=1, max_size=30),
    st.integers(0, 1000),
)
def test_ranges_cover_every_frame_once_and_are_apart(frames, gap):
    spans = [Span(block, start, start + length, row) for row, (block, start, length) in enumerate(frames)]
    found = merged_ranges(spans, gap=gap)
    assert sorted(span.row for one in found for span in one.spans) == [*range(len(frames))]
    for one in found:
        for span in one.spans:
            assert span.block == one.block
            assert one.start <= span.start
            assert span.stop <= one.stop
    for one, other in pairwise(found):
        assert one.block < other.block or other.start - one.stop > gap


def test_options_of_a_store_are_in_no_message_and_go_where_a_worker_goes(packed):
    store = BlockStore(f"lying://{packed}/nowhere", {"secret": "s3cr3t"})
    assert pickle.loads(pickle.dumps(store)).storage_options == {"secret": "s3cr3t"}
    with pytest.raises(StoreError) as caught:
        store.index()
    assert "s3cr3t" not in str(caught.value)
    assert fsspec.get_filesystem_class("lying") is LyingFileSystem


def test_every_datamodule_takes_blocks_where_it_takes_a_data_set(market_folder, packed, duke_folder, tmp_path):
    duke = tmp_path / "duke"
    pack(read_prepared(str(duke_folder), None), BlockStore(str(duke)), progress=False)
    options = {"image_size": (32, 16), "num_workers": 0}
    pairs: list[list[pl.LightningDataModule]] = []
    for source, target in ((str(duke_folder), str(market_folder)), (str(duke), str(packed))):
        cross = CrossDomainDataModule(source=source, target=target, source_p=4, p=4, k=2, **options)
        some = SemiSupervisedDataModule(target, labeled=5, p=4, k=2, **options)
        unlabeled = UnlabeledDataModule(target, **options)
        federated = FederatedData([source, target], "identity", num_clients=3, p=2, k=2, image_size=(32, 16), num_workers=0)
        for data in (cross, some, unlabeled):
            data.setup("fit")
        cross.source.setup("fit")
        federated.setup()
        both = PublicAndLocalDataModule(
            next(iter(federated.clients.values())).dataset, cross.source.dataset, image_size=(32, 16), num_workers=0
        )
        both.setup("fit")
        pairs.append([cross.source, both, *federated.clients.values()])
        pairs[-1] += [cross, some, unlabeled]
    for files, blocks in zip(*pairs, strict=True):
        for one, other in zip(files.test_dataloader(), blocks.test_dataloader(), strict=True):
            assert one["images"].equal(other["images"])
    for files, blocks in zip(pairs[0][:-3], pairs[1][:-3], strict=True):
        for one, other in zip(files.train_dataloader(), blocks.train_dataloader(), strict=True):
            assert one["images"].equal(other["images"])
    assert pairs[1][0].picture(pairs[1][0].dataset.train[0].path).equal(pairs[0][0].picture(pairs[0][0].dataset.train[0].path))


def test_scores_of_a_network_are_those_on_the_files(market_folder, packed):
    network, embedding = load_network(), EmbeddingPass(quiet=True)
    there, here = (embed_test(network, read_test_part(str(one)), embedding) for one in (market_folder, packed))
    assert there.query_embeddings.equal(here.query_embeddings)
    assert there.gallery_embeddings.equal(here.gallery_embeddings)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_logs_what_it_asked_of_the_store(packed, tmp_path, num_workers):
    data = ImageReIDDataModule(
        f"lying://{packed}",
        image_size=(32, 16),
        p=4,
        k=2,
        num_workers=num_workers,
        val_identities=0,
        block_cache=str(tmp_path),
    )
    model = SupervisedReID(backbone="resnet18", backbone_options={"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]})
    logged: list[dict[str, float]] = []

    class Notes(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            logged.append({name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("blocks/")})

    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=2, limit_val_batches=0, callbacks=[BlockAccessLogger(), Notes()], **options)
    trainer.fit(model, data)
    reader = data.dataset.pictures.reader
    assert logged[0]["blocks/frames"] > 0
    assert sum(one["blocks/frames"] for one in logged) == reader.counts.total().frames
    assert logged[0]["blocks/whole_reads"] == len(reader.index.blocks)
    assert logged[1]["blocks/whole_reads"] == 0
    assert {*reader.counts.by_worker()} == ({"worker0", "worker1"} if num_workers else {"main"})


def test_a_fault_of_a_program_is_no_fault_of_the_store(packed, monkeypatch):
    reader = PackedData(f"lying://{packed}", cache_gb=0).pictures.reader

    def broken(*_, **__):
        raise TypeError("a slip of the pen")

    monkeypatch.setattr(LyingFileSystem, "cat_file", broken)
    with pytest.raises(TypeError, match="a slip of the pen"):
        reader.frames([0])
