"""Every layout of tracklets, written in small with empty files (readers open no image), is read back as its lists and names say."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lightning_reid.datamodules.readers.dukemtmc_video import read_dukemtmc_video
from lightning_reid.datamodules.readers.ilids_vid import read_ilids_vid
from lightning_reid.datamodules.readers.mars import read_mars, read_mars_folder
from lightning_reid.datamodules.readers.official_counts import DatasetCountWarning, OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.prid2011_video import read_prid2011_video
from lightning_reid.datamodules.readers.tracklet_table import read_tracklet_table
from lightning_reid.records import TrackletDataset, TrackletRecord


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def mars_images(tracklets) -> list[str]:
    """Names of the frames of tracklets ``(folder of the person, camera, tracklet, number of frames)``."""
    return [f"{person}C{camid}T{number:04d}F{frame:03d}.jpg" for person, camid, number, size in tracklets for frame in range(1, size + 1)]


def mars_rows(tracklets) -> np.ndarray:
    ends = np.cumsum([size for *_, size in tracklets])
    return np.array(
        [[end - size + 1, end, int(person.removeprefix("00")), camid] for end, (person, camid, _, size) in zip(ends, tracklets)]
    )


MARS_TRAIN = [("0001", 1, 1, 3), ("0001", 2, 1, 1), ("0003", 1, 1, 2)]
MARS_TEST = [("00-1", 3, 1, 2), ("0000", 2, 5, 2), ("0002", 1, 1, 4), ("0002", 2, 1, 2), ("0002", 2, 2, 1)]


def make_mars(root: Path, queries=(3, 4), dtype=np.uint32) -> Path:
    """MARS in small; the real info files keep their numbers as several types."""
    for split, tracklets in (("train", MARS_TRAIN), ("test", MARS_TEST)):
        images = mars_images(tracklets)
        make(root / f"bbox_{split}", *(f"{image[:4]}/{image}" for image in images))
        (root / "info").mkdir(exist_ok=True)
        (root / "info" / f"{split}_name.txt").write_text("\n".join(images) + "\n")
        savemat(root / "info" / f"tracks_{split}_info.mat", {f"track_{split}_info": mars_rows(tracklets).astype(np.float64)})
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.array([queries], dtype=dtype)})
    return root


def who_where_size(records: tuple[TrackletRecord, ...]) -> list[tuple[int, int, int]]:
    return [(record.pid, record.camid, len(record.paths)) for record in records]


def names(record: TrackletRecord) -> list[str]:
    return [Path(path).name for path in record.paths]


def read_small(reader, root, *args, **kwargs):
    """The reader's data set and the text of its one count warning."""
    with pytest.warns(DatasetCountWarning) as caught:
        dataset = reader(root, *args, **kwargs)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the warning points at the caller, not into the reader
    return dataset, str(caught[0].message)


def test_mars_rows_become_tracklets_with_junk_and_distractors_kept(tmp_path):
    dataset, warning = read_small(read_mars, make_mars(tmp_path))
    assert who_where_size(dataset.train) == [(1, 1, 3), (1, 2, 1), (3, 1, 2)]
    assert who_where_size(dataset.gallery) == [(-1, 3, 2), (0, 2, 2), (2, 1, 4), (2, 2, 2), (2, 2, 1)]
    assert dataset.train[0].paths == tuple(str(tmp_path / "bbox_train/0001" / f"0001C1T0001F00{frame}.jpg") for frame in (1, 2, 3))
    assert dataset.gallery[0].paths[0] == str(tmp_path / "bbox_test/00-1/00-1C3T0001F001.jpg")
    assert {(record.domain, record.frame) for _, records in dataset.splits() for record in records} == {("mars", -1)}
    assert "train tracklets: read 3, official 8,298" in warning
    assert "gallery pids: read 1, official 634 or 636" in warning
    assert "gallery images: read 11, official 681,089" in warning


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_mars_queries_count_from_one_and_stay_in_the_gallery(tmp_path, dtype):
    dataset, _ = read_small(read_mars, make_mars(tmp_path, queries=(4, 3), dtype=dtype))
    assert who_where_size(dataset.query) == [(2, 2, 2), (2, 1, 4)]
    assert dataset.query == (dataset.gallery[3], dataset.gallery[2])
    assert dataset.notes == ("the gallery holds 2 of the 2 queries themselves, 1 distractor (pid 0) and 1 junk (pid -1) tracklets",)


def test_the_root_may_be_the_parent_of_mars(tmp_path):
    make_mars(tmp_path / "MARS")
    assert len(read_small(read_mars, tmp_path)[0].train) == 3


def test_a_folder_in_the_layout_of_mars_is_read_without_official_figures(tmp_path):
    make_mars(tmp_path / "station")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_mars_folder(tmp_path / "station")
        named = read_mars_folder(tmp_path / "station", "mine")
    assert (dataset.name, dataset.train[0].domain) == ("station", "station")
    assert (named.name, named.query[0].domain) == ("mine", "mine")


def test_readers_open_no_image(tmp_path, monkeypatch):
    make_mars(tmp_path)
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("a reader must not open images"))
    assert len(read_mars_folder(tmp_path).gallery) == 5


DUKE = [
    "train/0001/0001/0001_C6_F0002_X30831.jpg",
    "train/0001/0001/0001_C6_F0010_X30839.jpg",
    "train/0001/0001/0001_C6_F0001_X30830.jpg",
    "train/0001/0004/0001_C2_F0001_X10.jpg",
    "query/0002/0007/0002_C1_F0001_X500.jpg",
    "gallery/0002/0007/0002_C1_F0001_X500.jpg",
    "gallery/0002/0008/0002_C8_F0001_X900.jpg",
    "gallery/7140/0009/7140_C3_F0044_X200413.jpg",
]


def test_duke_frames_are_ordered_by_f_and_x_is_the_time_of_the_first(tmp_path):
    dataset, warning = read_small(read_dukemtmc_video, make(tmp_path, *DUKE))
    first, second = dataset.train
    assert names(first) == ["0001_C6_F0001_X30830.jpg", "0001_C6_F0002_X30831.jpg", "0001_C6_F0010_X30839.jpg"]
    assert (first.pid, first.camid, first.frame, first.domain) == (1, 6, 30830, "dukemtmc-videoreid")
    assert (second.pid, second.camid, second.frame) == (1, 2, 10)
    assert who_where_size(dataset.gallery) == [(2, 1, 1), (2, 8, 1), (7140, 3, 1)]
    assert "query tracklets: read 1, official 702" in warning
    assert "gallery pids: read 2, official 1,110" in warning
    assert "the gallery holds 1 of the 1 queries themselves" in dataset.notes[0]


def test_duke_names_of_the_first_release_have_no_underscores_and_the_root_may_be_the_parent(tmp_path):
    make(tmp_path / "DukeMTMC-VideoReID", *(f"{name.rpartition('/')[0]}/{name.rpartition('/')[2].replace('_', '')}" for name in DUKE))
    dataset, _ = read_small(read_dukemtmc_video, tmp_path)
    assert names(dataset.train[1]) == ["0001C2F0001X10.jpg"]
    assert (dataset.train[0].camid, dataset.train[0].frame) == (6, 30830)


def make_ilids_vid(root: Path, pids) -> Path:
    frames = ("00009", "00317", "00318")  # the archive leaves frame numbers out
    return make(
        root,
        *(
            f"sequences/cam{camid}/person{pid:03d}/cam{camid}_person{pid:03d}_{frame}.png"
            for pid in pids
            for camid in (1, 2)
            for frame in frames[camid - 1 :]
        ),
    )


def save_splits(path: Path, num_people: int) -> np.ndarray:
    """Ten orders of the people, as ``ls_set`` has them."""
    orders = np.stack([np.random.default_rng(split).permutation(num_people) + 1 for split in range(10)])
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"ls_set": orders.astype(np.uint16)})
    return orders


def test_ilids_vid_of_full_size_is_split_in_published_halves_without_a_warning(tmp_path):
    pids = [pid for pid in range(1, 320) if pid % 17]  # numbers with gaps, as the archive has
    top = make_ilids_vid(tmp_path / "i-LIDS-VID", pids[:300])
    orders = save_splits(tmp_path / "train-test people splits" / "train_test_splits_ilidsvid.mat", 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_ilids_vid(tmp_path, split=3)
        assert read_ilids_vid(top, split=3) == dataset
    assert [len(records) for _, records in dataset.splits()] == [300, 150, 150]
    # the first half of a row tests; it counts people in the order of their folders
    assert [record.pid for record in dataset.query] == sorted(pids[place - 1] for place in orders[3, :150])
    assert [record.pid for record in dataset.gallery] == [record.pid for record in dataset.query]
    assert {record.pid for record in dataset.train} == {pids[place - 1] for place in orders[3, 150:]}
    assert dataset.notes == ("published split 3 of train_test_splits_ilidsvid.mat",)


def test_ilids_vid_queries_camera_one_and_keeps_the_time_of_the_first_frame(tmp_path):
    dataset, warning = read_small(read_ilids_vid, make_ilids_vid(tmp_path, range(1, 7)))
    assert {(record.camid, len(record.paths), record.frame) for record in dataset.query} == {(1, 3, 9)}
    assert {(record.camid, len(record.paths), record.frame) for record in dataset.gallery} == {(2, 2, 317)}
    assert [record.camid for record in dataset.train] == [1, 2] * 3
    assert "query tracklets: read 3, official 150" in warning


@pytest.mark.parametrize("reader", [read_ilids_vid, read_prid2011_video])
def test_without_the_published_file_the_ten_splits_are_seeded_and_say_so(tmp_path, reader):
    make_prid(make_ilids_vid(tmp_path, range(1, 21)), dict.fromkeys(range(1, 21), (27, 27)))
    splits = {}
    for seed in (0, 1):
        for split in (0, 9):
            dataset, _ = read_small(reader, tmp_path, split=split, seed=seed)
            assert dataset == read_small(reader, tmp_path, split=split, seed=seed)[0]
            assert dataset.notes[0].startswith(f"random split {split} of seed {seed}")
            splits[seed, split] = frozenset(record.pid for record in dataset.train)
            assert splits[seed, split].isdisjoint(record.pid for record in dataset.query)
    assert len(set(splits.values())) == 4
    # golden, from: for p in $(seq 20); do echo $(printf 0/0/$p | sha256sum) $p; done | sort | head -10; a change changes every split
    assert sorted(splits[0, 0]) == [2, 4, 5, 6, 7, 8, 10, 12, 14, 16]


def make_prid(root: Path, sizes: dict[int, tuple[int, int]]) -> Path:
    return make(
        root,
        *(
            f"multi_shot/{camera}/person_{pid:04d}/{frame:04d}.png"
            for pid, both in sizes.items()
            for camera, size in zip(("cam_a", "cam_b"), both)
            for frame in range(1, size + 1)
        ),
    )


def test_prid2011_keeps_people_with_27_frames_in_both_cameras_and_no_strangers(tmp_path):
    sizes = {1: (27, 30), 2: (26, 90), 3: (90, 26), 4: (28, 27), 200: (27, 27), 201: (50, 50), 300: (60, 60)}
    dataset, warning = read_small(read_prid2011_video, make_prid(tmp_path / "prid_2011", sizes).parent)
    people = {record.pid for _, records in dataset.splits() for record in records}
    assert people == {1, 4, 200}
    assert {record.camid for record in dataset.query} == {1}
    assert {record.camid for record in dataset.gallery} == {2}
    assert names(dataset.train[0])[:2] == ["0001.png", "0002.png"]
    assert dataset.train[0].frame == -1
    assert "train tracklets: read 2, official 178" in warning


def test_prid2011_of_full_size_is_split_in_published_halves_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_reid.datamodules.readers.prid2011_video.MIN_FRAMES", 2)  # 27 frames of 400 tracklets take seconds
    top = make_prid(tmp_path / "prid_2011", {pid: (2, 1 if pid > 178 else 2) for pid in range(1, 201)})
    orders = save_splits(top / "train_test_splits_prid.mat", 178)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_prid2011_video(top, split=9)
    assert [len(records) for _, records in dataset.splits()] == [178, 89, 89]
    assert [record.pid for record in dataset.gallery] == sorted(orders[9, :89].tolist())


TABLE = (
    "path,pid,camid,tracklet,split,frame\n"
    "a/2.jpg,1,1,walk,train,20\na/1.jpg,1,1,walk,train,10\n"
    "q/2.jpg,2,1,7,query,\nq/1.jpg,2,1,7,query,\n"
    "g/1.jpg,2,2,7,gallery,5\nd/1.jpg,0,2,crowd,gallery,\ng/2.jpg,2,2,7,gallery,6\nq/1.jpg,2,1,asked,gallery,\nj/1.jpg,-1,3,bits,gallery,\n"
)
TABLE_FILES = ("a/1.jpg", "a/2.jpg", "q/1.jpg", "q/2.jpg", "g/1.jpg", "g/2.jpg", "d/1.jpg", "j/1.jpg")


@pytest.fixture
def table(tmp_path) -> Path:
    make(tmp_path, *TABLE_FILES)
    (tmp_path / "office.csv").write_text(TABLE)
    return tmp_path / "office.csv"


def test_a_tracklet_table_groups_rows_and_orders_them_by_frame_where_told(table):
    def paths(*images: str) -> tuple[str, ...]:
        return tuple(str(table.parent / image) for image in images)

    dataset = read_tracklet_table(table)
    assert dataset.train == (TrackletRecord(paths("a/1.jpg", "a/2.jpg"), 1, 1, "office", 10),)
    assert dataset.query == (TrackletRecord(paths("q/2.jpg", "q/1.jpg"), 2, 1, "office", -1),)
    assert dataset.gallery == (
        TrackletRecord(paths("g/1.jpg", "g/2.jpg"), 2, 2, "office", 5),
        TrackletRecord(paths("d/1.jpg"), 0, 2, "office", -1),
        TrackletRecord(paths("q/1.jpg"), 2, 1, "office", -1),
        TrackletRecord(paths("j/1.jpg"), -1, 3, "office", -1),
    )
    assert "1 distractor (pid 0) and 1 junk (pid -1)" in dataset.notes[0]
    assert read_tracklet_table(table, "mine").name == "mine"


def test_a_parquet_tracklet_table_gives_what_the_same_csv_gives(table):
    import pyarrow
    from pyarrow import parquet

    heading, *lines = (line.split(",") for line in TABLE.splitlines())
    columns = {name: [line[place] for line in lines] for place, name in enumerate(heading)}
    numbers = {name: [int(cell) for cell in columns[name]] for name in ("pid", "camid")}
    frames = {"frame": [float(cell) if cell else None for cell in columns["frame"]]}
    parquet.write_table(pyarrow.table(columns | numbers | frames), table.with_suffix(".parquet"))
    assert read_tracklet_table(table.with_suffix(".parquet")) == read_tracklet_table(table)


def test_a_table_of_training_tracklets_alone_will_do_when_no_test_is_wanted(table):
    table.write_text("".join(TABLE.splitlines(keepends=True)[:3]))
    dataset = read_tracklet_table(table, needs_test=False)
    assert (len(dataset.train), dataset.query, dataset.notes) == (1, (), ())


def test_a_figure_that_agrees_with_any_published_one_needs_no_warning():
    dataset = TrackletDataset("small", train=(TrackletRecord(("a.jpg", "b.jpg"), 1, 1), TrackletRecord(("c.jpg",), -1, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agreeing = OfficialCounts(train_tracklets=(5, 2), train_images=3, train_pids=1, cameras=2)
        assert warn_unless_official(dataset, agreeing) is dataset
    with pytest.warns(DatasetCountWarning, match="small: train images: read 3, official 4 or 5$"):
        warn_unless_official(dataset, OfficialCounts(train_images=(4, 5), train_pids=1))


def test_the_real_pets_tracklets_are_counted_as_their_makers_did():
    if "REID_TEST_DATA" not in os.environ:
        pytest.skip("set REID_TEST_DATA to the folder that holds pets-reid")
    dataset = read_mars_folder(Path(os.environ["REID_TEST_DATA"]) / "pets-reid")
    assert [len(records) for _, records in dataset.splits()] == [60, 17, 63]
    assert sum(len(record.paths) for record in dataset.train) == 1663
    assert sum(len(record.paths) for record in dataset.gallery) == 1800
    assert {record.pid for record in dataset.train} == {2, 4, 6, 7, 8}
    assert {record.pid for record in dataset.query} == {1, 3, 5, 9, 10}
    assert set(dataset.query) <= set(dataset.gallery)
    assert all(Path(path).is_file() for path in dataset.query[-1].paths)
    # a query is chosen only if its person keeps a gallery tracklet in another camera when queries leave the gallery
    rest = set(dataset.gallery) - set(dataset.query)
    assert all(any(other.pid == query.pid and other.camid != query.camid for other in rest) for query in dataset.query)
