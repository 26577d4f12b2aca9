from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_reid.datamodules import packing
from lightning_reid.datamodules.clips import FrameReader
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.packing import PackedCache
from lightning_reid.packed_tracklets import PackedTracklet, store, write_packed_tracklet
from lightning_reid.records import TrackletRecord

SIZE = (16, 8)


@pytest.fixture
def tracklets(tmp_path):
    """Four tracklets of three frames of 20 x 12 pixels."""
    draw = np.random.default_rng(0)
    records = []
    for number in range(4):
        paths = tuple(str(tmp_path / f"{number}-{frame}.png") for frame in range(3))
        for path in paths:
            Image.fromarray(draw.integers(0, 255, (20, 12, 3), dtype=np.uint8)).save(path)
        records.append(TrackletRecord(paths, pid=number, camid=1))
    return records


def whole(record: TrackletRecord) -> torch.Tensor:
    return FrameReader(SIZE)(record, np.arange(len(record.paths))).pixels


def packed_names(cache: PackedCache) -> list[str]:
    return sorted(path.name for path in cache.home.glob("*.safetensors"))


@pytest.fixture
def writes(monkeypatch):
    """The files that were packed, in order."""
    written = []

    def write(path, *args, **options):
        written.append(path.name)
        write_packed_tracklet(path, *args, **options)

    monkeypatch.setattr(packing, "write_packed_tracklet", write)
    return written


def test_raw_holds_the_resized_frames_exactly_and_jpeg_nearly(tracklets, tmp_path):
    for encoding, off in (("raw", 0), ("jpeg", 40)):
        cache = PackedCache(tmp_path / "cache", SIZE, encoding)
        cache.make(tracklets, progress=False)
        files = cache.files(tracklets)
        for record in tracklets:
            frames, _ = PackedTracklet(files[record.paths]).read([0, 1, 2])
            assert (frames.int() - whole(record).int()).abs().float().mean() <= off
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["16x8-jpeg", "16x8-raw"]


def test_what_a_killed_run_left_half_packed_goes(tracklets, tmp_path, draft_of_a_dead_process):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make(tracklets, progress=False)
    before = sorted(cache.home.iterdir())
    for path in before:
        draft_of_a_dead_process(path).write_text("half")
    cache.make(tracklets, progress=False)
    assert sorted(cache.home.iterdir()) == before


def test_a_second_run_packs_nothing_reads_no_image_and_writes_nothing(tracklets, tmp_path, writes, monkeypatch):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make([*tracklets, tracklets[0]], progress=False)
    assert len(writes) == 4
    monkeypatch.setattr(packing, "content_digest", lambda paths, digest_bytes: pytest.fail("the images were read again"))
    monkeypatch.setattr(packing, "write_json", lambda path, content: pytest.fail("the index was written again"))
    cache.make(tracklets, progress=False)
    assert len(writes) == 4


def test_a_changed_image_is_packed_anew_even_with_its_old_size_and_date(tracklets, tmp_path, writes):
    for number in range(3):  # uncompressed, so that another picture has as many bytes
        Image.new("RGB", (12, 20), (number, 0, 0)).save(tmp_path / f"{number}.bmp")
    record = TrackletRecord(tuple(str(tmp_path / f"{number}.bmp") for number in range(3)), 1, 1)
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make([record], progress=False)
    victim = Path(record.paths[1])
    told = victim.stat()
    Image.new("RGB", (12, 20), (200, 0, 0)).save(victim)
    os.utime(victim, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert victim.stat().st_size == told.st_size
    with pytest.raises(RuntimeError, match=r"begins with .*0\.bmp as it is now, nor 0 others: call prepare_data\(\)"):
        cache.files([record])
    cache.make([record], progress=False)
    assert len(writes) == 2
    frames, _ = PackedTracklet(cache.files([record])[record.paths]).read([0, 1, 2])
    assert frames[:, 0, 0, 0].tolist() == [0, 200, 2]


def test_images_that_moved_find_their_frames_by_content(tracklets, tmp_path, writes):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make(tracklets, progress=False)
    (tmp_path / "moved").mkdir()
    moved = [TrackletRecord(tuple(str(Path(path).rename(tmp_path / "moved" / Path(path).name)) for path in tracklets[0].paths), 1, 1)]
    cache.make(moved, progress=False)
    assert len(writes) == 4
    assert list(cache.files(moved)) == [moved[0].paths]


def test_an_interrupted_run_goes_on_where_it_stopped(tracklets, tmp_path, writes, monkeypatch):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    write = packing.write_packed_tracklet

    def interrupted(path, *args, **options):
        if len(writes) == 2:
            raise KeyboardInterrupt
        write(path, *args, **options)

    monkeypatch.setattr(packing, "write_packed_tracklet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.make(tracklets, num_threads=1, progress=False)
    assert len(packed_names(cache)) == 2
    monkeypatch.setattr(packing, "write_packed_tracklet", write)
    cache.make(tracklets, progress=False)
    assert len(writes) == len(set(writes)) == 4


def test_an_image_that_changes_while_it_is_packed_is_no_part_of_the_cache(tracklets, tmp_path, monkeypatch):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")

    def read_and_change(record, indices):
        frames = FrameReader(SIZE)(record, indices)
        Image.new("RGB", (12, 20)).save(record.paths[0])
        return frames

    monkeypatch.setattr(cache, "_read", read_and_change)
    with pytest.raises(RuntimeError, match="changed while they were packed: run it again"):
        cache.make(tracklets[:1], progress=False)
    assert packed_names(cache) == []


def test_a_whole_cache_needs_no_room_even_where_the_index_is_lost(tracklets, tmp_path, monkeypatch):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make(tracklets, progress=False)
    (cache.home / "index.json").unlink()
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 0}))
    cache.make(tracklets, progress=False)
    assert len(cache.files(tracklets)) == 4


def test_tracklets_that_the_index_forgot_are_found_by_content(tracklets, tmp_path, writes):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make(tracklets, progress=False)
    known = cache.files(tracklets)
    (cache.home / "index.json").unlink()
    assert cache.files(tracklets) == known
    cache.make(tracklets[:2], progress=False)
    cache.make(tracklets[2:], progress=False)
    assert len(writes) == 4
    assert len(json.loads((cache.home / "index.json").read_text())) == 4


def kill_in_the_third_write(folder: Path, records: list[TrackletRecord]) -> None:
    write, written = packing.write_packed_tracklet, []

    def write_or_die(path, *args, **options):
        written.append(path)
        if len(written) == 3:
            (path.parent / f".{path.stem}-half.safetensors").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, *args, **options)

    packing.write_packed_tracklet = write_or_die
    PackedCache(folder, SIZE, "raw").make(records, num_threads=1, progress=False)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tracklets, tmp_path, writes):
    process = multiprocessing.get_context("fork").Process(target=kill_in_the_third_write, args=(tmp_path / "cache", tracklets))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make(tracklets, progress=False)
    assert len(writes) == 2
    for record in tracklets:
        assert torch.equal(PackedTracklet(cache.files([record])[record.paths]).read([0, 1, 2])[0], whole(record))


def test_two_runs_at_once_end_in_the_same_whole_cache(tracklets, tmp_path):
    caches = [PackedCache(tmp_path / "cache", SIZE, "raw") for _ in range(2)]
    runs = [threading.Thread(target=cache.make, args=(tracklets,), kwargs={"progress": False}) for cache in caches]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    caches[0].make(tracklets, progress=False)
    files = caches[0].files(tracklets)
    assert len(packed_names(caches[0])) == 4
    assert not [path for path in caches[0].home.iterdir() if path.name.startswith(".")]
    assert all(torch.equal(PackedTracklet(files[record.paths]).read([0, 1, 2])[0], whole(record)) for record in tracklets)


def test_a_file_of_other_settings_or_cut_short_is_named_and_made_again(tracklets, tmp_path, caplog):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make(tracklets, progress=False)
    first, second = (cache.files(tracklets)[record.paths] for record in tracklets[:2])
    write_packed_tracklet(first, torch.zeros(3, 3, 8, 8, dtype=torch.uint8))
    second.write_bytes(second.read_bytes()[:-9])
    with caplog.at_level(logging.WARNING):
        cache.make(tracklets, progress=False)
    assert "holds 3 frames of (8, 8) as raw, a cache from other settings: it is made again with 3 frames of (16, 8) as raw" in caplog.text
    assert f"{second.name} is no whole packed tracklet" in caplog.text
    assert all(torch.equal(PackedTracklet(path).read([0, 1, 2])[0], whole(record)) for path, record in zip((first, second), tracklets))


def test_tracklets_packed_with_other_settings_are_left_alone_and_mentioned(tracklets, tmp_path, caplog):
    PackedCache(tmp_path / "cache", (8, 8), "raw").make(tracklets, progress=False)
    with caplog.at_level(logging.INFO):
        PackedCache(tmp_path / "cache", SIZE, "jpeg").make(tracklets, progress=False)
    assert "packed with other settings, which are not served here: 8x8-raw" in caplog.text
    assert len(packed_names(PackedCache(tmp_path / "cache", (8, 8), "raw"))) == 4


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_full_disk_is_said_in_bytes_before_anything_is_written(tracklets, tmp_path, monkeypatch, encoding):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(
        OSError, match=rf"packing 12 frames of 16x8 as {encoding} takes about [\d,]+ bytes, .* has 1,000 free; nothing was"
    ) as error:
        PackedCache(tmp_path / "cache", SIZE, encoding).make(tracklets, progress=False)
    assert ("4,608 bytes" in str(error.value)) == (encoding == "raw")  # 12 frames of 3 x 16 x 8 bytes
    assert not (tmp_path / "cache").exists()


def test_an_image_that_does_not_decode_is_named_and_what_was_packed_stays(tracklets, tmp_path):
    Path(tracklets[2].paths[1]).write_bytes(b"no image")
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    with pytest.raises(CorruptImageError, match=r"2-1\.png"):
        cache.make(tracklets, num_threads=1, progress=False)
    assert len(packed_names(cache)) >= 2


def test_a_damaged_index_and_an_unknown_encoding_are_refused(tracklets, tmp_path):
    cache = PackedCache(tmp_path / "cache", SIZE, "raw")
    cache.make(tracklets, progress=False)
    (cache.home / "index.json").write_text("{")
    with pytest.raises(ValueError, match=r"index\.json is damaged .*delete it"):
        cache.files(tracklets)
    with pytest.raises(ValueError, match="must be one of raw, jpeg, got 'png'"):
        PackedCache(tmp_path, SIZE, "png")
