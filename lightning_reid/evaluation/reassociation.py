"""Is the same person found some frames later, by a network, in an annotated video?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.datamodules.mot.crops import whole_corners
from lightning_reid.datamodules.mot.sequence import (
    PEDESTRIAN,
    Image,
    MotBox,
    MotSequence,
    read_annotation,
    require_told_length,
    stream_frames,
)
from lightning_reid.inference.crop_embedding import crop_embedder
from lightning_reid.inference.onnx_embedding import OnnxEmbedder
from lightning_reid.metrics import Reassociation
from lightning_reid.networks import EmbeddingNetwork

CROPS_AT_ONCE = 64
"""That are embedded together at least, of one frame or several."""


@dataclass(frozen=True)
class SequenceBoxes:
    """The boxes of a sequence that somebody can be asked for by.

    Attributes:
        sequence: Where it lies.
        by_frame: Of each frame that has some, their corners x0, y0, x1, y1 in whole pixels within the picture, and their tracks.
        left_out: Why how many boxes of the annotation are none of them.
    """

    sequence: MotSequence
    by_frame: dict[int, list[tuple[tuple[int, int, int, int], int]]]
    left_out: dict[str, int]


def boxes_to_reassociate(sequence: MotSequence, gaps: Sequence[int], *, min_visibility: float = 0.0) -> SequenceBoxes:
    """Read the annotation of a sequence, and make sure that it is of these pictures and that there is somebody to be found over each gap.

    Args:
        sequence: As ``open_sequence`` gives it; a video is read through once to count its frames.
        gaps: In frames.
        min_visibility: Boxes of which the annotation says that less is visible are left out, in [0, 1].

    Raises:
        ValueError: The annotation does not parse, the number of pictures is not the one told, or no track is seen twice a gap apart.

    Example:
        >>> from PIL import Image
        >>> from lightning_reid.datamodules.mot.sequence import open_sequence
        >>> from lightning_reid.evaluation import boxes_to_reassociate
        >>> (folder / "img1").mkdir()  # a folder of MOTChallenge
        >>> for number in (1, 2):
        ...     Image.new("RGB", (64, 64)).save(folder / "img1" / f"{number:06d}.png")
        >>> with (folder / "gt.txt").open("w") as file:
        ...     print("1,7,5,10,20,50,1", "1,9,37,10,20,50,0", "2,7,37,10,20,50,1", sep=chr(10), file=file)
        >>> boxes = boxes_to_reassociate(open_sequence(folder), gaps=[1])
        >>> boxes.by_frame[1], boxes.left_out  # 9 is "not to be considered"
        ([((5, 10, 25, 60), 7)], {'not considered': 1})
    """
    require_told_length(sequence)
    left_out: dict[str, int] = defaultdict(int)
    by_frame: dict[int, list[tuple[tuple[int, int, int, int], int]]] = defaultdict(list)
    boxes = read_annotation(sequence.annotation)
    for box, (x0, y0, x1, y1) in zip(boxes, whole_corners(boxes, (sequence.width, sequence.height)).tolist(), strict=True):
        why = _why_left_out(box, min_visibility) or ("outside the picture" if x0 >= x1 or y0 >= y1 else "")
        if why:
            left_out[why] += 1
        else:
            by_frame[box.frame].append(((x0, y0, x1, y1), box.mot_id))
    tracks = {frame: {track for _, track in found} for frame, found in by_frame.items()}
    for gap in gaps:
        if not any(tracks[frame] & tracks.get(frame + gap, set()) for frame in tracks):
            spans = [max(frames) - min(frames) for frames in _frames_of_tracks(tracks).values()]
            raise ValueError(
                f"{sequence.annotation}: no track has boxes in two frames that are {gap} apart. Give a shorter gap; the longest track lasts"
                f" {max(spans, default=-1) + 1} frames"
            )
    return SequenceBoxes(sequence, dict(sorted(by_frame.items())), dict(left_out))


def reassociate(
    network: EmbeddingNetwork | OnnxEmbedder, boxes: SequenceBoxes, gaps: Sequence[int], image_size: tuple[int, int] | None = None
) -> Iterator[Reassociation]:
    """Embed the boxes of a video, frame by frame, and compare frames that are ``gaps`` apart.

    One picture and the embeddings of the last ``max(gaps)`` frames are held at a time, whatever the length of the video.

    Args:
        network: Embeds on the device that it is on.
        boxes: As ``boxes_to_reassociate`` gives them.
        gaps: In frames, each at least 1.
        image_size: (height, width) in pixels that crops are resized to; ``None`` is what the network says, or 256x128.

    Yields:
        The same object after each frame that has boxes; it is complete after the last.

    Raises:
        ValueError: A gap comes twice or is below 1, a picture does not decode, or an embedding is not finite.

    Example:
        >>> from PIL import Image
        >>> from lightning_reid.datamodules.mot.sequence import open_sequence
        >>> from lightning_reid.evaluation import boxes_to_reassociate, reassociate
        >>> from lightning_reid.inference import load_network
        >>> (folder / "img1").mkdir()  # a folder of MOTChallenge: two people in red and blue, who change places
        >>> for number, looks in enumerate([("red", "blue"), ("blue", "red")], start=1):
        ...     picture = Image.new("RGB", (64, 64), "gray")
        ...     for place, look in enumerate(looks):
        ...         picture.paste(Image.new("RGB", (20, 50), look), (5 + 32 * place, 10))
        ...     picture.save(folder / "img1" / f"{number:06d}.png")
        >>> with (folder / "gt.txt").open("w") as file:
        ...     print("1,7,5,10,20,50,1", "1,9,37,10,20,50,1", "2,7,37,10,20,50,1", "2,9,5,10,20,50,1", sep=chr(10), file=file)
        >>> boxes = boxes_to_reassociate(open_sequence(folder), gaps=[1])
        >>> *_, video = reassociate(load_network(), boxes, gaps=[1])
        >>> video.scores(1).scores.mAP, video.scores(1).chance
        (1.0, 0.5)
    """
    embed: Callable[[Sequence[Tensor]], Tensor]
    embed = network.embed_crops if isinstance(network, OnnxEmbedder) else crop_embedder(network, image_size)
    video, waiting, crops = Reassociation(gaps), list[tuple[int, list[int]]](), list[Tensor]()
    last = max(boxes.by_frame)
    for number, picture in stream_frames(boxes.sequence.frames, boxes.by_frame):
        found = boxes.by_frame[number]
        waiting.append((number, [track for _, track in found]))
        crops += [_crop(picture, corners) for corners, _ in found]
        if len(crops) >= CROPS_AT_ONCE or number == last:
            embeddings = embed(crops).split([len(tracks) for _, tracks in waiting])
            for (frame, tracks), rows in zip(waiting, embeddings, strict=True):
                video.update(frame, rows, torch.tensor(tracks))
                yield video
            waiting, crops = [], []


def _why_left_out(box: MotBox, min_visibility: float) -> str:
    if not box.considered or box.category != PEDESTRIAN:
        return "not considered"
    return "hidden" if box.visible is not None and box.visible < min_visibility else ""


def _frames_of_tracks(tracks: dict[int, set[int]]) -> dict[int, list[int]]:
    frames = defaultdict(list)
    for frame, found in tracks.items():
        for track in found:
            frames[track].append(frame)
    return frames


def _crop(picture: Image, corners: tuple[int, int, int, int]) -> Tensor:
    """``[3, h, w]`` RGB."""
    x0, y0, x1, y1 = corners
    return torch.from_numpy(picture[y0:y1, x0:x1, ::-1].copy()).permute(2, 0, 1).contiguous()
