"""How people name crops, most as public questions and repositories show it: the right people are read, or nobody is guessed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from verbs import refused, told

from lightning_reid.command_line.main import main

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
NAMES = ("Aaron_Eckhart", "Bo_Li", "Carla_Del_Ponte", "Dora_Bakoyannis")
CHINESE = ("张三", "李四", "王五", "赵六")
UUIDS = tuple(f"{digit * 8}-e29b-41d4-a716-44665544000{digit}" for digit in "3a7f")


MADE_UP = "made up, as cameras, systems and people name files"


class Naming(NamedTuple):
    """One way to name crops.

    Attributes:
        source: The repository, with the number of the thread, or the file or data set, where it was seen; or ``MADE_UP``.
        name: The path of a crop of a person (1 to 4), camera (1 or 2) and frame (1 to 3).
        guess: Its pattern, as it is guessed; ``None`` where nobody can tell from names alone.
        given: A pattern that reads it, where it is not guessed; ``None`` where names tell no people.
        says: Words of the refusal to guess.
        cameras: How many are read.
    """

    source: str
    name: Callable[[int, int, int], str]
    guess: str | None
    given: str | None = None
    says: str = "which part is the person cannot be told for sure"
    cameras: int = 2


NAMINGS = {
    "person, frame": Naming(
        "KaiyangZhou/deep-person-reid 508", lambda p, c, f: f"person_{p:03d}_{3 * c + f:03d}.jpg", "person_{person}_{frame}", cameras=0
    ),
    "cameras as folders": Naming(
        "emrahbasaran/SPReID 9", lambda p, c, f: f"cuhk03/cam_{c}/{p:05d}_{f:05d}.bmp", None, "cuhk03/{camera}/{person}_{frame}"
    ),
    "digits alone": Naming(
        "Cysu/dgd_person_reid 18",
        lambda p, c, f: f"{p:04d}{3 * c + f:03d}.png",
        None,
        "{person:4}{frame}",
        "what may be the person may be a frame too",
        cameras=0,
    ),
    "three numbers": Naming(
        "huanghoujing/person-reid-triplet-loss-baseline 9",
        lambda p, c, f: f"{p:08d}_{c:04d}_{f:08d}.jpg",
        None,
        "{person}_{camera}_{frame}",
    ),
    "camera last": Naming(
        "nwojke/cosine_metric_learning 98", lambda p, c, f: f"{p:04d}_{f:04d}_{c}.jpg", None, "{person}_{frame}_{camera}"
    ),
    "person, image, anything": Naming(
        "Huang-3/Celeb-reID 1", lambda p, c, f: f"{p}_{3 * c + f}_0.jpg", None, "{person}_{frame}_*", cameras=0
    ),
    "a folder a person, with names of Market-1501": Naming(
        "layumi/Person_reID_baseline_pytorch 235",
        lambda p, c, f: f"{p:04d}/{p:04d}_c{c}s1_{f:06d}_00.jpg",
        "*/{person}_c{camera}s*_{frame}_*",
    ),
    "folders in a person's": Naming(
        "fdbtrs/Self-restrained-Triplet-Loss 6",
        lambda p, c, f: f"id{p}/{'original' if f < 2 else 'fakemask'}/{c}{f}.jpg",
        None,
        "{person}/*/{frame}",
        cameras=0,
    ),
    "MARS": Naming(
        "openvinotoolkit/datumaro",
        lambda p, c, f: f"bbox_train/{p:04d}/{p:04d}C{c}T0001F{f:03d}.jpg",
        "bbox_train/*/{person}C{camera}T*F{frame}",
    ),
    "i-LIDS-VID": Naming(
        "i-LIDS-VID, as in opticalFlowSizeCheck of rl-person-verification",
        lambda p, c, f: f"sequences/cam{c}/person{p:03d}/cam{c}_person{p:03d}_{f:05d}.png",
        "sequences/{camera}/{person}/cam*_person*_{frame}",
    ),
    "VIPeR": Naming("VIPeR, cam_a/000_45.bmp", lambda p, c, f: f"cam_{' ab'[c]}/{p:03d}_{45 * f}.bmp", None, "{camera}/{person}_*"),
    "CUHK03, a pair of cameras first": Naming(
        "CUHK03, 1_001_1_01.png", lambda p, c, f: f"{1 + p % 2}_{p:03d}_{c}_{f:02d}.png", None, "*_{person}_{camera}_{frame}"
    ),
    "MSMT17 in one folder": Naming(
        "MSMT17, as in parse_msmt17",
        lambda p, c, f: f"{p:04d}_{3 * c + f:03d}_{c:02d}_0303{'morning' if f < 3 else 'noon'}_{f:04d}_0.jpg",
        None,
        "{person}_*_{camera}_*",
        "no part of them is marked as a person",
    ),
    "MSMT17": Naming(
        "MSMT17_V2/mask_train_v2",
        lambda p, c, f: f"{p:04d}/{p:04d}_{3 * c + f:03d}_{c:02d}_0303{'morning' if f < 3 else 'noon'}_{f:04d}_0.jpg",
        None,
        "{person}/*_*_{camera}_*",
        "what may be the person may be a camera too",
    ),
    "DukeMTMC-reID": Naming(
        "layumi/DukeMTMC-reID_evaluation", lambda p, c, f: f"{p:04d}_c{c}_f{46000 + f:07d}.jpg", "{person}_c{camera}_f{frame}"
    ),
    "VeRi-776": Naming(
        "VehicleReId/VeRidataset", lambda p, c, f: f"{p:04d}_c{c:03d}_{16450 + f:08d}_0.jpg", "{person}_c{camera}_{frame}_*"
    ),
    "frames of PRW": Naming("PRW-v16.04.20/frames", lambda p, c, f: f"c{c}s1_{100 * p + f:06d}.jpg", None, None, "may be a frame too"),
    "LFW": Naming("lfw-deepfunneled", lambda p, c, f: f"{NAMES[p - 1]}/{NAMES[p - 1]}_{3 * c + f:04d}.jpg", "{person}/*", cameras=0),
    "VGGFace2": Naming(
        "VGGFace2, n000002/0001_01.jpg", lambda p, c, f: f"n{p:06d}/{c:04d}_{f:02d}.jpg", None, "{person}/*_{frame}", cameras=0
    ),
    "CelebA": Naming("CelebA", lambda p, c, f: f"{100 * p + 10 * c + f:06d}.jpg", None, None, "may be a frame too"),
    "a telephone": Naming(
        MADE_UP, lambda p, c, f: f"IMG_2023050{p}_1230{c}{f}.jpg", None, None, "no part of them is marked as a person, and dates"
    ),
    "tracks of a camera's export": Naming(
        "scripts that write violation_{timestamp}_track{track_id}.jpg",
        lambda p, c, f: f"2023-05-01_12-30-2{f}_cam{c:02d}_track{p + 16}.jpg",
        None,
        "*_cam{camera}_track{person}",
        "a track is a person within one camera alone",
    ),
    "hashes": Naming(MADE_UP, lambda p, c, f: f"d4{p}d8cd{c}8f00b2{f}e.jpg", None, None, "no part of them is marked as a person"),
    "people in Chinese": Naming(MADE_UP, lambda p, c, f: f"{CHINESE[p - 1]}/{3 * c + f:03d}.jpg", "{person}/{frame}", cameras=0),
    "people as UUIDs": Naming(MADE_UP, lambda p, c, f: f"{UUIDS[p - 1]}_c{c}_{f:04d}.jpg", "{person}_c{camera}_{frame}"),
    "words with spaces": Naming(MADE_UP, lambda p, c, f: f"Camera {c}/ID {p + 22}/photo {f}.JPG", "{camera}/{person}/photo {frame}"),
    "words in capitals": Naming(MADE_UP, lambda p, c, f: f"PERSON{p:02d}_CAM{c:02d}_{f:04d}.JPG", "PERSON{person}_CAM{camera}_{frame}"),
    "words and hyphens": Naming(
        MADE_UP, lambda p, c, f: f"person-{p}_cam-{c}_frame-{f:06d}.jpg", "person-{person}_cam-{camera}_frame-{frame}"
    ),
    "a person and a frame in a folder": Naming(
        "layumi/Person_reID_baseline_pytorch 162",
        lambda p, c, f: f"id_{p:04d}/img_{3 * c + f:03d}.png",
        "{person}/img_{frame}",
        cameras=0,
    ),
    "frame and track of a detector": Naming(MADE_UP, lambda p, c, f: f"{3 * c + f:06d}_{p}.jpg", None, "{frame}_{person}", cameras=0),
}


@pytest.mark.parametrize("kind", NAMINGS)
def test_people_are_read_right_or_nobody_is_guessed(kind, tmp_path, capsys):
    naming, folder, out = NAMINGS[kind], tmp_path / "crops", tmp_path / "crops.csv"
    who = {naming.name(p, c, f): (p, c) for p in (1, 2, 3, 4) for c in (1, 2) for f in (1, 2, 3)}
    assert len(who) == 24
    for name in who:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PIXEL)
    found = told(capsys, "doctor", folder, "--quick")
    if naming.guess is None:
        assert found["what"] == "a folder of images of whom names do not tell for sure who they are"
        assert naming.says in found["notes"][0]
        assert [one.split()[1:3] for one in found["next"][:2]] == [["train", "hsr"], ["train", "buc"]]
        assert found["next"][2].startswith("lightning-reid embed ")
        assert naming.says in refused(capsys, "convert", folder, out)
    else:
        assert found["what"] == f"a folder of images that seem to be named {naming.guess}"
        assert found["splits"] == {"all": {"images": 24, "people": 4, "cameras": naming.cameras}}
    if naming.guess or naming.given:
        pattern = [] if naming.guess else ["--pattern", naming.given]
        made = told(capsys, "convert", folder, out, *pattern)
        assert (made["cameras"], made["guessed"]) == (naming.cameras, naming.guess is not None)
        assert sum(split["images"] for split in made["splits"].values()) == 24
        _require_right(out, folder, who, naming.cameras)


def _require_right(table: Path, folder: Path, who: dict[str, tuple[int, int]], cameras: int) -> None:
    """Each id is one person, each person one id, and so it is with cameras, where they are told."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [(who[Path(row["path"]).relative_to(folder.name).as_posix()], row) for row in csv.DictReader(file)]
    assert len(rows) == len(who)
    assert len({(person, row["pid"]) for (person, _), row in rows}) == 4 == len({row["pid"] for _, row in rows})
    assert len({(camera if cameras else 0, row["camid"]) for (_, camera), row in rows}) == max(cameras, 1)


def test_a_guess_by_which_most_people_have_a_single_image_is_refused(tmp_path, capsys):
    for frame in range(6):
        (tmp_path / "crops").mkdir(exist_ok=True)
        (tmp_path / "crops" / f"id{frame:04d}_c1.png").write_bytes(PIXEL)
    message = refused(capsys, "convert", tmp_path / "crops", tmp_path / "crops.csv")
    assert "by the guess 'id{person}_c{camera}' 6 of 6 people have a single image, as if it took another number for them" in message
    assert main(["convert", str(tmp_path / "crops"), str(tmp_path / "crops.csv"), "--pattern", "id{person}_c{camera}"]) == 1
    assert "0 of 6 people were seen by two cameras" in capsys.readouterr().err


def test_folders_of_splits_are_kept_and_one_beside_them_that_is_none_is_refused(tmp_path, capsys):
    """As layumi/Person_reID_baseline_pytorch makes them, which has a folder train_all of the images of train and val."""
    for split, people in (("train", (1, 2)), ("val", (1, 2)), ("gallery", (3, 4)), ("query", (3, 4))):
        for person in people:
            for camera in (1, 2):
                path = tmp_path / "pytorch" / split / f"{person:04d}" / f"{person:04d}_c{camera}s1_{len(split):06d}_00.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(PIXEL)
    made = told(capsys, "convert", tmp_path / "pytorch", tmp_path / "pytorch.csv")
    assert made["pattern"] == "{split}/*/{person}_c{camera}s*_{frame}_*"
    assert {split: counts["images"] for split, counts in made["splits"].items()} == {"train": 8, "query": 4, "gallery": 4}
    assert "4 images to test or validate show people who are trained on" in made["notes"][0]
    (tmp_path / "pytorch" / "val").rename(tmp_path / "pytorch" / "train_all")
    assert "beside folders of splits there is 'train_all', which is none" in refused(
        capsys, "convert", tmp_path / "pytorch", tmp_path / "2.csv"
    )
    assert "the split 'train_all' is none of train" in refused(
        capsys, "convert", tmp_path / "pytorch", tmp_path / "2.csv", "--pattern", "{split}/*/{person}_c{camera}s*_{frame}_*"
    )
