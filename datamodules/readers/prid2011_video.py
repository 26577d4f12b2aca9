"""PRID-2011, multi-shot part (Hirzer et al. 2011): tracklets in two cameras."""

from __future__ import annotations

import re
from pathlib import Path

from lightning_reid.datamodules.readers.folders import Layout, Naming, StrPath, find_root
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.two_camera_videos import read_people, split_people
from lightning_reid.datamodules.readers.two_cameras import PRID_IN_BOTH
from lightning_reid.records import TrackletDataset, TrackletRecord

PRID2011_VIDEO = OfficialCounts(
    train_tracklets=178, train_pids=89, query_tracklets=89, query_pids=89, gallery_tracklets=89, gallery_pids=89, cameras=2
)

PRID_VIDEO_NAMING = Naming(re.compile(r"(?P<frame>[0-9]+)\."), "0001.png")
MIN_FRAMES = 27
"""Fewest frames in both cameras of a person who takes part (Wang et al. 2014): 178 of the 200 people."""


def read_prid2011_video(root: StrPath, split: int = 0, seed: int = 0) -> TrackletDataset:
    """Read the multi-shot part of PRID-2011: ``multi_shot/cam_a/person_0001/0001.png`` = camera, person, frame of the tracklet.

    Of people 1 to 200, who are in both cameras, the 178 with at least 27 frames in each take part; above 200 equal numbers are different
    people, left out. Half of the 178 train (178 tracklets); of the others camera a (1) queries (89) and camera b (2) is the gallery (89).
    The usual score is the mean over splits 0 to 9. These are the published ones where ``train_test_splits_prid.mat``, which comes with
    iLIDS-VID, lies in the folder or beside it (also within ``train-test people splits``); without it they are random. The notes say which.
    Names tell no time: ``frame`` is -1.

    Args:
        root: The folder that holds ``multi_shot``, or its parent, ``prid_2011``.
        split: 0 to 9.
        seed: Of the random splits; without effect where the published ones are at hand.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing, or a tracklet is empty.
        ValueError: As ``read_ilids_vid``.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    top = find_root(root, Layout("prid2011-video", ("multi_shot/cam_a", "multi_shot/cam_b"), ("prid_2011", "prid2011")))
    everybody = [_read_camera(top / "multi_shot" / camera, camid) for camid, camera in ((1, "cam_a"), (2, "cam_b"))]
    short = {pid for camera in everybody for pid, record in camera.items() if len(record.paths) < MIN_FRAMES}
    cameras = [{pid: record for pid, record in camera.items() if pid not in short} for camera in everybody]
    dataset = split_people("prid2011-video", cameras, root=top, published="train_test_splits_prid.mat", split=split, seed=seed)
    return warn_unless_official(dataset, PRID2011_VIDEO)


def _read_camera(camera: Path, camid: int) -> dict[int, TrackletRecord]:
    people = read_people(camera, PRID_VIDEO_NAMING, "prid2011-video", camid)
    return {pid: record for pid, record in people.items() if pid <= PRID_IN_BOTH}
