"""DukeMTMC-VideoReID (Wu et al. 2018), withdrawn by its authors."""

from __future__ import annotations

import re
from pathlib import Path

from lightning_reid.datamodules.readers.folders import Layout, Naming, StrPath, find_root, require_identified
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.tracklet_folders import folder_names, read_frames
from lightning_reid.datamodules.readers.tracklet_gallery import gallery_note
from lightning_reid.records import TrackletDataset, TrackletRecord

DUKEMTMC_VIDEO = OfficialCounts(
    train_tracklets=2_196, train_pids=702, query_tracklets=702, query_pids=702, gallery_tracklets=2_636, gallery_pids=1_110, cameras=8
)

# person, camera, frame of the tracklet, frame of the video; the first release had no underscores
DUKE_VIDEO_NAMING = Naming(
    re.compile(r"(?P<pid>[0-9]{4})_?C(?P<camid>[0-9])_?F(?P<frame>[0-9]+)_?X(?P<clock>[0-9]+)\."), "0001_C6_F0099_X30823.jpg"
)


def read_dukemtmc_video(root: StrPath) -> TrackletDataset:
    """Read DukeMTMC-VideoReID, only for those who hold a copy lawfully: ``train``, ``query``, ``gallery``.

    Each holds ``0001/0002/0001_C6_F0099_X30823.jpg`` = person, tracklet, then person, camera, frame of the tracklet and frame of the video,
    which becomes ``frame``. Names of the first release lack the underscores. Frames are ordered by F; numbers may be left out. Query and
    gallery are taken as their folders have them (the published 2,636 gallery tracklets hold the queries, as in MARS); the notes count.

    Official: 2,196 tracklets of 702 people; 702 queries of 702; 2,636 gallery tracklets of 1,110, 408 of them never queried; 8 cameras.

    Args:
        root: The folder that holds ``train``, ``query`` and ``gallery``, or its parent, ``DukeMTMC-VideoReID``.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing, or a tracklet is empty.
        ValueError: A name does not parse, a tracklet mixes people or cameras, a query shows nobody, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    layout = Layout("dukemtmc-videoreid", ("train", "query", "gallery"), ("dukemtmc-videoreid", "dukemtmc-vidreid"))
    top = find_root(root, layout)
    train, query, gallery = (_read_split(top / split) for split in layout.entries)
    require_identified(query)
    return warn_unless_official(TrackletDataset(layout.name, train, query, gallery, (gallery_note(query, gallery),)), DUKEMTMC_VIDEO)


def _read_split(split: Path) -> tuple[TrackletRecord, ...]:
    people = folder_names(split)
    strange = [person for person in people if re.fullmatch("[0-9]+", person) is None]
    if strange:
        raise ValueError(
            f"{split / strange[0]}: expected folders named by the number of a person, like 0001; move what is no part of the data out"
        )
    return tuple(
        read_frames(split / person / tracklet, DUKE_VIDEO_NAMING, int(person), "dukemtmc-videoreid", clock="clock")
        for person in people
        for tracklet in folder_names(split / person)
    )
