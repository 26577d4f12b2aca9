"""Re-detect and link on real tracklets with known boxes: PETS 2009 S2.L1, View_001, as tracklets in MARS layout with MOT ground truth.

Run ``python benchmarks/redetect_pets.py TRACKLETS VIDEO --extractor WEIGHTS [--onnx DETECTOR] [--sheet PNG]``. TRACKLETS is a folder
in MARS layout whose ``info/frames.csv`` has, a crop, ``file, mot_id, video_frame`` and its box ``x0, y0, x1, y1`` in the video; VIDEO is
a folder with the clip ``vtest.avi`` and ``gt.txt`` (MOTChallenge format, frame k is the k-th decoded one). WEIGHTS are a state dict of
timm's ``mobilenetv2_100``.

Two kinds of tracklets are processed:

- ``as cut``: the crops as they are. They are the annotated boxes, so the labeled person fills every frame.
- ``loose``: cut from the video anew, as a weak tracker would: 2.4 times as wide and 1.25 times as high as the annotated box, misplaced by a
  random walk of up to a third of the box's width. Neighbors stand in many of them.

What is reported, in per cent:

- ``found``: of all frames, those in which the detector found somebody; ``kept whole`` are the others.
- ``several``: of all frames, those with more than one candidate.
- ``right``: of the frames with somebody found, those linked right: the chosen box overlaps the labeled person's annotated box more (by
  intersection over union) than the annotated box of any other person, all clipped to the frame.
- ``right of several``: the same of the frames with several candidates, and of those alone: by linking, and by taking the largest box.
- ``IoU``: of the labeled person's annotated box with the frame as it was, and with the chosen box, mean of the frames with somebody found.
- ``mAP``, ``R1``: of the test tracklets as they were and as they became, by the mean embedding of their frames, protocol ``mars``; the
  network is not trained for the task. Seventeen queries of five people: a hint, no measurement.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from lightning_reid.callbacks.crop_embedding import network_embedder
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers import read_mars_folder
from lightning_reid.detection import OnnxDetector, OpenCVPeopleDetector, PersonDetector
from lightning_reid.detection.padding import detect_in_padded
from lightning_reid.linking import AlignedTracklet, align_tracklet
from lightning_reid.linking.alignment import EmbedCrops, largest_box
from lightning_reid.metrics import retrieval_scores
from lightning_reid.networks import EmbeddingNetwork, build_backbone

IMAGE_SIZE = (256, 128)
LOOSENESS = (2.4, 1.25)
DRIFT, STEP = 0.33, 0.08
PeopleByFrame = dict[int, dict[int, Tensor]]


@dataclass
class Truth:
    """A tracklet with what is annotated in it: by frame the labeled person's box ``[4]`` and the others' ``[M, 4]``, in its pixels."""

    name: str
    frames: list[Tensor] = field(default_factory=list)
    person: list[Tensor] = field(default_factory=list)
    others: list[Tensor] = field(default_factory=list)

    def add(self, frame: Tensor, window: Tensor, mot_id: int, people: dict[int, Tensor]) -> None:
        """Append a frame; ``window`` is where it was cut from the video, ``people`` everybody's box there."""
        boxes = {one: clipped(box - window[:2].repeat(2), frame) for one, box in people.items()}
        inside = {one: box for one, box in boxes.items() if (box[2:] > box[:2]).all()}
        self.frames.append(frame)
        self.person.append(inside.pop(mot_id))
        self.others.append(torch.stack(list(inside.values())) if inside else torch.empty(0, 4))


def clipped(box: Tensor, frame: Tensor) -> Tensor:
    height, width = frame.shape[1:]
    return box.clamp(min=0).minimum(torch.tensor([width, height, width, height]))


def annotated_people(path: Path) -> PeopleByFrame:
    people: PeopleByFrame = defaultdict(dict)
    for row in csv.reader(path.open()):
        x, y, width, height = map(float, row[2:6])
        people[int(row[0])][int(row[1])] = torch.tensor([x, y, x + width, y + height])
    return people


def video_frames(path: Path) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(str(path)), []
    while (answer := video.read())[0]:
        frames.append(answer[1])
    return frames


def tracklets_as_cut(root: Path, rows: list[dict[str, str]], people: PeopleByFrame) -> list[Truth]:
    files = {path.name: path for split in ("bbox_train", "bbox_test") for path in (root / split).rglob("*.jpg")}
    found: dict[str, Truth] = {}
    for row in rows:
        name, window = row["file"][:11], torch.tensor([float(row[edge]) for edge in ("x0", "y0", "x1", "y1")])
        around = people[int(row["video_frame"])] | {int(row["mot_id"]): window}
        found.setdefault(name, Truth(name)).add(load_image(str(files[row["file"]])), window, int(row["mot_id"]), around)
    return list(found.values())


def loose_tracklets(video: list[np.ndarray], rows: list[dict[str, str]], people: PeopleByFrame) -> list[Truth]:
    found: dict[str, Truth] = {}
    drifts: dict[str, np.ndarray] = {}
    random = np.random.default_rng(0)
    for row in rows:
        name, number = row["file"][:11], int(row["video_frame"])
        x0, y0, x1, y1 = (float(row[edge]) for edge in ("x0", "y0", "x1", "y1"))
        drift = np.clip(drifts.get(name, random.uniform(-DRIFT, DRIFT, 2)) + random.normal(0, STEP, 2), -DRIFT, DRIFT)
        drifts[name] = drift
        center = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + drift * (x1 - x0)
        half = np.array([(x1 - x0) * LOOSENESS[0], (y1 - y0) * LOOSENESS[1]]) / 2
        picture = video[number - 1]
        left, top = np.maximum(np.round(center - half), 0).astype(int)
        right, bottom = np.minimum(np.round(center + half), picture.shape[1::-1]).astype(int)
        frame = torch.from_numpy(picture[top:bottom, left:right, ::-1].copy()).permute(2, 0, 1).contiguous()
        window = torch.tensor([left, top, right, bottom], dtype=torch.float32)
        around = people[number] | {int(row["mot_id"]): torch.tensor([x0, y0, x1, y1])}
        found.setdefault(name, Truth(name)).add(frame, window, int(row["mot_id"]), around)
    return list(found.values())


def is_right(box: Tensor, person: Tensor, others: Tensor) -> bool:
    overlaps = box_iou(box[None], torch.cat([person[None], others]))[0]
    return bool(overlaps[0] > 0) and bool((overlaps[0] > overlaps[1:]).all())


def share(values: list[bool]) -> float:
    return 100 * sum(values) / max(1, len(values))


def measure(truths: list[Truth], detector: PersonDetector, embed: EmbedCrops) -> tuple[str, list[AlignedTracklet]]:
    found, several, right, by_link, by_area, before, after, aligned = [], [], [], [], [], [], [], []
    seconds = 0.0
    for truth in truths:
        start = time.perf_counter()
        boxes = [people.boxes for people in detect_in_padded(detector, truth.frames)]
        seconds += time.perf_counter() - start
        result = align_tracklet(truth.frames, boxes, embed, image_size=IMAGE_SIZE)
        aligned.append(result)
        for frame, person, others, candidates, chosen in zip(truth.frames, truth.person, truth.others, boxes, result.boxes):
            found.append(len(candidates) > 0)
            several.append(len(candidates) > 1)
            if not found[-1]:
                continue
            right.append(is_right(chosen, person, others))
            whole = torch.tensor([0.0, 0.0, frame.shape[2], frame.shape[1]])
            before.append(box_iou(whole[None], person[None]).item())
            after.append(box_iou(chosen[None], person[None]).item())
            if several[-1]:
                by_link.append(right[-1])
                by_area.append(is_right(candidates[largest_box(candidates)], person, others))
    line = (
        f"{len(found)} frames | found {share(found):.1f} | kept whole {100 - share(found):.1f} | several {share(several):.1f} | "
        f"right {share(right):.1f} | right of {len(by_link)} several: linked {share(by_link):.1f}, largest {share(by_area):.1f} | "
        f"IoU {np.mean(before):.2f} -> {np.mean(after):.2f} | {1000 * seconds / len(found):.1f} ms a frame"
    )
    return line, aligned


def retrieval(names: dict[str, list[str]], truths: list[Truth], frames: list[list[Tensor]], embed: EmbedCrops) -> str:
    means = {}
    wanted = set(names["query"]) | set(names["gallery"])
    for truth, images in zip(truths, frames):
        if truth.name in wanted:
            means[truth.name] = torch.cat([embed(images[start : start + 32]) for start in range(0, len(images), 32)]).mean(0)
    embeddings = [torch.stack([means[name] for name in names[side]]) for side in ("query", "gallery")]
    pids = [torch.tensor([int(name[:4]) for name in names[side]]) for side in ("query", "gallery")]
    camids = [torch.tensor([int(name[5]) for name in names[side]]) for side in ("query", "gallery")]
    scores = retrieval_scores(*embeddings, *pids, *camids, protocol="mars")
    return f"mAP {100 * scores.mAP:.1f}, R1 {100 * scores.cmc[0]:.1f}"


def contact_sheet(truths: list[Truth], aligned: list[AlignedTracklet], columns: int = 10) -> np.ndarray:
    """Two rows a tracklet: frames with the annotated (white) and the chosen (green) box, and below what became of them."""
    rows = []
    for truth, result in zip(truths, aligned):
        chosen = np.linspace(0, len(truth.frames) - 1, columns).astype(int)
        before, after = [], []
        for index in chosen:
            frame = np.ascontiguousarray(truth.frames[index].permute(1, 2, 0).numpy()[:, :, ::-1])
            scale = 128 / frame.shape[0]
            frame = cv2.resize(frame, (max(1, round(frame.shape[1] * scale)), 128))
            for box, color in ((truth.person[index], (255, 255, 255)), (result.boxes[index], (0, 255, 0))):
                if box.isfinite().all():
                    x0, y0, x1, y1 = (box * scale).round().int().tolist()
                    cv2.rectangle(frame, (x0, y0), (x1 - 1, y1 - 1), color, 1)
            frame = frame[:, :128]
            before.append(cv2.copyMakeBorder(frame, 2, 2, 2, 130 - frame.shape[1], cv2.BORDER_CONSTANT, value=(60, 30, 30)))
            image = np.ascontiguousarray(result.frames[index].permute(1, 2, 0).numpy()[:, :, ::-1])
            image = cv2.resize(image, (64, 128), interpolation=cv2.INTER_AREA)
            after.append(cv2.copyMakeBorder(image, 2, 2, 2, 66, cv2.BORDER_CONSTANT, value=(60, 30, 30)))
        rows += [np.hstack(before), np.hstack(after)]
    return np.vstack(rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracklets", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--extractor", required=True, help="state dict of timm's mobilenetv2_100")
    parser.add_argument("--onnx", type=Path, help="a detector for OnnxDetector; OpenCV's alone without")
    parser.add_argument("--sheet", type=Path, help="PNG with frames before and after; the names of data and detector are added")
    options = parser.parse_args(argv)
    rows = list(csv.DictReader((options.tracklets / "info" / "frames.csv").open()))
    data = read_mars_folder(options.tracklets)
    names = {side: [Path(record.paths[0]).name[:11] for record in records] for side, records in data.splits()}
    people = annotated_people(options.video / "gt.txt")
    kinds: dict[str, Callable[[], list[Truth]]] = {
        "as cut": lambda: tracklets_as_cut(options.tracklets, rows, people),
        "loose": lambda: loose_tracklets(video_frames(options.video / "vtest.avi"), rows, people),
    }
    detectors: dict[str, PersonDetector] = {"opencv": OpenCVPeopleDetector()}
    if options.onnx:
        detectors["onnx"] = OnnxDetector(options.onnx)
    network = EmbeddingNetwork(build_backbone("mobilenetv2_100", weights=options.extractor), neck="none")
    with network_embedder(network, IMAGE_SIZE, torch.device("cpu")) as embed:
        for kind, make in kinds.items():
            truths = make()
            before = retrieval(names, truths, [truth.frames for truth in truths], embed)
            for name, detector in detectors.items():
                line, aligned = measure(truths, detector, embed)
                after = retrieval(names, truths, [list(result.frames) for result in aligned], embed)
                print(f"{kind}, {name}: {line} | {before} -> {after}", flush=True)
                if options.sheet:
                    path = options.sheet.with_stem(f"{options.sheet.stem}-{kind.replace(' ', '-')}-{name}")
                    crowded = sorted(zip(truths, aligned), key=lambda pair: -int((pair[1].num_candidates > 1).sum()))[:6]
                    cv2.imwrite(str(path), contact_sheet(*map(list, zip(*crowded))))


if __name__ == "__main__":
    main()
