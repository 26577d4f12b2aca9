"""Names and tables that users of other libraries reported: the readers and ``doctor`` read them right, or say what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from verbs import refused, told

from lightning_reid.datamodules.readers import read_market_folder, read_table
from lightning_reid.datamodules.readers.market_naming import MARKET_FOLDERS
from lightning_reid.records import ReIDDataset

PLAIN = (16, 6, 12)
"""Training images, queries and gallery images of ``market``."""
CONVERT = "a folder of other names becomes a table by lightning-reid convert"


def paint(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 8)).save(path, format=None if path.suffix.lower() in Image.registered_extensions() else "PNG")
    return path


def market(root: Path, ids: int = 4, start: int = 1) -> Path:
    """Four people to train on, with two images in each of two cameras, and three to test."""
    for pid in range(start, start + ids + 3):
        is_test = pid >= start + ids
        for camera in (1, 2):
            for frame in (0, 1, 2) if is_test else (1, 2):
                folder = MARKET_FOLDERS[0 if not is_test else 1 if frame == 0 else 2]
                paint(root / folder / f"{pid:04d}_c{camera}s1_{frame:06d}_00.jpg")
    return root


def counts(data: ReIDDataset) -> tuple[int, ...]:
    return tuple(len(records) for _, records in data.splits())


NAMES: dict[str, str | None] = {
    "001_c1.jpg": None,
    "0001_c01_000001.jpg": None,
    "0001_c1s1_000001_00.JPG": None,
    "0001_c1s1_000001_00 (1).jpg": None,
    "0001_c1s1_000001_00 (1).jpeg": None,
    "0001_c1_2024-11-28_10-22-33.jpg": None,
    "0001_c1_1732807234123456789.jpg": None,
    "0000_c1s1_000001_00.jpg": None,
    "-1_c1s1_000001_00.jpg": None,
    "0001_c1s1_000001_00.jpg.jpg": None,
    "0001_c1s1_000001_00.webp": None,
    "0001_c1s1_000001_00.jfif": None,
    "person1_cam1_000.jpg": f"expected names like 0002_c1s1_000451_03.jpg. Rename it, .*{CONVERT}",
    "1-c1-0.jpg": CONVERT,
    "0001C1T0001F001.jpg": CONVERT,
    "0001_C1s1_000001_00.jpg": CONVERT,
    "0001_c1 copy.jpg": "does not parse; expected names like .* move what is no part of the data set out of the folder",
    "-2_c1s1_000001_00.jpg": "does not parse",
    "٣_c١_1.jpg": "does not parse",
    "12345678901234567890123_c1_1.jpg": "of more than 63 bits: .* or list the images in a table, whose ids may be of any size",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_beside_those_of_market_is_read_or_refused_with_the_remedy(name, tmp_path, capsys):
    root = market(tmp_path / "market")
    others = len(list((root / MARKET_FOLDERS[0]).iterdir()))
    paint(root / MARKET_FOLDERS[0] / name)
    added = len(list((root / MARKET_FOLDERS[0]).iterdir())) - others  # 0 where it is the name of an image that is there
    if NAMES[name] is None:
        data = read_market_folder(root)
        assert counts(data) == (PLAIN[0] + added, *PLAIN[1:])
        pid, camid = (int(name.split("_")[0]), int(name.split("_c")[1].split("s")[0].split("_")[0].split(".")[0]))
        assert any(Path(one.path).name == name and (one.pid, one.camid) == (pid, camid) for one in data.train)
        found = told(capsys, "doctor", root, "--quick")
        assert found["splits"]["train"]["images"] == PLAIN[0] + added
        assert any("show nobody" in note for note in found["notes"]) == (pid < 1)
        return
    with pytest.raises(ValueError, match=NAMES[name]):
        read_market_folder(root)
    assert name in refused(capsys, "doctor", root)


def test_a_file_that_is_still_downloaded_is_passed_over_and_told(tmp_path, capsys):
    root = market(tmp_path / "market")
    (root / MARKET_FOLDERS[0] / "0001_c1s1_000001_00.png.part").write_bytes(b"x")
    assert counts(read_market_folder(root)) == PLAIN
    assert any("passed over *.part" in note for note in told(capsys, "doctor", root, "--quick")["notes"])


@pytest.mark.parametrize("part", MARKET_FOLDERS)
def test_a_part_of_a_folder_in_the_market_naming_leads_to_the_whole(part, tmp_path, capsys):
    root = market(tmp_path / "market")
    if part == "bounding_box_test":
        for name in ("-1_c1s1_000001_00.jpg", "-1_c2s3_000102_10.jpg", "0000_c1s2_000001_01.jpg"):
            paint(root / part / name)
    found = told(capsys, "doctor", root / part, "--quick")
    counted = {
        "bounding_box_train": {"images": 16, "people": 4, "cameras": 2},
        "query": {"images": 6, "people": 3, "cameras": 2},
        "bounding_box_test": {"images": 15, "people": 3, "cameras": 2, "distractors": 1, "junk": 2},
    }
    assert found["what"] == "a part of a folder in the Market naming"
    assert list(found["splits"].values()) == [counted[part]]
    assert f"give its parent folder {root} for all of it" in found["notes"]
    assert found["next"] == [f"lightning-reid doctor {root}", f"lightning-reid embed {root / part} {part}.npz"]
    assert f"lightning-reid doctor {root}" in refused(capsys, "convert", root / part, root / "out.csv")
    assert told(capsys, "doctor", root, "--quick")["what"] == "a folder in the Market naming"


def test_junk_beside_names_of_market_makes_no_other_number_the_person(tmp_path, capsys):
    root = market(tmp_path / "market")
    mine = (root / "bounding_box_train").rename(tmp_path / "mine")
    paint(mine / "0000_c1s1_000001_00.jpg")
    assert told(capsys, "doctor", mine, "--quick")["what"].endswith("named {person}_c{camera}s*_{frame}_*")
    paint(mine / "-1_c1s1_000001_00.jpg")
    found = told(capsys, "doctor", mine, "--quick")
    assert "-1_c1s1_000001_00.jpg is junk by the naming of Market-1501" in found["notes"][-1]
    assert "--pattern" not in found["notes"][-1]
    assert "is junk" in refused(capsys, "convert", mine, tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("names", "pattern", "people", "cameras"),
    [
        ("person{p}_cam{c}_00{f}.jpg", "person{person}_cam{camera}_{frame}", 4, 2),
        ("{p}-c{c}-{f}.jpg", "{person}-c{camera}-{frame}", 4, 2),
        ("000{p}C{c}T0001F00{f}.jpg", "{person}C{camera}T*F{frame}", 4, 2),
        ("000{p}_C{c}s1_00000{f}_00.jpg", "{person}_C{camera}s*_{frame}_*", 4, 2),
        ("-{p}_c{c}s1_00000{f}_00.jpg", None, 0, 0),
    ],
)
def test_a_folder_of_names_that_market_has_not_is_converted(names, pattern, people, cameras, tmp_path, capsys):
    for p, c, f in ((p, c, f) for p in (1, 2, 3, 4) for c in (1, 2) for f in (1, 2)):
        paint(tmp_path / "mine" / names.format(p=p, c=c, f=f))
    if pattern is None:
        assert "Say which it is" in refused(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv")
        return
    made = told(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv")
    assert made["pattern"] == pattern
    data = read_table(tmp_path / "mine.csv")
    records = [record for _, records in data.splits() for record in records]
    assert (len(records), len({one.pid for one in records}), len({one.camid for one in records})) == (16, people, cameras)


def by_person(folder: Path, most: int | None = None) -> None:
    for path in sorted(folder.iterdir())[:most]:
        (folder / path.name[:4]).mkdir(exist_ok=True)
        path.rename(folder / path.name[:4] / path.name)


def other_names(root: Path) -> None:
    (root / "bounding_box_train").rename(root / "train")
    (root / "bounding_box_test").rename(root / "gallery")


def beside(root: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "._0005_c1s1_000000_00.jpg", "desktop.ini"):
        (root / "query" / name).write_bytes(b"x")


def webp(root: Path) -> None:
    for path in list((root / "bounding_box_train").glob("*_c2*")):
        Image.open(path).save(path.with_suffix(".webp"))
        path.unlink()


def link(root: Path) -> None:
    (root / "query").rename(root.parent / "elsewhere")
    (root / "query").symlink_to(root.parent / "elsewhere")


def empty_query(root: Path) -> None:
    shutil.rmtree(root / "query")
    (root / "query").mkdir()


FOLDERS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "Thumbs.db and the like": (beside, None),
    "half of the images by person": (lambda root: by_person(root / "bounding_box_train", 8), None),
    "all images by person": (lambda root: by_person(root / "bounding_box_train"), None),
    "one camera's images as WebP": (webp, None),
    "a link to the queries": (link, None),
    "no query": (empty_query, "query holds no image"),
    "no gallery": (lambda root: shutil.rmtree(root / "bounding_box_test"), "lacks bounding_box_test; .*lightning-reid convert"),
    "train, query, gallery": (other_names, "lacks bounding_box_train, bounding_box_test; .* become a table by lightning-reid convert"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_as_people_have_it_is_read_or_refused_with_the_remedy(kind, tmp_path, capsys):
    root = market(tmp_path / "market")
    change, message = FOLDERS[kind]
    change(root)
    found = told(capsys, "doctor", root, "--quick")
    if message is None:
        assert counts(read_market_folder(root)) == PLAIN
        assert tuple(split["images"] for split in found["splits"].values()) == PLAIN
        return
    with pytest.raises(FileNotFoundError, match=message):
        read_market_folder(root)
    if kind == "train, query, gallery":
        assert found["what"].endswith("named {split}/{person}_c{camera}s*_{frame}_*")
        assert found["next"][0].startswith("lightning-reid convert")
        told(capsys, "convert", root, tmp_path / "market.csv")
        assert counts(read_table(tmp_path / "market.csv")) == PLAIN
    else:
        missing = "query" if kind == "no query" else "gallery"
        assert f"it has no images of split {missing}: nothing can be scored on it" in found["notes"]
        assert found["next"][0].startswith("lightning-reid train fit")


def test_people_from_0_are_told_and_no_queries(tmp_path, capsys):
    root = market(tmp_path / "market", start=0)
    assert any("if people are numbered from 0, number them from 1" in note for note in read_market_folder(root).notes)
    assert any("number them from 1" in note for note in told(capsys, "doctor", root, "--quick")["notes"])
    root = market(tmp_path / "tested", ids=0, start=0)
    with pytest.raises(ValueError, match=r"has pid 0, as have 1 others .* Number people from 1"):
        read_market_folder(root, needs_train=False)
    assert "Number people from 1" in refused(capsys, "doctor", root)


HEAD = ["path", "pid", "camid", "split"]
Rows = list[list[object]]


def listed(root: Path) -> Rows:
    """Rows of two people to train on and two to test, whose images are there."""
    market(root, ids=2)
    splits = dict(zip(MARKET_FOLDERS, ("train", "query", "gallery")))
    files = [path for folder in MARKET_FOLDERS for path in sorted((root / folder).iterdir()) if int(path.name[:4]) <= 4]
    return [[f"{path.parent.name}/{path.name}", int(path.name[:4]), int(path.name[6]), splits[path.parent.name]] for path in files]


def text(rows: Rows, head: list[str] = HEAD, sep: str = ",", end: str = "\n") -> str:
    return end.join(sep.join(map(str, row)) for row in [head, *rows]) + end


def column(place: int, change: Callable[[object], object]) -> Callable[[Rows], str]:
    return lambda rows: text([[change(cell) if at == place else cell for at, cell in enumerate(row)] for row in rows])


CLOCK = 2024112815300000001
READ: dict[str, tuple[Callable[[Rows], str | bytes], list[int], list[int]]] = {
    "plain": (text, [1, 2], [1, 2]),
    "a byte order mark": (lambda rows: text(rows).encode("utf-8-sig"), [1, 2], [1, 2]),
    "semicolons": (lambda rows: text(rows, sep=";"), [1, 2], [1, 2]),
    "tabs": (lambda rows: text(rows, sep="\t"), [1, 2], [1, 2]),
    "CRLF": (lambda rows: text(rows, end="\r\n"), [1, 2], [1, 2]),
    "CR": (lambda rows: text(rows, end="\r"), [1, 2], [1, 2]),
    "spaces after commas": (lambda rows: text(rows, sep=", "), [1, 2], [1, 2]),
    "spaces before commas": (lambda rows: text(rows, sep=" ,"), [1, 2], [1, 2]),
    "headings in capitals": (lambda rows: text(rows, ["Path", "PID", "CamID", "Split"]), [1, 2], [1, 2]),
    "people by name": (column(1, lambda pid: f"person_{pid}"), [1, 2], [1, 2]),
    "cameras by name": (column(2, lambda camid: f"cam{camid}"), [1, 2], [1, 2]),
    "cameras with leading zeros": (column(2, lambda camid: f"0{camid}"), [1, 2], [1, 2]),
    "people from 0": (column(1, lambda pid: pid - 1), [0, 1], [1, 2]),
    "cameras from 0": (column(2, lambda camid: camid - 1), [1, 2], [0, 1]),
    "people of 19 digits": (column(1, lambda pid: CLOCK + pid), [CLOCK + 1, CLOCK + 2], [1, 2]),
    "people of 17 digits": (column(1, lambda pid: 10**16 + pid), [10**16 + 1, 10**16 + 2], [1, 2]),
    "people of 24 digits": (column(1, lambda pid: 10**23 + pid), [1, 2], [1, 2]),
    "cameras of 19 digits": (column(2, lambda camid: CLOCK + camid), [1, 2], [CLOCK + 1, CLOCK + 2]),
    "people as 1_000": (column(1, lambda pid: f"1_{pid:03d}"), [1, 2], [1, 2]),
    "people in hexadecimal": (column(1, hex), [1, 2], [1, 2]),
    "empty lines": (lambda rows: text(rows).replace("\n", "\n\n"), [1, 2], [1, 2]),
    "quoted paths": (column(0, lambda path: f'"{path}"'), [1, 2], [1, 2]),
    "Excel's line": (lambda rows: "sep=,\n" + text(rows), [1, 2], [1, 2]),
}


@pytest.mark.parametrize("kind", READ)
def test_a_table_as_people_have_it_is_read_right(kind, tmp_path, capsys):
    make, pids, camids = READ[kind]
    content = make(listed(tmp_path))
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    data = read_table(tmp_path / "t.csv")
    assert counts(data) == (8, 4, 8)
    assert sorted({one.pid for one in data.train}) == pids
    assert sorted({one.camid for one in data.train}) == camids
    truth = {(int(Path(one.path).name[:4]), one.pid) for _, records in data.splits() for one in records}
    assert len(truth) == 4, "each person of the names is one of the table"
    found = told(capsys, "doctor", tmp_path / "t.csv", "--quick")
    assert [split["images"] for split in found["splits"].values()] == [8, 4, 8]
    assert found["queries without a match in another camera"] == 0
    noted = {
        "people by name": "is text",
        "cameras by name": "is text",
        "people from 0": "number them from 1",
        "people of 24 digits": "63 bits",
    }
    assert kind not in noted or any(noted[kind] in note for note in found["notes"])
    assert kind != "people of 19 digits" or "look like clocks" in found["problems"][0]


REFUSED: dict[str, tuple[Callable[[Rows], str | bytes], str]] = {
    "UTF-16": (lambda rows: text(rows).encode("utf-16"), "is text in UTF-16, .*: save it as UTF-8"),
    "Windows-1252": (
        lambda rows: text([[*row, "Müller"] for row in rows], [*HEAD, "who"]).encode("cp1252"),
        "line 2: the byte 0xfc is no UTF-8, .*: save it as UTF-8",
    ),
    "no heading": (lambda rows: text(rows[1:], list(map(str, rows[0]))), "Expected a heading with path, pid, camid, split"),
    "other headings": (
        lambda rows: text(rows, ["image", "id", "camera", "set"]),
        "lacks the columns path, .* Expected a heading with path",
    ),
    "no cameras": (
        lambda rows: text([[row[0], row[1], row[3]] for row in rows], ["path", "pid", "split"]),
        "where cameras are not known, write 0 in a column camid",
    ),
    "backslashes": (column(0, lambda path: str(path).replace("/", "\\")), "nor are 19 others: write / between folders"),
    "a drive": (column(0, lambda path: "C:\\data\\" + str(path)), "write paths as they are on this machine, from the table's folder on"),
    "people as decimals": (column(1, lambda pid: f"{pid}.0"), "line 2: the column 'pid' has '1.0', a whole number as a fraction: write 1"),
    "a decimal comma": (column(1, lambda pid: f'"{pid},0"'), "has '1,0', a whole number as a fraction: write 1"),
    "splits val and test": (
        column(3, lambda split: {"query": "val", "gallery": "test"}.get(str(split), split)),
        "line 14: the column 'split' must be one of train, query, gallery, val, got 'test'",
    ),
    "splits in capitals": (
        column(3, lambda split: str(split).title()),
        "line 2: .* must be one of train, query, gallery, val, got 'Train'",
    ),
    "an image that is not there": (
        lambda rows: text([["no/such.jpg", 1, 1, "train"], *rows]),
        "such.jpg is listed in .* but not there: put it there, or take it out of the list",
    ),
    "an image twice": (
        lambda rows: text([rows[0], *rows]),
        "line 3: .* is listed a second time for split 'train': take one of the rows out",
    ),
    "a comment": (lambda rows: "# made by hand\n" + text(rows), "its first line holds '# made by hand'. Expected a heading with path"),
    "nothing": (lambda rows: "", "its first line holds nothing. Expected a heading with path"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_cannot_be_read_right_is_refused_with_the_remedy(kind, tmp_path, capsys):
    make, message = REFUSED[kind]
    content = make(listed(tmp_path))
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_table(tmp_path / "t.csv")
    if kind != "no cameras":  # a table without cameras, people and splits can be trained on without labels
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            read_table(tmp_path / "t.csv", needs_train=False, needs_test=False, unlabeled=True)
        assert refused(capsys, "doctor", tmp_path / "t.csv") == f"lightning-reid doctor: {error.value}\n"
    else:
        unlabeled = read_table(tmp_path / "t.csv", needs_train=False, needs_test=False, unlabeled=True)
        assert set(unlabeled.notes) <= set(told(capsys, "doctor", tmp_path / "t.csv", "--quick")["notes"])


@pytest.mark.parametrize("missing", ["query", "all"])
def test_a_table_of_which_a_part_is_missing_says_which_and_can_be_looked_at(missing, tmp_path, capsys):
    rows = [row for row in listed(tmp_path) if row[3] != missing and missing != "all"]
    (tmp_path / "t.csv").write_text(text(rows), encoding="utf-8")
    there, split = ("train, gallery", "query") if rows else ("none at all", "train")
    with pytest.raises(ValueError, match=f"has no row of split '{split}', but of {there}: write '{split}' into the column 'split' of some"):
        read_table(tmp_path / "t.csv")
    found = told(capsys, "doctor", tmp_path / "t.csv", "--quick", code=0 if rows else 1)
    assert not rows or "it has no images of split query: nothing can be scored on it" in found["notes"]


def test_the_same_image_may_be_a_query_and_in_the_gallery(tmp_path):
    rows = listed(tmp_path)
    query = next(row for row in rows if row[3] == "query")
    (tmp_path / "t.csv").write_text(text([*rows, [*query[:3], "gallery"]]), encoding="utf-8")
    assert counts(read_table(tmp_path / "t.csv")) == (8, 4, 9)


@pytest.mark.parametrize(("name", "content"), [("t.xlsx", b"PK\3\4" + b"\0" * 50), ("t.json", b'[{"path":"a.jpg"}]')])
def test_a_table_of_another_kind_is_refused_by_its_content(name, content, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"is no text: .* save it as UTF-8|Expected a heading with path"):
        read_table(tmp_path / name)
    assert "save it as UTF-8" in told(capsys, "doctor", tmp_path / name, code=1)["what"]


def test_a_table_that_is_not_there_tells_what_it_should_have(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"there is no table {tmp_path}/no_such.csv; expected .* path, pid, camid, split"):
        read_table("~/no_such.csv")
    assert "there is nothing at" in refused(capsys, "doctor", tmp_path / "no_such.csv")


@pytest.mark.parametrize("kind", ["19 digits", "text", "categories"])
def test_a_parquet_table_is_read_right(kind, tmp_path, capsys):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = listed(tmp_path)
    made = {
        "19 digits": (pa.int64(), lambda pid: CLOCK + pid, [CLOCK + 1, CLOCK + 2]),
        "text": (pa.string(), str, [1, 2]),
        "categories": (pa.dictionary(pa.int32(), pa.string()), str, [1, 2]),
    }
    of, change, pids = made[kind]
    columns = {"path": [row[0] for row in rows], "pid": pa.array([change(row[1]) for row in rows], of)}
    parquet.write_table(pa.table({**columns, "camid": [row[2] for row in rows], "split": [row[3] for row in rows]}), tmp_path / "t.parquet")
    data = read_table(tmp_path / "t.parquet")
    assert counts(data) == (8, 4, 8)
    assert sorted({one.pid for one in data.train}) == pids
    assert told(capsys, "doctor", tmp_path / "t.parquet", "--quick")["splits"]["train"]["people"] == 2
