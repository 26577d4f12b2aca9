"""Who is seen in a video: people found frame by frame, tracked, and cut out once it is known which boxes are good."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.datamodules.mot.crops import Crop, CropRules, Tracklet, Zone, find_tracklets
from lightning_reid.datamodules.mot.sequence import PEDESTRIAN, MotBox
from lightning_reid.datamodules.mot.writing import write_crop
from lightning_reid.detection import PersonDetector
from lightning_reid.frame_crops import crop_of
from lightning_reid.live.camera_pipeline import detect_with
from lightning_reid.live.sources import Frame, FrameSource
from lightning_reid.records import JUNK_PID
from lightning_reid.tracking import CameraTracker
from lightning_reid.tracking.appearance_first import EmbedRows
from lightning_reid.tracking.byte_track import NO_TRACK
from lightning_reid.tracking.track_features import EmbedCrops


@dataclass
class Film:
    """What was found in a video.

    Attributes:
        camid: Number of the camera.
        size: Width and height of its pictures, in pixels.
        boxes: Of all people who are tracked; frames count from 0.
        num_not_tracked: Boxes of no track.
        times: Seconds from the video's start, of each frame that was looked at, by its number.
        num_frames: Of the video.
        num_damaged: Packets and pictures that could not be decoded, and were skipped.
    """

    camid: int
    size: tuple[int, int] = (0, 0)
    boxes: list[MotBox] = field(default_factory=list)
    num_not_tracked: int = 0
    times: dict[int, float] = field(default_factory=dict)
    num_frames: int = 0
    num_damaged: int = 0


def rate_of(source: FrameSource) -> float:
    """Frames a second, 30 where there is a single one, by decoding the first two: what cannot be read is found before hours of detection.

    Raises:
        OSError: It cannot be read.
        ValueError: It has no frame.
    """
    frames = _frames(source)
    first, second = next(frames, None), next(frames, None)
    frames.close()
    if first is None:
        raise ValueError(f"camera {source.camera!r}: there is no frame in it that can be decoded: give another video")
    seconds = 0.0 if second is None else second[0].captured_utc - first[0].captured_utc
    return min(1 / seconds, 1000.0) if seconds > 0 else 30.0


def find_people(
    source: FrameSource,
    camid: int,
    detector: PersonDetector,
    tracker: CameraTracker,
    embed: EmbedCrops,
    *,
    every_n_frames: int,
    progress: bool,
) -> Film:
    """Decode a video once, detect in every n-th frame and track.

    Args:
        source: Whose frames wait until they are taken.
        camid: Number of the camera.
        detector: Finds people; what it says is checked.
        tracker: Of this video alone.
        embed: Network of crops for the tracker's repair; not asked where that is off.
        every_n_frames: 1 looks at all.
        progress: Show a bar on standard error once it takes longer than two seconds.

    Raises:
        OSError: The video cannot be read.
        ValueError: Its pictures change their size, or the detector gives what is no box.
    """
    detect, numbers, last, film = detect_with(detector), dict[tuple[int, int], int](), -1, Film(camid)
    frames = late_progress(_frames(source), f"{source.camera}: frames", total=None, disable=not progress)
    for number, (stamp, picture) in enumerate(frames):
        film.num_frames = number + 1
        if number % every_n_frames:
            continue
        size = (picture.shape[2], picture.shape[1])
        film.size = size if number == 0 else film.size
        if size != film.size:
            now = f"{film.size[0]} x {film.size[1]} pixels before frame {number}, {size[0]} x {size[1]} from it on"
            raise ValueError(f"camera {source.camera!r} has pictures of {now}: cut the video there, and give both parts")
        if stamp.number <= last:  # its time leapt: what comes is another scene
            tracker.restart()
        last, film.times[number] = stamp.number, stamp.captured_utc
        found = detect(stamp, picture)
        rows, numbered = _rows_of(picture, found.boxes, embed), (found.boxes.numpy(), found.scores.numpy())
        tracked = tracker.update(*numbered, stamp.captured_monotonic, rows, width=picture.shape[2])
        for (x0, y0, x1, y1), track in zip(found.boxes.tolist(), tracked.track_ids.tolist(), strict=True):
            if track == NO_TRACK:  # hides nobody: it may be a second box of somebody who has one
                film.num_not_tracked += 1
                continue
            one = numbers.setdefault((tracked.epoch, track), len(numbers) + 1)
            film.boxes.append(MotBox(number, one, x0, y0, x1 - x0, y1 - y0, True, PEDESTRIAN, None))
    film.num_damaged = source.num_corrupt
    return film


def good_tracklets(film: Film, rules: CropRules, padding: float) -> tuple[list[Tracklet], Counter[str]]:
    """The tracks of a video, each reduced to its good boxes, and why how many boxes were left out.

    Args:
        film: What was found.
        rules: ``min_frames`` counts good boxes; a track is one run, however long it was lost.
        padding: By which boxes grow on every side before they are cut out, as a share of their width and height.

    Returns:
        Tracklets of pid -1: a track is no person, and two of them may be of one.
    """
    whole = Zone(film.camid, 0, 0, film.size[0] + 1, film.size[1] + 1)
    of_track = replace(rules, max_gap=max(film.num_frames, 1))
    found, left_out = find_tracklets(film.boxes, film.size, [whole], of_track, lambda track: track)
    long = [one for one in found if len(one) >= rules.min_frames]
    left_out["in a short run"] += sum(map(len, found)) - sum(map(len, long))
    return [tuple(_padded(crop, film.size, padding) for crop in one) for one in long], +left_out


def cut_out(source: FrameSource, crops: Mapping[Crop, Path], jpeg_quality: int, *, progress: bool) -> None:
    """Decode a video once more, and write the crops that are wanted of it.

    Raises:
        OSError: It cannot be read, or a crop not be written.
        ValueError: It has lost frames since it was looked at.
    """
    by_frame: dict[int, list[Crop]] = {}
    for crop in crops:
        by_frame.setdefault(crop.frame, []).append(crop)
    frames = enumerate(_frames(source))
    for number, (_, picture) in late_progress(frames, f"{source.camera}: crops", total=None, disable=not progress):
        wanted = by_frame.pop(number, ())
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()[:, :, ::-1]) if wanted else None
        for crop in wanted:
            assert pixels is not None
            write_crop(crops[crop], pixels, crop, jpeg_quality)
        if not by_frame:
            return
    if by_frame:
        raise ValueError(f"camera {source.camera!r}: frame {min(by_frame)} was there, and is no longer: is it still being written?")


def _frames(source: FrameSource) -> Generator[Frame]:
    with closing(source.frames(threading.Event())) as frames:
        yield from frames


def _rows_of(picture: Tensor, boxes: Tensor, embed: EmbedCrops) -> EmbedRows:
    return lambda rows: embed([crop_of(picture, boxes[row]) for row in rows.tolist()]).cpu().numpy()


def _padded(crop: Crop, size: tuple[int, int], padding: float) -> Crop:
    across, down = round(padding * (crop.x1 - crop.x0)), round(padding * (crop.y1 - crop.y0))
    x0, y0, x1, y1 = max(crop.x0 - across, 0), max(crop.y0 - down, 0), min(crop.x1 + across, size[0]), min(crop.y1 + down, size[1])
    return replace(crop, pid=JUNK_PID, x0=x0, y0=y0, x1=x1, y1=y1)
