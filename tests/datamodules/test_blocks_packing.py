"""Packing: any set comes back as it was, and what cannot be packed is named before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verbs import refused

from lightning_reid.blocks import ForeignIndexError
from lightning_reid.datamodules.blocks import BlockStore, PackedData, pack, packing
from lightning_reid.datamodules.blocks.addresses import row_of
from lightning_reid.records import ImageRecord, ReIDDataset, Splits, TrackletDataset, TrackletRecord

NAMES = ("a.jpg", "b.PNG", "c", "d.jpg_original", "e.jpeg.bak", "f.tar.gz", "g.webp", "ä b.jpg", ".hidden", "h.averylongsuffix")
pids, camids, frames = st.integers(-1, 3), st.integers(0, 2), st.integers(-3, 2**40)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(bytes([number]) * (100 * number + 1))
    return [str(folder / name) for name in NAMES]


def splits_of(records: st.SearchStrategy) -> st.SearchStrategy:
    return st.tuples(*(st.lists(records, max_size=6).map(tuple) for _ in range(4))).filter(any)


def store_in(folder: Path) -> BlockStore:
    return BlockStore(str(folder))


def contents(packed: PackedData, paths) -> list[bytes]:
    return packed.pictures.reader.frames([row_of(path) for path in paths])


def told(record: ImageRecord | TrackletRecord) -> tuple:
    return (record.pid, record.camid, record.frame, getattr(record, "second_pid", None))


@given(splits_of(st.tuples(st.integers(0, len(NAMES) - 1), pids, camids, frames)), st.integers(100, 3000))
def test_images_come_back_as_they_were_in_their_order(tmp_path_factory, files, splits, block_bytes):
    made = [tuple(ImageRecord(files[file], *rest[:2], "set", rest[2]) for file, *rest in split) for split in splits]
    dataset = ReIDDataset("set", *made[:3], (), made[3])
    store = store_in(tmp_path_factory.mktemp("blocks") / "set")
    pack(dataset, store, block_bytes=block_bytes, progress=False)
    packed = PackedData(store.url)
    for name in ("train", "query", "gallery", "val"):
        before, after = getattr(dataset, name), getattr(packed.images(), name)
        assert [told(record) for record in before] == [told(record) for record in after]
        assert contents(packed, [record.path for record in after]) == [Path(record.path).read_bytes() for record in before]


tracklets = st.tuples(st.lists(st.integers(0, len(NAMES) - 1), min_size=1, max_size=5), pids, camids, frames, pids)


@given(splits_of(tracklets), st.integers(100, 3000))
def test_tracklets_come_back_as_they_were_in_their_order(tmp_path_factory, files, splits, block_bytes):
    made = [
        tuple(
            TrackletRecord(tuple(files[one] for one in paths), pid, camid, "set", frame, other) for paths, pid, camid, frame, other in split
        )
        for split in splits
    ]
    dataset = TrackletDataset("set", *made[:3], (), made[3])
    store = store_in(tmp_path_factory.mktemp("blocks") / "set")
    pack(dataset, store, block_bytes=block_bytes, progress=False)
    packed = PackedData(store.url)
    for name in ("train", "query", "gallery", "val"):
        before, after = getattr(dataset, name), getattr(packed.tracklets(), name)
        assert [told(record) for record in before] == [told(record) for record in after]
        for one, other in zip(before, after, strict=True):
            assert contents(packed, other.paths) == [Path(path).read_bytes() for path in one.paths]


def one_tracklet(*paths: str, pid: int = 1) -> TrackletRecord:
    return TrackletRecord(paths, pid, 1, "set")


def test_a_frame_may_be_in_its_tracklet_twice(files, tmp_path):
    pack(TrackletDataset("set", (one_tracklet(files[3], files[2], files[3]),)), store_in(tmp_path / "set"), progress=False)
    packed = PackedData(str(tmp_path / "set"))
    assert contents(packed, packed.tracklets().train[0].paths) == [Path(files[one]).read_bytes() for one in (3, 2, 3)]


def test_a_tracklet_that_is_larger_than_a_block_has_one_to_itself(files, tmp_path):
    walks = [one_tracklet(files[0]), one_tracklet(*files, pid=2), one_tracklet(files[1], pid=3), one_tracklet(files[2], pid=4)]
    index = pack(TrackletDataset("set", tuple(walks)), store_in(tmp_path / "set"), block_bytes=1500, progress=False).index
    assert index.frames["block"].tolist() == [0, *[1] * len(files), 2, 2]


def test_what_fits_no_block_or_no_index_is_named_before_anything_is_written(files, tmp_path, monkeypatch):
    walks = TrackletDataset("set", (one_tracklet(files[0]), one_tracklet(*files[1:], pid=2)))
    monkeypatch.setattr(packing, "MOST_BLOCK_BYTES", 2000)
    with pytest.raises(ValueError, match=r"a tracklet of [\d,]+ bytes, which begins with .*b\.PNG, fits no block of at most 2,000"):
        pack(walks, store_in(tmp_path / "set"), progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(packing, "MOST_BLOCKS", 1)
    with pytest.raises(ValueError, match="2 blocks are more than the 1 of a set: give larger ones"):
        pack(walks, store_in(tmp_path / "set"), block_bytes=1, progress=False)
    with pytest.raises(ValueError, match="set is empty: nothing to pack"):
        pack(TrackletDataset("set", ()), store_in(tmp_path / "set"), progress=False)
    assert not (tmp_path / "set").exists()


def test_a_place_that_holds_something_else_is_left_as_it_is(files, tmp_path):
    images = ReIDDataset("set", (ImageRecord(files[0], 1, 1, "set"),))
    walks = TrackletDataset("set", (one_tracklet(files[0]),))
    store, index = store_in(tmp_path / "set"), tmp_path / "set" / "index.safetensors"

    def refuses(dataset: Splits, error: type[Exception], words: str, *, append: bool = False) -> None:
        with pytest.raises(error, match=words):
            pack(dataset, store, append=append, progress=False)

    refuses(images, ValueError, "holds no set to append to: leave --append out", append=True)
    pack(images, store, progress=False)
    before = index.read_bytes()
    refuses(walks, ValueError, "holds images of set, not tracklets of set: give another address")
    refuses(walks, ValueError, "holds images of set, not tracklets of set: give another address", append=True)
    refuses(ReIDDataset("other", images.train[:0], (ImageRecord(files[0], 1, 1, "other"),)), ValueError, "not images of other")
    assert index.read_bytes() == before
    newer = before.replace(b'\\"version\\": 1', b'\\"version\\": 7')
    index.write_bytes(newer)
    refuses(images, ForeignIndexError, "version 7, and this is for")
    assert index.read_bytes() == newer


@pytest.mark.parametrize("where", ["a file", "a file/set", "/proc/set"])
def test_a_place_that_takes_nothing_is_named_at_once(files, tmp_path, monkeypatch, where):
    (tmp_path / "a file").touch()
    monkeypatch.setattr("lightning_reid.datamodules.blocks.store.time.sleep", lambda _: pytest.fail("waited for a disk"))
    with pytest.raises(OSError, match=rf"cannot write .*{where}/blocks/00000\.zip: (File exists|Not a directory|No such file)"):
        pack(TrackletDataset("set", (one_tracklet(files[0]),)), store_in(tmp_path / where), progress=False)


def test_unreadable_images_are_named_by_the_verb_before_anything_is_packed(market_folder, tmp_path, capsys):
    folder = tmp_path / "market"
    for file in market_folder.rglob("*.jpg"):
        (folder / file.relative_to(market_folder)).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.relative_to(market_folder)).symlink_to(file)
    broken = sorted((folder / "bounding_box_train").iterdir())[2]
    broken.unlink()
    broken.write_bytes(b"no image")
    words = refused(capsys, "pack", folder, tmp_path / "blocks", "--json")
    assert f"{broken} cannot be decoded" in words
    assert "nothing was packed" in words
    assert not (tmp_path / "blocks").exists()
