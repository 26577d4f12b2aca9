"""The tables of the text's chapter 8, and where the time of a tracked frame goes.

    python benchmarks/tracking_tables.py DETECTOR                       # all of them; DETECTOR is the SSDLite graph in ONNX
    python benchmarks/tracking_tables.py DETECTOR --only 8.3
    python benchmarks/tracking_tables.py DETECTOR --small               # narrow networks, small frames: does it run?

Times are CPU time of this process, which calculates with one thread, so that other work on the machine does not count; what is compared
takes turns on the same frames. "Frames a second" are hence those of one core. Pictures are generated ones of 768x576 at 10 frames a
second, drawn while the clock stands; the detector looks at them for its time alone, and the boxes are those of the stand-in detector.

- 8.2: the detector and ByteTrack, one camera and three, whose pictures go through the network together.
- 8.3: meet-and-turn encounters in which two people swap their tracks, and people whose track becomes another one when they pass each
  other, with the appearance repair and without; the CPU of a whole frame (detector, tracking, features), the repair as it is, and done
  naively, where every box of every frame is embedded.
- 8.4: one clip of four frames of 256x128 through the video networks, random weights.
- 8.5: everything in one thread, three cameras, by re-ID network; a feature is made of four frames a third of a second apart. The pruned
  network is Spatial-NVAN cut evenly to 75 % of its multiply-adds, which takes the time that CAIE's would, nearly.
- share: what everything but the networks takes of the process's CPU, by the shipped network; a decoder, which is not among the others,
  would make it smaller.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
import video_speed
from pruning_costs import evenly_pruned
from torch import Tensor, nn

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.datamodules.transforms import resized
from lightning_reid.detection import Detections, OnnxDetector
from lightning_reid.inference import crop_embedder
from lightning_reid.metrics.coverage import covered_rows, frame_overlaps
from lightning_reid.networks import STENVAN, EmbeddingNetwork, build_backbone, load_embedding_network, materialize
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.normalization import normalize_images
from lightning_reid.recipes.workshop.camera_recording import Shown, name_of, scored_cameras, truth_of
from lightning_reid.recipes.workshop.tracking_scores import MAX_DISTANCE, camera_node, camera_tracker
from lightning_reid.tracking import CameraNode, CameraTracks, FrameStamp, MatchingRules, OnlineMatcher

TEXT = {"without re-ID": 35.1, "NVAN": 29.1, "Spatial-NVAN": 30.0, "ResNet-34": 34.5, "Spatial-NVAN, 75 %": 33.6}
"""Frames a second in table 8.5."""
EmbedClip = Callable[[Sequence[Tensor]], Tensor]


class Clock:
    """CPU milliseconds by name, one figure a call."""

    def __init__(self) -> None:
        self.laps: dict[str, list[float]] = {}

    def run(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` answers to the arguments."""
        began = time.process_time()
        answer = work(*arguments)
        self.laps.setdefault(name, []).append(1e3 * (time.process_time() - began))
        return answer

    def mean(self, *names: str) -> float:
        """Of a call, the names' together."""
        return sum(mean(self.laps[name]) for name in names)


class Stream:
    """Pictures of a generated world's cameras, and the stand-in detector's boxes."""

    def __init__(self, args: argparse.Namespace, num_cameras: int = 3) -> None:
        size = (144, 192) if args.small else (576, 768)
        self.world = GeneratedWorld(args.seed, num_cameras=num_cameras, image_size=size)
        self.detector, self.frames = WorldDetector(self.world), range(args.first, args.first + args.frames)

    def __iter__(self) -> Iterator[tuple[FrameStamp, Tensor, Detections]]:
        for number in self.frames:
            for camid in range(1, self.world.num_cameras + 1):
                seconds = number / self.world.fps
                stamp = FrameStamp(name_of(camid), number, captured_monotonic=seconds, captured_utc=seconds)
                yield stamp, torch.from_numpy(self.world.frame(camid, number)).permute(2, 0, 1), self.detector(camid, number)


def nodes_of(
    stream: Stream, embed: EmbedClip, embed_clip: EmbedClip | None = None, max_distance: float = MAX_DISTANCE
) -> dict[str, CameraNode]:
    def node(camid: int) -> CameraNode:
        return camera_node(camid, camera_tracker(stream.world.fps, max_distance), embed, "network", embed_clip=embed_clip)

    return {name_of(camid): node(camid) for camid in range(1, stream.world.num_cameras + 1)}


def feed(matcher: OnlineMatcher, messages: Iterable[Any]) -> None:
    for message in messages:
        matcher.feed(message)


def plain_detector(path: Path) -> OnnxDetector:
    """The graph as it stands in the file, none of onnxruntime's optimizations."""

    def open_session(path: str | Path, num_threads: int | None) -> Any:
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_threads or 0
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    with patch("lightning_reid.detection.onnx_detector.open_session", open_session):
        return OnnxDetector(path, min_score=0.1, num_threads=1)


def table_8_2(args: argparse.Namespace) -> dict[str, float]:
    """CPU milliseconds a frame of the detector and ByteTrack, by runtime and cameras."""
    runtimes = {
        "onnxruntime, float32": OnnxDetector(args.detector, min_score=0.1, num_threads=1),
        "onnxruntime, float32, graph not optimized": plain_detector(args.detector),
    }
    stream, clock = Stream(args), Clock()
    trackers = {name_of(camid): camera_tracker(stream.world.fps, 0) for camid in range(1, 4)}
    batch: list[Tensor] = []
    for detector in runtimes.values():
        detector([torch.zeros(3, *stream.world.image_size, dtype=torch.uint8)] * 3)
    for stamp, picture, found in stream:
        clock.run("ByteTrack", trackers[stamp.camera].update, *map(np.asarray, found), stamp.captured_monotonic, no_embedding)
        batch.append(picture)
        for name, detector in runtimes.items():
            clock.run(f"{name}, 1 camera", detector, [picture])
            if len(batch) == 3:
                clock.run(f"{name}, 3 cameras", detector, batch)
        batch = batch if len(batch) < 3 else []
    rows = {}
    print("| runtime | cameras | ms a frame | frames a second and camera | to the first |\n|---|---:|---:|---:|---:|")
    for name in runtimes:
        for cameras in (1, 3):
            key = f"{name}, {cameras} camera{'s' * (cameras > 1)}"
            rows[key] = clock.mean(key) / cameras + clock.mean("ByteTrack")
            first = next(iter(rows.values()))
            print(f"| {name} | {cameras} | {rows[key]:.1f} | {1e3 / rows[key] / cameras:.1f} | {rows[key] / first:.2f} |")
    have = import_module("onnxruntime").get_available_providers()
    print(f"\nByteTrack {clock.mean('ByteTrack'):.2f} ms of it. Half precision and TensorRT need CUDA; this onnxruntime has {have}.\n")
    return rows


def no_embedding(rows: Any) -> Any:
    raise AssertionError("nobody is to be embedded here")


def meetings(args: argparse.Namespace, kind: str, embed: EmbedClip, max_distance: float) -> Counter[str]:
    """Of meetings in worlds of two people: how many, in how many a track goes from one to the other, and people with another track."""
    found: Counter[str] = Counter()
    for seed in range(200, 200 + args.meetings):
        counts = {"encounters": int(kind == "turn_back"), "crossings": int(kind == "crossing")}
        world = GeneratedWorld(seed, num_cameras=1, num_people=2, seconds=12.0, twins=0, **counts)
        (meeting,) = world.meetings
        tracks = tracks_of(world, embed, max_distance)
        before, after = (most_seen(tracks, round(world.fps * meeting.seconds) + shift) for shift in (-15, 6))
        known = [pid for pid in meeting.pids if pid in before and pid in after]
        found["meetings"] += len(known) == 2
        found["swapped"] += len(known) == 2 and any(before[one] == after[other] for one in known for other in known if one != other)
        found["people with another track"] += sum(before[pid] != after[pid] for pid in known)
    return found


def tracks_of(world: GeneratedWorld, embed: EmbedClip, max_distance: float) -> dict[tuple[int, int], int]:
    """The track of a person in a frame, by frame and pid, where the person is found."""
    detector, tracker, shown = WorldDetector(world, seed=world.seed), camera_tracker(world.fps, max_distance), []
    for number in range(world.num_frames):
        found = detector(1, number)

        def of_rows(rows: np.ndarray, number: int = number, boxes: Tensor = found.boxes) -> np.ndarray:
            picture = torch.from_numpy(world.frame(1, number)).permute(2, 0, 1)
            return embed([crop(picture, boxes[row]) for row in rows.tolist()]).numpy()

        boxes, scores = found.boxes.numpy(), found.scores.numpy()
        ids = tracker.update(boxes, scores, number / world.fps, of_rows, width=world.image_size[1]).track_ids
        rows = torch.from_numpy(np.flatnonzero(ids >= 0))
        stamp = FrameStamp(name_of(1), number, captured_monotonic=number / world.fps, captured_utc=number / world.fps)
        named = tuple(ids[rows.numpy()].tolist())
        shown.append(Shown(number, CameraTracks(stamp, 0, named, found.boxes[rows], found.scores[rows]), named))
    (camera,) = scored_cameras(world, truth_of(world), shown)
    covered = covered_rows(camera, frame_overlaps(camera))
    pids = np.append(camera.true.pids.numpy(), -1)[covered].tolist()
    return {(frame, pid): track for frame, pid, track in zip(camera.shown.frames.tolist(), pids, camera.shown.tracks.tolist()) if pid > 0}


def crop(picture: Tensor, box: Tensor) -> Tensor:
    x0, y0, x1, y1 = (*box[:2].floor().long().tolist(), *box[2:].ceil().long().tolist())
    return picture[:, y0:y1, x0:x1]


def most_seen(tracks: Mapping[tuple[int, int], int], first: int, count: int = 10) -> dict[int, int]:
    """Who bears which track in most of some frames."""
    seen: dict[int, Counter[int]] = {}
    for (frame, pid), track in tracks.items():
        if first <= frame < first + count:
            seen.setdefault(pid, Counter())[track] += 1
    return {pid: counts.most_common(1)[0][0] for pid, counts in seen.items()}


def table_8_3(args: argparse.Namespace) -> dict[str, float]:
    """Swaps, switches and the CPU of a frame, with the repair and without."""
    embed, rows = crop_embedder(load_embedding_network(args.checkpoint)), {}
    print("| repair | encounters that swap | people with another track after passing | ms a frame | to none |\n|---|---:|---:|---:|---:|")
    costs = cost_of_repair(args, embed)
    for name, distance in (("none", 0.0), ("where ambiguous", MAX_DISTANCE)):
        turned, passed = (meetings(args, kind, embed, distance) for kind in ("turn_back", "crossing"))
        rows |= {f"{name}, swapped": turned["swapped"] / max(turned["meetings"], 1)}
        rows |= {f"{name}, switches": passed["people with another track"], f"{name}, ms": costs[name]}
        swapped, switched = (f"{turned['swapped']} of {turned['meetings']}", f"{passed['people with another track']}")
        print(f"| {name} | {swapped} | {switched} of {2 * passed['meetings']} | {costs[name]:.1f} | {costs[name] / costs['none']:.3f} |")
    print(f"| every box | | | {costs['every box']:.1f} | {costs['every box'] / costs['none']:.3f} |\n")
    return rows | {"every box, ms": costs["every box"]}


def cost_of_repair(args: argparse.Namespace, embed: EmbedClip) -> dict[str, float]:
    """CPU milliseconds of a whole frame: the detector once for all, then each way in turn."""
    detector, stream, clock = OnnxDetector(args.detector, min_score=0.1, num_threads=1), Stream(args), Clock()
    distances = {"none": 0.0, "where ambiguous": MAX_DISTANCE, "every box": 0.0}
    nodes = {name: nodes_of(stream, embed, max_distance=distance) for name, distance in distances.items()}
    detector([torch.zeros(3, *stream.world.image_size, dtype=torch.uint8)])
    embed([torch.zeros(3, 100, 40, dtype=torch.uint8)] * 4)
    for turn, (stamp, picture, found) in enumerate(stream):
        clock.run("detector", detector, [picture])
        for name in list(nodes)[:: 1 if turn % 2 else -1]:
            clock.run(name, nodes[name][stamp.camera].step, stamp, picture, found.boxes, found.scores)
        if len(found.boxes):
            clock.run("embedding", embed, [crop(picture, box) for box in found.boxes])
    embedding = sum(clock.laps.get("embedding", [0.0])) / len(clock.laps["detector"])
    return {name: clock.mean("detector", name) + (embedding if name == "every box" else 0) for name in nodes}


def table_8_4(args: argparse.Namespace) -> dict[str, float]:
    """CPU milliseconds of a clip of four frames."""
    networks, setting = video_networks(args), setting_of(args)
    networks["CF-AAN"] = video_speed.build("CF-AAN", 4, setting)
    clips = torch.randn(1, 4, 3, *setting.size, generator=torch.Generator().manual_seed(0))
    clock = Clock()
    with torch.inference_mode():
        for number in range(args.rounds + 1):
            for name, network in list(networks.items())[:: 1 if number % 2 else -1]:
                clock.run(name if number else "warm-up", network.eval(), clips)
    rows = {name: median(clock.laps[name]) for name in networks}
    print("| network | ms a clip | to NVAN | in the text |\n|---|---:|---:|---:|")
    text = {"NVAN": 0.143, "Spatial-NVAN": 0.101, "STE-NVAN": 0.088, "CF-AAN": 0.118}
    for name, spent in rows.items():
        told = f"{text[name] / text['NVAN']:.2f}" if name in text else ""
        print(f"| {name} | {spent:.0f} | {spent / rows['NVAN']:.2f} | {told} |")
    print()
    return rows


def setting_of(args: argparse.Namespace) -> video_speed.Setting:
    return video_speed.SMALL if args.small else video_speed.FULL


def video_networks(args: argparse.Namespace) -> dict[str, nn.Module]:
    """The video networks of tables 8.4 and 8.5, random weights."""
    setting = setting_of(args)
    spatial = STENVAN(stripes=setting.stripes, temporal_reduction=False, **setting.backbone).to(memory_format=torch.channels_last)
    ours = {name: video_speed.build(name, 4, setting) for name in ("NVAN", "STE-NVAN")}
    return {"NVAN": ours["NVAN"], "Spatial-NVAN": spatial, "STE-NVAN": ours["STE-NVAN"]}


def clip_embedder(network: nn.Module, size: tuple[int, int]) -> EmbedClip:
    """Four crops, the last again where there are fewer, to one embedding."""

    @torch.inference_mode()
    def embed(crops: Sequence[Tensor]) -> Tensor:
        frames = torch.stack([resized(one, *size) for one in (*crops, *[crops[-1]] * (4 - len(crops)))])
        return F.normalize(network(normalize_images(frames)[None]).embedding, dim=1)[0]

    network.eval()
    return embed


def table_8_5(args: argparse.Namespace) -> dict[str, float]:
    """Frames a second and camera of the whole system on one core, by re-ID network."""
    stream, clock, setting = Stream(args), Clock(), setting_of(args)
    small = crop_embedder(load_embedding_network(args.checkpoint))
    video = video_networks(args)
    shape = (1, 4, 3, *setting.size)
    pruned = materialize(video["Spatial-NVAN"].eval(), evenly_pruned(video["Spatial-NVAN"], shape, 0.75))
    narrow = {name: value for name, value in video_speed.NARROW.items() if args.small and name != "backbone"}
    images = EmbeddingNetwork(build_backbone("resnet18" if args.small else "resnet34", **narrow))
    of_images = crop_embedder(images, setting.size)
    clips: dict[str, EmbedClip] = {
        "without re-ID": lambda crops: torch.ones(2),
        "NVAN": clip_embedder(video["NVAN"], setting.size),
        "Spatial-NVAN": clip_embedder(video["Spatial-NVAN"], setting.size),
        "ResNet-34": lambda crops: of_images(crops).mean(0),
        "Spatial-NVAN, 75 %": clip_embedder(pruned, setting.size),
    }
    detector = OnnxDetector(args.detector, min_score=0.1, num_threads=1)
    blank = torch.zeros(3, 100, 40, dtype=torch.uint8)
    sizes = {name: len(embed([blank])) for name, embed in clips.items()}  # and each is warm
    small([blank] * 2), detector([torch.zeros(3, *stream.world.image_size, dtype=torch.uint8)])
    nodes = {name: nodes_of(stream, small, embed_clip=embed) for name, embed in clips.items()}
    rules = MatchingRules(0.9, own_camera=True)
    matchers = {name: OnlineMatcher(rules, feature_size=size, model="network") for name, size in sizes.items()}
    for turn, (stamp, picture, found) in enumerate(stream):
        clock.run("detector", detector, [picture])
        for name in list(nodes)[:: 1 if turn % 2 else -1]:
            messages = clock.run(name, nodes[name][stamp.camera].step, stamp, picture, found.boxes, found.scores)
            clock.run(f"{name}, matching", feed, matchers[name], messages)
    spent = {name: clock.mean("detector", name, f"{name}, matching") for name in clips}
    print("| re-ID | ms a frame | frames a second, three cameras | to none | in the text |\n|---|---:|---:|---:|---:|")
    for name, one in spent.items():
        ratio, text = spent["without re-ID"] / one, TEXT[name] / TEXT["without re-ID"]
        print(f"| {name} | {one:.1f} | {1e3 / one / 3:.1f} | {ratio:.2f} | {text:.2f} |")
    made = sum(node.num_embedded for node in nodes["NVAN"].values())
    print(f"\n{made} crops for features in {len(clock.laps['detector'])} frames.\n")
    return spent


def share(args: argparse.Namespace) -> dict[str, float]:
    """CPU milliseconds a frame in the networks and outside of them."""
    clock, stream = Clock(), Stream(args)
    network = crop_embedder(load_embedding_network(args.checkpoint))
    detector = OnnxDetector(args.detector, min_score=0.1, num_threads=1)
    size = len(network([torch.zeros(3, 100, 40, dtype=torch.uint8)] * 4)[0])
    detector([torch.zeros(3, *stream.world.image_size, dtype=torch.uint8)])
    nodes = nodes_of(stream, lambda crops: clock.run("re-ID network", network, crops))
    matcher = OnlineMatcher(MatchingRules(0.425, own_camera=True), feature_size=size, model="network")
    for stamp, picture, found in stream:
        clock.run("detector", detector, [picture])
        messages = clock.run("tracking and re-ID", nodes[stamp.camera].step, stamp, picture, found.boxes, found.scores)
        clock.run("matching", feed, matcher, messages)
    total = {name: sum(laps) / len(clock.laps["detector"]) for name, laps in clock.laps.items()}
    rows = {name: total[name] for name in ("detector", "re-ID network", "matching")}
    rows["tracking and the rest"] = total["tracking and re-ID"] - total["re-ID network"]
    whole = sum(rows.values())
    print("| part | ms a frame | share, % |\n|---|---:|---:|")
    for name, spent in rows.items():
        print(f"| {name} | {spent:.2f} | {100 * spent / whole:.1f} |")
    beside = (rows["matching"] + rows["tracking and the rest"]) / whole
    print(f"\nEverything but the networks: {100 * beside:.1f} % (asked: at most 8 %).\n")
    return rows


TABLES = {"8.2": table_8_2, "8.3": table_8_3, "8.4": table_8_4, "8.5": table_8_5, "share": share}


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path, help="SSDLite, or another graph that OnnxDetector takes by its defaults")
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES), help="tables")
    parser.add_argument("--checkpoint", default=DEFAULT, help="network of the appearance repair, and of the share's re-ID")
    parser.add_argument("--seed", type=int, default=1, help="of the world")
    parser.add_argument("--first", type=int, default=150, help="number of the first frame; before, few people are there")
    parser.add_argument("--frames", type=int, default=60, help="of each camera")
    parser.add_argument("--meetings", type=int, default=20, help="encounters, and as many crossings, each in a world of its own")
    parser.add_argument("--rounds", type=int, default=5, help="timed clips of each network")
    parser.add_argument("--small", action="store_true", help="narrow networks, pictures of 192x144")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {}
    for name in args.only:
        print(f"Table {name}\n" if name != "share" else "Share of the CPU\n", flush=True)
        found[name] = TABLES[name](args)
    return found


if __name__ == "__main__":
    main()
