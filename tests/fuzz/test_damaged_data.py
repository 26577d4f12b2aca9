"""Damaged, hostile and odd data over all readers: an error that names the file, or exactly what a second, plain reading of it says."""

from __future__ import annotations

import csv
import io
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fuzzing import TIMES
from scipy.io import savemat

from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.mot.sequence import read_annotation
from lightning_reid.datamodules.readers import read_market_folder, read_mars_folder, read_table, read_tracklet_table
from lightning_reid.datamodules.readers.market_naming import read_cuhk03_np, read_duke, read_market1501
from lightning_reid.datamodules.readers.msmt17 import read_msmt17

pytestmark = pytest.mark.filterwarnings("ignore::lightning_reid.datamodules.readers.official_counts.DatasetCountWarning")

Damage = Callable[[bytes, np.random.Generator], bytes]
NUMBERS = ["1e5", "\u0663", "\u00b2", "-2", "9" * 30, "1_0", " 3 ", "nan", "0x1", "1.0", "", "-1", "0", "+1", "1.5", "inf", "2.5E+18", "x"]


def flip(content: bytes, draw: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    damaged[draw.integers(len(content))] ^= 1 << draw.integers(8)
    return bytes(damaged)


def cut(content: bytes, draw: np.random.Generator) -> bytes:
    return content[: draw.integers(len(content))]


def zero(content: bytes, draw: np.random.Generator) -> bytes:
    place, length = draw.integers(len(content)), draw.integers(1, 40)
    return content[:place] + bytes(len(content[place : place + length])) + content[place + length :]


def insert(content: bytes, draw: np.random.Generator) -> bytes:
    place = draw.integers(len(content))
    strange = [b'"', b"\0", b"\xff", b"\n", b",", b";", b"../", b"/etc/", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b" "]
    return content[:place] + strange[draw.integers(len(strange))] + content[place:]


def recode(content: bytes, draw: np.random.Generator) -> bytes:
    encoding = ["utf-16", "utf-32", "utf-16-le", "utf-8-sig", "latin-1"][draw.integers(5)]
    return (content.decode() + "# stra\u00dfe").encode(encoding)


def drop_line(content: bytes, draw: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(np.delete(np.array(lines, dtype=object), draw.integers(len(lines))))


def double_line(content: bytes, draw: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    place = draw.integers(len(lines))
    return b"".join([*lines[:place], lines[place], *lines[place:]])


def other_number(content: bytes, draw: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"(?<=[,;\t ])-?[0-9]+(?=[,;\t\n])", content))
    place = found[draw.integers(len(found))]
    return content[: place.start()] + NUMBERS[draw.integers(len(NUMBERS))].encode() + content[place.end() :]


TEXT_DAMAGES: list[Damage] = [flip, cut, zero, insert, recode, drop_line, double_line, other_number]
BYTE_DAMAGES: list[Damage] = [flip, cut, zero]


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def records(dataset) -> list[tuple]:
    """Split, files, person, camera, domain and frame of all records."""
    return [
        (split, getattr(one, "paths", None) or (one.path,), one.pid, one.camid, one.domain, one.frame)
        for split, held in dataset.splits()
        for one in held
    ]


def outcome(read: Callable[[], object], root: Path) -> object | None:
    """What was read, or nothing where that is refused by name."""
    try:
        return read()
    except (ValueError, OSError) as error:
        assert str(root) in str(error)  # noqa: PT017
        return None


def ids(cells: list[str], reserved: tuple[str, ...]) -> list[int]:
    cells = [unicodedata.normalize("NFC", cell) for cell in cells]
    if all(re.fullmatch("-?[0-9]+", cell) for cell in cells) and all(len(cell) < 19 for cell in cells):
        return [int(cell) for cell in cells]
    as_number = all(re.fullmatch("-?[0-9]+", cell) for cell in cells)
    order = sorted({int(cell) if as_number else cell for cell in cells} - {int(one) if as_number else one for one in reserved})
    return [int(cell) if cell in reserved else order.index(int(cell) if as_number else cell) + 1 for cell in cells]


def plain_table(content: bytes, root: Path) -> list[tuple]:
    """What a table of images says, read another way."""
    text = content.decode("utf-8-sig")
    heading = next(line for line in text.splitlines() if line.strip())
    separator = max(",;\t", key=heading.count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)]
    names, *rows = [row for row in rows if any(row)]
    table = [dict(zip([name.lower() for name in names], row, strict=True)) for row in rows]
    pids, camids = ids([row["pid"] for row in table], ("-1", "0")), ids([row["camid"] for row in table], ())
    assert min(pids, default=0) >= -1
    assert min(camids, default=0) >= 0
    found = [
        (row["split"], (str(root / row["path"]),), pid, camid, row.get("domain") or "t", int(row.get("frame") or -1))
        for row, pid, camid in zip(table, pids, camids)
    ]
    assert {one[0] for one in found} <= {"train", "query", "gallery"}
    return sorted(found, key=lambda one: ("train", "query", "gallery").index(one[0]))


TABLE = "path,pid,camid,split,frame,domain\n" + "".join(
    f"a/{number}.jpg,{1 + number // 4},{number % 3},{split},{10 + number},{'night' if number % 2 else ''}\n"
    for number, split in enumerate(["train"] * 4 + ["query"] * 2 + ["gallery"] * 4)
)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return touched(tmp_path_factory.mktemp("table"), *(f"a/{number}.jpg" for number in range(10)))


@pytest.mark.parametrize("seed", range(40 * TIMES))
def test_a_damaged_table_is_refused_by_name_or_read_as_it_is(table, seed):
    draw = np.random.default_rng(seed)
    content = TEXT_DAMAGES[seed % len(TEXT_DAMAGES)](TABLE.replace(",", ",;\t"[seed % 3]).encode(), draw)
    (table / "t.csv").write_bytes(content)
    read = outcome(lambda: read_table(table / "t.csv", needs_train=False, needs_test=False), table)
    if read is not None:
        assert records(read) == plain_table(content, table)


@pytest.mark.parametrize("seed", range(10 * TIMES))
def test_a_damaged_table_of_tracklets_is_refused_by_name_or_read_as_it_is(table, seed):
    draw = np.random.default_rng(seed)
    rows = "".join(f"a/{number}.jpg,{1 + number // 4},{number // 4},{number // 2},train\n" for number in range(10))
    content = TEXT_DAMAGES[seed % len(TEXT_DAMAGES)](f"path,pid,camid,tracklet,split\n{rows}".encode(), draw)
    (table / "t.csv").write_bytes(content)
    read = outcome(lambda: read_tracklet_table(table / "t.csv", needs_train=False, needs_test=False), table)
    if read is not None:
        frames = [(path, pid, camid) for _, paths, pid, camid, _, _ in records(read) for path in paths]
        assert sorted(frames) == sorted((path, pid, camid) for _, (path,), pid, camid, _, _ in plain_table(content, table))


@pytest.fixture(scope="module")
def whole_mars(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mars")
    frames = {"train": ["0001C1", "0001C2", "0002C1"], "test": ["0003C1", "0003C2", "0000C3"]}
    (root / "info").mkdir()
    for split, tracklets in frames.items():
        names = [f"{tracklet}T0001F{frame:03d}.jpg" for tracklet in tracklets for frame in (1, 2)]
        touched(root, *(f"bbox_{split}/{name[:4]}/{name}" for name in names))
        (root / "info" / f"{split}_name.txt").write_text("\n".join(names))
        rows = [[2 * place + 1, 2 * place + 2, int(one[:4]), int(one[5])] for place, one in enumerate(tracklets)]
        savemat(root / "info" / f"tracks_{split}_info.mat", {f"track_{split}_info": np.array(rows, dtype=float)})
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.array([[1, 2]], dtype=float)})
    return root


def plain_mars(root: Path) -> list[tuple]:
    """What the lists of MARS say: numbers are the last bytes of a file of one variable."""

    def numbers(name: str, count: int) -> list[int]:
        last = (root / "info" / name).read_bytes()[-8 * count :]
        return [int(one) for one in np.frombuffer(last, dtype="<f8")]

    found = {}
    for split in ("train", "test"):
        names = (root / "info" / f"{split}_name.txt").read_text("utf-8-sig").split()
        rows = np.array(numbers(f"tracks_{split}_info.mat", 12)).reshape(4, 3).T.tolist()
        found[split] = []
        for first, last, pid, camid in rows:
            assert all(one[:6] == f"{pid:04d}C{camid}" for one in names[first - 1 : last])
            paths = tuple(f"{root}/bbox_{split}/{one[:4]}/{one}" for one in names[first - 1 : last])
            found[split].append((paths, pid, camid, root.name, -1))
    query = [found["test"][one - 1] for one in numbers("query_IDX.mat", 2)]
    return [(split, *one) for split, held in (("train", found["train"]), ("query", query), ("gallery", found["test"])) for one in held]


@pytest.mark.parametrize("seed", range(30 * TIMES))
def test_damaged_lists_of_mars_are_refused_by_name_or_read_as_they_are(whole_mars, tmp_path, seed):
    draw = np.random.default_rng(seed)
    root = tmp_path / "mars"
    root.mkdir()
    shutil.copytree(whole_mars / "info", root / "info")
    for folder in ("bbox_train", "bbox_test"):
        (root / folder).symlink_to(whole_mars / folder)
    assert records(read_mars_folder(root)) == plain_mars(root)
    names = sorted(path.name for path in (root / "info").iterdir())
    listed = root / "info" / names[seed % len(names)]
    damages = TEXT_DAMAGES[:-1] if listed.suffix == ".txt" else BYTE_DAMAGES
    listed.write_bytes(damages[seed // len(names) % len(damages)](listed.read_bytes(), draw))
    read = outcome(lambda: read_mars_folder(root), root)
    if read is not None:
        assert records(read) == plain_mars(root)


@pytest.mark.parametrize("seed", range(20 * TIMES))
def test_a_damaged_annotation_of_mot_is_refused_by_name_or_read_as_it_is(tmp_path, seed):
    draw = np.random.default_rng(seed)
    rows = [f"{frame},{track},{10 * track},{frame},20,60.5,1,1,0.{frame}\n" for track in (1, 2) for frame in range(1, 6)]
    content = TEXT_DAMAGES[seed % len(TEXT_DAMAGES)]("".join(rows).encode(), draw)
    (tmp_path / "gt.txt").write_bytes(content)
    boxes = outcome(lambda: read_annotation(tmp_path / "gt.txt"), tmp_path)
    if boxes is not None:
        told = [[float(cell) for cell in line.split(",")] for line in content.decode("utf-8-sig").split("\n") if line.strip()]
        assert [
            (one.frame, one.mot_id, one.x, one.y, one.width, one.height, one.considered, one.category, one.visible) for one in boxes
        ] == [(*row[:6], row[6] != 0, *(row[7:] or (1, None))) for row in told]


@pytest.mark.parametrize("seed", range(10 * TIMES))
def test_damaged_lists_of_msmt17_are_refused_by_name_or_read_as_they_are(tmp_path, seed):
    draw = np.random.default_rng(seed)
    images = {
        split: [f"{pid:04d}/{pid:04d}_00{number}_0{number + 1}_0303morning_0015_0.jpg" for pid in range(2) for number in range(2)]
        for split in ("train", "test")
    }
    touched(tmp_path, *(f"{split}/{image}" for split, held in images.items() for image in held))
    lists = {name: images["train" if name in ("train", "val") else "test"] for name in ("train", "val", "query", "gallery")}
    for name, held in lists.items():
        held = held[:2] if name == "val" else held[2:] if name == "train" else held
        (tmp_path / f"list_{name}.txt").write_text("".join(f"{image} {int(image[:4])}\n" for image in held))
    damaged = tmp_path / f"list_{[*lists][seed % 4]}.txt"
    damaged.write_bytes(TEXT_DAMAGES[seed % len(TEXT_DAMAGES)](damaged.read_bytes(), draw))
    read = outcome(lambda: read_msmt17(tmp_path), tmp_path)
    if read is not None:
        told = []
        for name, split in (("train", "train"), ("val", "train"), ("query", "query"), ("gallery", "gallery")):
            for line in (tmp_path / f"list_{name}.txt").read_text("utf-8-sig").splitlines():
                if line.strip():
                    image, pid = line.strip().rsplit(" ", 1)
                    path = str(tmp_path / ("train" if split == "train" else "test") / image)
                    told.append((split, (path,), int(pid) + 1, int(image.split("_")[2]), "msmt17-v1", 15))
        assert records(read) == told


NAMES = {
    "0002_c1s1_000451_03.jpg": (2, 1, 451),
    "0002_c2_f0046182.jpg": (2, 2, 46182),
    "-1_c5s1_000501_04.jpg": (-1, 5, 501),
    "0000_c1s1_000151_01.jpg": (0, 1, 151),
    "7_c2.PNG": (7, 2, -1),
    "0001_c1_1732807234123456789.jpg": (1, 1, 1732807234123456789),
    "0001_c1_2024-11-28.jpg": (1, 1, -1),
    "0001_c1s1_000001_00 (1).webp": (1, 1, 1),
    "0001_c1s1_000001_00\n.jpg": (1, 1, 1),
    "9223372036854775807_c1_1.jpg": (2**63 - 1, 1, 1),
    "9223372036854775808_c1_1.jpg": None,
    "1_c9223372036854775808_1.jpg": None,
    "1_c1_9223372036854775808.jpg": None,
    "-2_c1s1_000001_00.jpg": None,
    "\u0663_c1_1.jpg": None,
    "\u00b2_c1_1.jpg": None,
    "1_c\u0661_1.jpg": None,
    "person1_cam1_000.jpg": None,
    "0001_C1s1_000001_00.jpg": None,
    " 1_c1_1.jpg": None,
    "1e3_c1_1.jpg": None,
    "1_000_c1_1.jpg": None,
    "_c1_1.jpg": None,
    "$(reboot).jpg": None,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", [read_market_folder, read_market1501, read_duke, read_cuhk03_np])
def test_a_name_gives_who_where_and_when_or_is_refused(tmp_path, reader, name):
    top = "detected/" if reader is read_cuhk03_np else ""
    others = [f"{top}{folder}/0009_c1_1.jpg" for folder in ("bounding_box_train", "query", "bounding_box_test")]
    read = outcome(lambda: reader(touched(tmp_path, *others, f"{top}bounding_box_train/{name}")), tmp_path)
    if NAMES[name] is None:
        assert read is None
    else:
        ((pid, camid, frame),) = [(one.pid, one.camid, one.frame) for one in read.train if one.path.endswith(name)]
        assert (pid, camid, frame) == NAMES[name]


PIXELS = np.random.default_rng(0).integers(0, 255, (24, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("seed", range(18 * TIMES))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_damaged_image_is_refused_by_name_or_has_its_pixels(tmp_path, suffix, seed):
    whole = cv2.imencode(suffix, PIXELS)[1].tobytes()
    damages = BYTE_DAMAGES if suffix == ".png" else [cut]  # what is damaged within a JPEG cannot be noticed
    content = damages[seed % len(damages)](whole, np.random.default_rng(seed))
    (tmp_path / f"a{suffix}").write_bytes(content)
    try:
        read = load_image(str(tmp_path / f"a{suffix}"))
    except CorruptImageError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017
        return
    expected = cv2.imdecode(np.frombuffer(whole, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(read.permute(1, 2, 0).numpy(), expected)
