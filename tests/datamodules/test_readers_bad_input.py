"""Data that is missing, half there or misnamed ends in one sentence that names it and says the way on."""

import os
from pathlib import Path

import pytest
from another_user import as_another_user
from PIL import Image
from scipy.io import savemat

from lightning_reid.datamodules.readers import find_unreadable_images, read_dataset, read_market_folder
from lightning_reid.datamodules.readers.cub200 import read_cub200
from lightning_reid.datamodules.readers.grid import read_grid
from lightning_reid.datamodules.readers.hidden_cameras import read_3dpes, read_ilids
from lightning_reid.datamodules.readers.image_check import UnreadableImage
from lightning_reid.datamodules.readers.market_naming import read_cuhk03_np, read_duke, read_market1501, read_veri776
from lightning_reid.datamodules.readers.msmt17 import read_msmt17
from lightning_reid.datamodules.readers.two_cameras import read_cuhk01, read_prid2011, read_viper
from lightning_reid.records import ImageRecord

READERS = (
    read_market1501,
    read_duke,
    read_msmt17,
    read_cuhk03_np,
    read_cuhk01,
    read_viper,
    read_prid2011,
    read_grid,
    read_ilids,
    read_3dpes,
    read_veri776,
    read_cub200,
    read_market_folder,
)


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


MARKET = ("bounding_box_train/0002_c1s1_000451_03.jpg", "query/0001_c2s1_000301_00.jpg", "bounding_box_test/0001_c3s2_000401_02.jpg")
MSMT_IMAGE = "0000/0000_000_01_0303morning_0015_0.jpg"


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_a_missing_folder_and_the_layout_expected_in_it(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; expected a folder with \w+"):
        reader(tmp_path / "nowhere")


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_says_what_it_found_in_a_folder_of_another_layout(tmp_path, reader):
    make(tmp_path, "holiday/beach.jpg", "work/desk.jpg")
    with pytest.raises(FileNotFoundError, match=r"has another layout; expected a folder with .*, found holiday, work$"):
        reader(tmp_path)


def test_a_half_extracted_folder_is_told_by_the_part_that_is_missing(tmp_path):
    make(tmp_path, *MARKET[:2])
    with pytest.raises(FileNotFoundError, match="lacks bounding_box_test; was the archive extracted to its end"):
        read_market1501(tmp_path)


def test_an_empty_split_is_named(tmp_path):
    make(tmp_path, *MARKET[:2], "bounding_box_test/Thumbs.db")
    with pytest.raises(FileNotFoundError, match="bounding_box_test holds no image"):
        read_market_folder(tmp_path)


def test_a_root_with_two_copies_of_the_data_set_is_ambiguous(tmp_path):
    make(tmp_path, *MARKET)
    make(tmp_path / "Market-1501-v15.09.15", *MARKET)
    with pytest.raises(ValueError, match=r"Market-1501-v15.09.15 all look like the data set; give the one that is meant"):
        read_market1501(tmp_path)


def test_the_first_name_that_does_not_parse_is_given_with_the_number_of_others(tmp_path):
    make(tmp_path, *MARKET, "query/b.jpg", "query/a.jpg", "query/0001_x2.jpg")
    with pytest.raises(ValueError, match=r"query/0001_x2.jpg does not parse, nor do 2 other names there; expected names like 0002_c1s1_"):
        read_market_folder(tmp_path)


def test_a_query_of_nobody_is_an_error_that_says_to_count_people_from_one(tmp_path):
    make(tmp_path, *MARKET, "query/0000_c1s1_000001_01.jpg", "query/-1_c1s1_000001_01.jpg")
    with pytest.raises(ValueError, match=r"query/-1_c1s1_000001_01.jpg has pid -1, as have 1 others .* Number people from 1"):
        read_market_folder(tmp_path)


def test_a_folder_that_may_not_be_listed_is_named_with_the_permission_it_needs(tmp_path, monkeypatch):
    # root may list everything, so the refusal is put on rather than made with chmod
    make(tmp_path, *MARKET)
    listed = os.scandir

    def refuse(path):
        if Path(path).name == "query":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="query may not be listed by this user; grant read and execute permission"):
        read_market_folder(tmp_path)


def test_a_read_only_data_root_is_read_all_the_same():
    def read(folder):
        make(folder / "data", *MARKET)
        for part in (folder / "data", *(folder / "data").iterdir()):
            part.chmod(0o555)
        try:
            assert len(read_market_folder(folder / "data").train) == 1
        finally:
            for part in (folder / "data", *(folder / "data").iterdir()):
                part.chmod(0o755)

    as_another_user(read)


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    make(tmp_path, *MARKET[1:], "bounding_box_train")
    with pytest.raises(NotADirectoryError, match="bounding_box_train is a file where a folder of images was expected"):
        read_market_folder(tmp_path)


def msmt17(root: Path, line: str) -> Path:
    make(root, f"train/{MSMT_IMAGE}", f"test/{MSMT_IMAGE}")
    for name in ("train", "val", "query", "gallery"):
        (root / f"list_{name}.txt").write_text(f"{MSMT_IMAGE} 0\n{line if name == 'val' else ''}")
    return root


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("0000/0000_000_01_0303morning_0015_0.jpg\n", ValueError, r"list_val.txt, line 2: expected .* \(image, identity\), got"),
        ("0000/0000_c01.jpg 0\n", ValueError, "0000_c01.jpg does not parse; expected names like 0000_000_01"),
        ("../0000_000_01_0303morning_0015_0.jpg 0\n", ValueError, r"list_val.txt, line 2: '../0000_.*' leads out of .*train: put the"),
        ("0001/0001_000_01_0303morning_0015_0.jpg 1\n", FileNotFoundError, "is listed in the lists of .* but not there: put it there, or"),
    ],
)
def test_an_msmt17_list_that_does_not_fit_is_named_by_its_line_or_image(tmp_path, line, error, message):
    with pytest.raises(error, match=message):
        read_msmt17(msmt17(tmp_path, line))


def test_an_empty_msmt17_list_is_named(tmp_path):
    (msmt17(tmp_path, "") / "list_query.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"list_query.txt names no image"):
        read_msmt17(tmp_path)


def test_cub200_lists_that_number_different_images_are_an_error(tmp_path):
    make(tmp_path, "images/001.A/A.jpg")
    (tmp_path / "images.txt").write_text("1 001.A/A.jpg\n")
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 101\n")
    with pytest.raises(ValueError, match="number different images, first 2, 1 in all"):
        read_cub200(tmp_path)
    (tmp_path / "images.txt").write_text("1 /etc/passwd\n2 001.A/A.jpg\n")
    with pytest.raises(ValueError, match=r"images.txt, image 1: '/etc/passwd' leads out of .*images: put the files below it"):
        read_cub200(tmp_path)
    (tmp_path / "image_class_labels.txt").write_text("one 1\n")
    with pytest.raises(ValueError, match=r"image_class_labels.txt, line 1: .* got 'one 1'"):
        read_cub200(tmp_path)


def test_a_grid_partition_of_another_structure_is_an_error_with_a_way_on(tmp_path):
    make(tmp_path, "probe/0001_1_25004_107_32_106_221.jpeg", "gallery/0001_2_25004_107_32_106_221.jpeg")
    savemat(tmp_path / "features_and_partitions.mat", {"features": [1, 2]})
    with pytest.raises(ValueError, match=r"expected ten cells trainIdxAll.*move the file away to use a random split"):
        read_grid(tmp_path)


def test_an_ilids_test_person_with_a_single_image_is_named(tmp_path):
    make(tmp_path, "Persons/0001001.jpg", "Persons/0002001.jpg")
    with pytest.raises(ValueError, match=r"person 000\d of .*Persons has one image, but a query and a gallery image are needed"):
        read_ilids(tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: read_dataset("marketplace", root), "there is no data set 'marketplace'; known are market1501, "),
        (lambda root: read_dataset("market1501", root, split=1), "market1501 has one split only, got split=1"),
        (lambda root: read_grid(root, split=10), "GRID has splits 0 to 9, got 10"),
        (lambda root: read_msmt17(root, "v3"), "version must be 'v1' or 'v2', got 'v3'"),
        (lambda root: read_cuhk03_np(root, "drawn"), "boxes must be 'detected' or 'labeled', got 'drawn'"),
        (lambda root: read_viper(make(root, "cam_a/000_0.bmp", "cam_b/000_0.bmp"), split=-1), "split counts from 0, got -1"),
        (lambda root: read_viper(make(root, "cam_a/000_0.bmp", "cam_b/000_0.bmp")), "needs at least two people, found 1"),
    ],
)
def test_an_argument_out_of_range_is_an_error_that_names_what_there_is(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)


def test_unreadable_images_are_listed_with_the_reason_in_the_order_of_the_records(tmp_path):
    good, empty, text, cut = (str(tmp_path / name) for name in ("good.jpg", "empty.jpg", "text.jpg", "cut.jpg"))
    Image.effect_noise((64, 128), 80).save(good)
    Path(empty).touch()
    Path(text).write_text("not an image")
    Path(cut).write_bytes(Path(good).read_bytes()[:2000])
    records = [ImageRecord(path, 1, 1) for path in (text, good, cut, empty, empty, str(tmp_path / "gone.jpg"))]
    found = find_unreadable_images(records)
    assert [Path(image.path).name for image in found] == ["text.jpg", "empty.jpg", "gone.jpg"]
    assert found[1] == UnreadableImage(empty, "zero bytes")
    assert "FileNotFoundError" in found[2].reason
    decoded = find_unreadable_images(records, decode=True)
    assert [Path(image.path).name for image in decoded] == ["text.jpg", "cut.jpg", "empty.jpg", "gone.jpg"]
    assert "cut short" in decoded[1].reason
