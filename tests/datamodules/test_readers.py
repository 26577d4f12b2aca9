"""Every official layout, written in small with empty files (readers open no image), is read back as the names say."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lightning_reid.datamodules.readers import read_dataset, read_market_folder
from lightning_reid.datamodules.readers.cub200 import read_cub200
from lightning_reid.datamodules.readers.grid import read_grid
from lightning_reid.datamodules.readers.hidden_cameras import read_3dpes, read_ilids
from lightning_reid.datamodules.readers.market_naming import read_cuhk03_np, read_duke, read_market1501, read_veri776
from lightning_reid.datamodules.readers.msmt17 import read_msmt17
from lightning_reid.datamodules.readers.official_counts import DatasetCountWarning
from lightning_reid.datamodules.readers.two_cameras import read_cuhk01, read_prid2011, read_viper
from lightning_reid.records import ImageRecord


def make(root: Path, *names: str, text: dict[str, str] | None = None) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, content in (text or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def who_where_when(records: tuple[ImageRecord, ...]) -> list[tuple[int, int, int]]:
    return [(record.pid, record.camid, record.frame) for record in records]


def read_small(reader, root, *args, **kwargs):
    """The reader's data set and the text of its one count warning."""
    with pytest.warns(DatasetCountWarning) as caught:
        dataset = reader(root, *args, **kwargs)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the warning points at the caller, not into the reader
    return dataset, str(caught[0].message)


MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0007_c6s4_012345_01.jpg",
    "query/0001_c2s1_000301_00.jpg",
    "bounding_box_test/0001_c3s2_000401_02.jpg",
    "bounding_box_test/0000_c1s1_000151_01.jpg",
    "bounding_box_test/-1_c5s1_000501_04.jpg",
)


def test_market1501_names_give_person_camera_and_frame_and_keep_junk_and_distractors(tmp_path):
    dataset, warning = read_small(read_market1501, make(tmp_path, *MARKET, "query/Thumbs.db", "query/._0001_c2s1_000301_00.jpg"))
    assert who_where_when(dataset.train) == [(2, 1, 451), (7, 6, 12345)]
    assert who_where_when(dataset.query) == [(1, 2, 301)]
    assert who_where_when(dataset.gallery) == [(-1, 5, 501), (0, 1, 151), (1, 3, 401)]
    assert {record.domain for _, records in dataset.splits() for record in records} == {"market1501"}
    assert dataset.query[0].path == str(tmp_path / "query" / "0001_c2s1_000301_00.jpg")
    assert "train images: read 2, official 12,936" in warning
    assert "gallery images: read 3, official 19,732" in warning
    assert "cameras: read 5, official 6" in warning


def test_the_root_may_be_the_parent_of_the_archives_folder(tmp_path):
    make(tmp_path / "Market-1501-v15.09.15", *MARKET)
    dataset, _ = read_small(read_market1501, tmp_path)
    assert len(dataset.train) == 2


def test_duke_names_have_an_f_before_the_frame(tmp_path):
    names = [
        f"{folder}/0001_c{camera}_f0046182.jpg" for camera, folder in enumerate(("bounding_box_train", "query", "bounding_box_test"), 1)
    ]
    dataset, warning = read_small(read_duke, make(tmp_path, *names))
    assert who_where_when(dataset.train + dataset.query + dataset.gallery) == [(1, 1, 46182), (1, 2, 46182), (1, 3, 46182)]
    assert "query images: read 1, official 2,228" in warning


@pytest.mark.parametrize(("boxes", "official"), [("detected", "7,365"), ("labeled", "7,368")])
def test_cuhk03_np_is_read_from_the_folder_of_its_boxes(tmp_path, boxes, official):
    for kind in ("detected", "labeled"):
        make(tmp_path / kind, "bounding_box_train/0003_c1_10.png", "query/0005_c1_1.png", f"bounding_box_test/0005_c2_{len(kind)}.png")
    dataset, warning = read_small(read_cuhk03_np, tmp_path, boxes)
    assert who_where_when(dataset.gallery) == [(5, 2, len(boxes))]
    assert f"train images: read 1, official {official}" in warning


@pytest.mark.parametrize(("version", "train", "test"), [("v1", "train", "test"), ("v2", "mask_train_v2", "mask_test_v2")])
def test_msmt17_lists_say_who_and_the_third_field_which_camera(tmp_path, version, train, test):
    lists = {
        "list_train.txt": "0000/0000_000_01_0303morning_0015_0.jpg 0\n0003/0003_001_14_0113noon_0700_1_ex.jpg 3\n",
        "list_val.txt": "0000/0000_009_02_0303noon_0021_0.jpg 0\n",
        "list_query.txt": "0000/0000_000_05_0303morning_0001_0.jpg 0\n",
        "list_gallery.txt": "0000/0000_001_06_0303evening_0002_0.jpg 0\n",
    }
    images = [
        f"{test if 'query' in name or 'gallery' in name else train}/{line.split()[0]}"
        for name in lists
        for line in lists[name].splitlines()
    ]
    dataset, warning = read_small(read_msmt17, make(tmp_path, *images, text=lists), version)
    assert who_where_when(dataset.train) == [(1, 1, 15), (4, 14, 700), (1, 2, 21)]  # train, then val; people from 1, for 0 is a distractor
    assert who_where_when(dataset.query + dataset.gallery) == [(1, 5, 1), (1, 6, 2)]
    assert "train images: read 3, official 32,621" in warning
    assert "pid = number in the set + 1" in dataset.notes


def test_veri776_warning_names_both_published_figures(tmp_path):
    names = ("image_train/0001_c001_00016450_0.jpg", "image_query/0002_c002_00030600_0.jpg", "image_test/0002_c020_00030700_1.jpg")
    dataset, warning = read_small(read_veri776, make(tmp_path / "VeRi", *names).parent)
    assert who_where_when(dataset.train + dataset.query + dataset.gallery) == [(1, 1, 16450), (2, 2, 30600), (2, 20, 30700)]
    assert "train images: read 1, official 37,778 or 37,746" in warning


def test_cuhk01_images_one_and_two_are_camera_one(tmp_path):
    names = [f"campus/{pid:04d}{image:03d}.png" for pid in (1, 2, 3) for image in (1, 2, 3, 4)]
    dataset, warning = read_small(read_cuhk01, make(tmp_path, *names))
    assert [record.camid for record in dataset.train] == [1, 1, 2, 2]
    assert {record.camid for record in dataset.query} == {1}
    assert {record.camid for record in dataset.gallery} == {2}
    assert len(dataset.query) == len(dataset.gallery) == 4
    assert not {record.pid for record in dataset.train} & {record.pid for record in dataset.query}
    assert "query images: read 4, official 972" in warning


VIPER = [f"cam_{camera}/{pid:03d}_{angle}.bmp" for pid in range(632) for camera, angle in (("a", 0), ("b", 90))]


def test_viper_of_full_size_is_split_in_halves_without_a_warning(tmp_path):
    make(tmp_path, *VIPER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_viper(tmp_path)
    assert [len(records) for _, records in dataset.splits()] == [632, 316, 316]
    assert {record.pid for record in dataset.query} == {record.pid for record in dataset.gallery}
    assert min(record.pid for _, records in dataset.splits() for record in records) == 1  # person 000 of the set must not be a distractor
    assert dataset.query[0].path.endswith("0.bmp")
    assert "random split 0 of seed 0" in dataset.notes[0]


def test_a_random_split_depends_on_seed_and_split_alone(tmp_path):
    make(tmp_path, *VIPER[:40])
    splits = {}
    for seed in (0, 1):
        for split in (0, 1):
            dataset, _ = read_small(read_viper, tmp_path, split=split, seed=seed)
            again, _ = read_small(read_viper, tmp_path, split=split, seed=seed)
            assert dataset == again
            splits[seed, split] = frozenset(record.pid for record in dataset.train)
    assert len(set(splits.values())) == 4
    # golden, from: for p in $(seq 20); do echo $(printf 0/0/$p | sha256sum) $p; done | sort | head -10; a change changes every split
    assert sorted(splits[0, 0]) == [2, 4, 5, 6, 7, 8, 10, 12, 14, 16]


def test_prid2011_searches_camera_b_and_leaves_strangers_of_camera_a_out(tmp_path):
    folder = tmp_path / "prid_2011" / "single_shot"
    make(folder / "cam_a", *(f"person_{pid:04d}.png" for pid in range(1, 386)))
    make(folder / "cam_b", *(f"person_{pid:04d}.png" for pid in range(1, 750)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_prid2011(tmp_path, split=3)
    assert [len(records) for _, records in dataset.splits()] == [200, 100, 649]
    assert all(record.pid <= 200 and record.camid == 1 for record in dataset.query)
    assert {record.camid for record in dataset.gallery} == {2}
    assert {record.pid for record in dataset.query} <= {record.pid for record in dataset.gallery}


GRID = [
    *(f"probe/{pid:04d}_{1 + pid % 4}_{25000 + pid}_107_32_106_221.jpeg" for pid in range(1, 251)),
    *(f"gallery/{pid:04d}_{5 + pid % 4}_{30000 + pid}_1_2_3_4.jpeg" for pid in range(1, 251)),
    *(f"gallery/0000_{1 + number % 8}_{number}_1_2_3_4.jpeg" for number in range(775)),
]


def test_grid_takes_the_published_partition_where_it_lies_beside_the_folders(tmp_path):
    make(tmp_path / "underground_reid", *GRID)
    cells = np.empty((1, 10), dtype=object)
    for split in range(10):
        cells[0, split] = {"galIdx": [0], "probeIdx": [0], "trainIdx": np.arange(1 + split, 126 + split)}
    savemat(tmp_path / "underground_reid" / "features_and_partitions.mat", {"trainIdxAll": cells})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_grid(tmp_path, split=2)
    assert {record.pid for record in dataset.train} == set(range(3, 128))
    assert [len(records) for _, records in dataset.splits()] == [250, 125, 900]
    assert dataset.query[0] == ImageRecord(dataset.query[0].path, pid=1, camid=2, domain="grid", frame=25001)
    assert sum(record.pid == 0 for record in dataset.gallery) == 775
    assert dataset.notes == ("published split 2 of features_and_partitions.mat",)


def test_grid_without_the_partition_file_says_that_its_split_is_random(tmp_path):
    make(tmp_path, *GRID)
    dataset = read_grid(tmp_path, split=2)
    assert [len(records) for _, records in dataset.splits()] == [250, 125, 900]
    assert "random split 2 of seed 0" in dataset.notes[0]


def test_ilids_has_one_query_and_one_gallery_image_a_test_person(tmp_path):
    sizes = [4] * 118 + [4]
    make(tmp_path / "Persons", *(f"{pid:04d}{image:03d}.jpg" for pid, size in enumerate(sizes, 1) for image in range(1, size + 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_ilids(tmp_path)
    assert [len(records) for _, records in dataset.splits()] == [59 * 4, 60, 60]
    assert [record.pid for record in dataset.query] == [record.pid for record in dataset.gallery]
    assert not {record.path for record in dataset.query} & {record.path for record in dataset.gallery}
    assert [{record.camid for record in records} for _, records in dataset.splits()] == [{0}, {1}, {2}]


def test_3dpes_never_matches_a_query_within_its_own_view(tmp_path):
    names = [f"RGB/{pid}_{view}_FRAME_{frame}_RGB.bmp" for pid in range(1, 9) for view in (1, 2, 3) for frame in (10, 20)]
    dataset, warning = read_small(read_3dpes, make(tmp_path, *names, "RGB/9_1_FRAME_5_RGB.bmp"))
    assert {record.frame for record in dataset.train} <= {5, 10, 20}
    queried = {(record.pid, record.camid) for record in dataset.query}
    assert queried
    assert not queried & {(record.pid, record.camid) for record in dataset.gallery}
    assert {pid for pid, _ in queried} <= {record.pid for record in dataset.gallery}
    assert "images: read 49, official 1,011" in warning
    assert "pids: read 9, official 192" in warning


def test_cub200_ignores_exactly_the_query_itself_for_each_test_image_is_its_own_camera(tmp_path):
    images = ["001.Black_footed_Albatross/A_01.jpg", "101.White_Pelican/P 1.jpg", "101.White_Pelican/P_2.jpg"]
    text = {
        "images.txt": "".join(f"{number} {image}\n" for number, image in enumerate(images, 1)),
        "image_class_labels.txt": "1 1\n2 101\n3 101\n",
    }
    dataset, warning = read_small(read_cub200, make(tmp_path / "CUB_200_2011", *(f"images/{image}" for image in images), text=text).parent)
    assert who_where_when(dataset.train) == [(1, 0, -1)]
    assert who_where_when(dataset.query) == [(101, 2, -1), (101, 3, -1)]
    assert dataset.gallery == dataset.query
    assert "query images: read 2, official 5,924" in warning


def test_a_market_folder_of_the_user_has_no_official_figures_and_bears_its_own_name(tmp_path):
    make(tmp_path / "office", "bounding_box_train/7_c2_120.png", "query/8_c1.jpg", "bounding_box_test/0008_c2s1_000001_01.JPG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_market_folder(tmp_path / "office")
    assert (dataset.name, dataset.notes) == ("office", ())
    assert who_where_when(dataset.train + dataset.query + dataset.gallery) == [(7, 2, 120), (8, 1, -1), (8, 2, 1)]


def test_a_market_folder_for_training_alone_needs_no_test_images(tmp_path):
    make(tmp_path, "bounding_box_train/0001_c1s1_000001_01.jpg", "bounding_box_train/-1_c1s1_000002_01.jpg")
    (tmp_path / "query").mkdir()
    dataset = read_market_folder(tmp_path, "mine", needs_test=False)
    assert [len(records) for _, records in dataset.splits()] == [2, 0, 0]
    assert dataset.notes == ("1 of 2 training records show nobody (pid 0 or -1) and train no identity",)


def test_a_market_folder_for_scoring_alone_needs_no_training_images(tmp_path):
    make(tmp_path, "query/0001_c1s1_000001_01.jpg", "bounding_box_test/0001_c2s1_000001_01.jpg")
    assert [len(records) for _, records in read_market_folder(tmp_path, needs_train=False).splits()] == [0, 1, 1]


def test_read_dataset_calls_the_reader_of_that_name(tmp_path):
    make(tmp_path, *VIPER[:8])
    with pytest.warns(DatasetCountWarning):
        by_name = read_dataset("viper", tmp_path, split=4)
    with pytest.warns(DatasetCountWarning):
        assert by_name == read_viper(tmp_path, split=4)


def test_reading_opens_no_image(tmp_path, monkeypatch):
    pids = range(1, 51)
    make(tmp_path, *MARKET[2:], *(f"bounding_box_train/{pid:04d}_c{n % 5 + 1}s1_{n:06d}_00.jpg" for pid in pids for n in range(20)))
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a reader must not open images"))
    assert len(read_market_folder(tmp_path).train) == 1_000


def test_the_real_pets_crops_are_counted_as_their_makers_did():
    if "REID_TEST_DATA" not in os.environ:
        pytest.skip("set REID_TEST_DATA to the folder that holds pets-reid and tud-reid")
    root = Path(os.environ["REID_TEST_DATA"])
    dataset = read_market_folder(root / "pets-reid")
    assert [len(records) for _, records in dataset.splits()] == [292, 18, 290 + 24]
    assert sum(record.pid == -1 for record in dataset.gallery) == 24
    assert {record.pid for record in dataset.train} == {2, 4, 6, 7, 8}
    assert {record.pid for record in dataset.query} == {1, 3, 5, 9, 10}
    assert {record.camid for _, records in dataset.splits() for record in records} == {1, 2, 3, 4}
    tud = read_market_folder(root / "tud-reid", needs_test=False)
    assert (len(tud.train), len({record.pid for record in tud.train}), tud.query) == (168, 17, ())
