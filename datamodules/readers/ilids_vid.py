"""iLIDS-VID (Wang et al. 2014): 300 people, one tracklet in each of two cameras of an airport."""

from __future__ import annotations

import re

from lightning_reid.datamodules.readers.folders import Layout, Naming, StrPath, find_root
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.two_camera_videos import read_people, split_people
from lightning_reid.records import TrackletDataset

ILIDS_VID = OfficialCounts(
    train_tracklets=300, train_pids=150, query_tracklets=150, query_pids=150, gallery_tracklets=150, gallery_pids=150, cameras=2
)

ILIDS_VID_NAMING = Naming(re.compile(r"cam(?P<camid>[0-9])_person(?P<pid>[0-9]+)_(?P<frame>[0-9]+)\."), "cam1_person001_00317.png")


def read_ilids_vid(root: StrPath, split: int = 0, seed: int = 0) -> TrackletDataset:
    """Read iLIDS-VID: ``sequences/cam1/person001/cam1_person001_00317.png`` = camera, person, frame of the video; and ``cam2``.

    Half of the 300 people train (300 tracklets); of the others camera 1 queries (150) and camera 2 is the gallery (150). The usual score is
    the mean over splits 0 to 9. These are the published ones where ``train-test people splits/train_test_splits_ilidsvid.mat`` of the
    archive lies in the folder or beside it, as in the archive; without it they are random. The notes say which.

    Args:
        root: The folder that holds ``sequences``, or its parent, of ``i-LIDS-VID``.
        split: 0 to 9.
        seed: Of the random splits (see ``random_splits.shuffled``); without effect where the published ones are at hand.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing, or a tracklet is empty.
        ValueError: A name does not parse or is of another person or camera than its folder, a person is in one camera only, ``split`` is
            out of range, the published splits are of other people, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    top = find_root(root, Layout("ilids-vid", ("sequences/cam1", "sequences/cam2"), ("i-lids-vid", "ilids-vid")))
    cameras = [read_people(top / "sequences" / f"cam{camid}", ILIDS_VID_NAMING, "ilids-vid", camid, clock="frame") for camid in (1, 2)]
    dataset = split_people("ilids-vid", cameras, root=top, published="train_test_splits_ilidsvid.mat", split=split, seed=seed)
    return warn_unless_official(dataset, ILIDS_VID)
