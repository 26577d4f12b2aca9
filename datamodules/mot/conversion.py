"""Convert a MOTChallenge sequence, video and annotated tracks, into a re-identification set in the layout of Market-1501 or of MARS.

From the command line: ``python -m lightning_reid.datamodules.mot.conversion SEQUENCE OUTPUT --layout mars``; ``--help`` tells the options.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import track

from lightning_reid.datamodules.mot.crops import Crop, CropRules, Zone, column_zones, find_tracklets, require_disjoint
from lightning_reid.datamodules.mot.layouts import SetPlan, plan_market, plan_mars
from lightning_reid.datamodules.mot.people import PeopleRules, choose_test_pids
from lightning_reid.datamodules.mot.sequence import open_sequence, read_annotation, stream_frames
from lightning_reid.datamodules.mot.writing import make_folders, write_crop, write_lists
from lightning_reid.files import folder_written_whole

EVERY_N_FRAMES = {"market": 4, "mars": 1}
MAX_PER_TRACKLET = {"market": 12, "mars": 40}


@dataclass(frozen=True)
class ConversionCounts:
    """What became of a sequence, counted.

    Attributes:
        boxes: Rows of the annotation.
        left_out: How many of them were left out, by reason; the other boxes are crops now.
        people: Identities, training and test.
        cameras: Zones somebody was seen in.
        train: Training images (MARS: tracklets).
        query: Query images (tracklets).
        gallery: Gallery images (tracklets), without the queries.
    """

    boxes: int
    left_out: dict[str, int]
    people: int
    cameras: int
    train: int
    query: int
    gallery: int


def convert_mot(
    sequence: str | Path,
    output: str | Path,
    *,
    annotation: str | Path | None = None,
    layout: Literal["market", "mars"] = "market",
    zones: int | Sequence[Zone] = 3,
    crops: CropRules = CropRules(),  # noqa: B008  it is frozen
    people: PeopleRules = PeopleRules(),  # noqa: B008  it is frozen
    jpeg_quality: int = 90,
) -> ConversionCounts:
    """Cut the crops of a MOTChallenge sequence and write them as a re-identification set, parts of the picture playing the cameras.

    The video is read through once, one picture in memory. The set is written beside ``output`` and renamed when complete, so what stands
    at ``output`` is whole; ``crops.csv`` in it tells frame, track, box and visible share of every file.

    Args:
        sequence: Folder with pictures in ``img1`` or one video file, and ``gt/gt.txt`` or ``gt.txt``; or the video file itself.
        output: Folder to make; if it is there it must be empty.
        annotation: The ``gt.txt``, where it is not to be looked for beside the pictures.
        layout: ``"market"``: ``bounding_box_train``, ``query``, ``bounding_box_test``; ``"mars"``: ``bbox_train``, ``bbox_test``, ``info``.
        zones: The parts of the picture that play cameras; a number n stands for n equal columns with blind strips of a sixteenth of the
            picture's width between them.
        crops: Which boxes become crops.
        people: Who the tracks are, and who of them is for testing.
        jpeg_quality: 1 to 100, of the crops.

    Raises:
        FileExistsError: ``output`` is there and not empty.
        FileNotFoundError: The sequence, or a part of it, is missing.
        ValueError: The annotation does not parse or fit the video, an option is out of range, or no crop is left.
    """
    target = _free_folder(output)
    _require_in_range(crops, layout, jpeg_quality)
    every_n_frames = crops.every_n_frames or EVERY_N_FRAMES[layout]
    per_tracklet = crops.max_per_tracklet or MAX_PER_TRACKLET[layout]
    source = open_sequence(sequence, annotation)
    boxes = read_annotation(source.annotation)
    cameras = column_zones(source.width, source.height, zones) if isinstance(zones, int) else tuple(zones)
    require_disjoint(cameras)
    tracklets, left_out = find_tracklets(boxes, (source.width, source.height), cameras, crops, people.pid_of)
    if not tracklets:
        raise ValueError(
            f"no crop is left of the {len(boxes)} boxes in {source.annotation}: {dict(+left_out)}; relax the rules or the zones"
        )
    thinned = [tracklet[::every_n_frames] for tracklet in tracklets]
    test_pids = choose_test_pids(thinned, people)
    plan = (plan_market if layout == "market" else plan_mars)(thinned, test_pids, per_tracklet, people.query_rule)
    left_out["thinned out"] = sum(map(len, tracklets)) - len(plan.files)
    with folder_written_whole(target) as folder:
        _cut_crops(source.frames, plan, folder, jpeg_quality)
        write_lists(plan, folder)
        _write_table(plan, folder)
    return ConversionCounts(
        boxes=len(boxes),
        left_out=dict(+left_out),  # + drops the zeros
        people=len({crop.pid for crop in plan.files}),
        cameras=len({crop.camid for crop in plan.files}),
        train=plan.train,
        query=plan.query,
        gallery=plan.gallery,
    )


def main(argv: list[str] | None = None) -> None:
    """Command line of ``convert_mot``; its counts are shown at the end."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="python -m lightning_reid.datamodules.mot.conversion", description=(convert_mot.__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--config", action="config", help="YAML with any of the options below")
    parser.add_function_arguments(convert_mot, as_positional=True)
    options = parser.instantiate(parser.parse_args(argv))
    options.pop("config")
    counts = convert_mot(**options)
    Console().print(f"{options['output']}:", asdict(counts))


def _require_in_range(crops: CropRules, layout: str, jpeg_quality: int) -> None:
    if layout not in EVERY_N_FRAMES:
        raise ValueError(f"layout must be 'market' or 'mars', got {layout!r}")
    if not 1 <= jpeg_quality <= 100:
        raise ValueError(f"jpeg_quality must lie in 1..100, got {jpeg_quality}")
    counts = (crops.min_height, crops.min_frames, crops.every_n_frames, crops.max_per_tracklet, crops.max_gap)
    if any(count is not None and count < 1 for count in counts):
        raise ValueError(f"min_height, min_frames, max_gap, every_n_frames and max_per_tracklet must be at least 1, got {crops}")
    if not 0 <= crops.min_visibility <= 1:
        raise ValueError(f"min_visibility must lie in [0, 1], got {crops.min_visibility}")


def _free_folder(output: str | Path) -> Path:
    target = Path(output).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is there and not an empty folder: give another output, or remove it first")
    return target


def _cut_crops(frames: Path, plan: SetPlan, folder: Path, jpeg_quality: int) -> None:
    by_frame: dict[int, list[Crop]] = defaultdict(list)
    for crop in plan.files:
        by_frame[crop.frame].append(crop)
    make_folders(plan, folder)
    pictures = stream_frames(frames, by_frame)
    for number, picture in track(pictures, "cutting crops", total=len(by_frame), console=Console(stderr=True), transient=True):
        for crop in by_frame[number]:
            write_crop(folder / plan.files[crop], picture, crop, jpeg_quality)


def _write_table(plan: SetPlan, folder: Path) -> None:
    with (folder / "crops.csv").open("w", newline="", encoding="utf-8") as lines_of_crops:
        writer = csv.writer(lines_of_crops)
        writer.writerow(["file", "pid", "camid", "frame", "mot_id", "x0", "y0", "x1", "y1", "visible"])
        for crop, name in sorted(plan.files.items(), key=lambda item: item[1]):
            box = (crop.x0, crop.y0, crop.x1, crop.y1)
            writer.writerow([name, crop.pid, crop.camid, crop.frame, crop.mot_id, *box, f"{crop.visible:.2f}"])


if __name__ == "__main__":
    main()
