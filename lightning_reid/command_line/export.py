"""``lightning-reid export MODEL OUT``: a network as a file that takes pixels, written only if it gives what PyTorch gives."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from rich.console import Console
from torch import Tensor

from lightning_reid.arguments import height_and_width
from lightning_reid.command_line.model_facts import facts_of_checkpoint, unknown_facts
from lightning_reid.command_line.printable import printable
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.transforms import resized
from lightning_reid.inference import export_network, find_crops, name_with_size
from lightning_reid.inference.exported_files import SUFFIXES, ExportFormat, place_of
from lightning_reid.inference.network_export import ExportedNetwork, milliseconds
from lightning_reid.networks import EmbeddingNetwork, load_embedding_network
from lightning_reid.networks.backbones import PERSON_SIZE
from lightning_reid.networks.shipped import located
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.networks.weights import read_checkpoint
from lightning_reid.records import DRAWN

DESCRIPTION = """Write a network into a file for other runtimes, and keep it only if its embeddings are PyTorch's to 1e-4.

MODEL is our last.ckpt or model folder, of images or of clips (VideoReID), pruned or not, a ResNet or OSNet of torchreid, a ResNet of
fast-reid, or the name of a network that comes with the library. The file takes RGB pixels as they are, uint8 [batch, 3, H, W], or [batch,
T, 3, H, W] of clips, of any batch, normalizes them itself, and gives embeddings float32 [batch, D] of length 1. It tells whose weights it
has: an index that was made by MODEL is of the same model as one that is made by its .onnx file.

OUT with a slash at its end, people/, is a model folder: model.safetensors, config.json, and README.md, a card that tells of the run of
the checkpoint what its files tell, its scores and its calibration. lightning_reid.from_pretrained reads it, and gives MODEL's embeddings
to the bit; a folder that is there is replaced as a whole.

.onnx (extra onnx) runs in onnxruntime: by TensorRT too, where there is CUDA, with the provider TensorrtExecutionProvider, which computes in
other kernels and was not compared here. .pt2 is loaded by torch.export.load. .xml, with .bin beside it (extra openvino), is OpenVINO's.
"""
IMAGES, CLIPS = 16, 5
"""That are compared, at most."""
FRAMES = 8
"""Of a clip, where nobody says: as VideoReIDDataModule has it."""
_PEOPLE, _SHOTS = 8, 4


class Loaded(NamedTuple):
    """A network to be exported.

    Attributes:
        network: In evaluation mode.
        frames: T of the clips that it takes; ``None`` if it takes images.
        card: Where it is told what it is good for.
    """

    network: EmbeddingNetwork
    frames: int | None
    card: str | None


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("model", type=str, help="checkpoint, model folder, state dict or name of a network")
    parser.add_argument("out", type=str, help="new file: .onnx, .pt2 or .xml; or a model folder, with a slash at its end")
    parser.add_argument("--format", type=ExportFormat | None, default=None, help="of OUT; default as its suffix says")
    told = "folder of crops of people to compare on; default generated people, drawn by the library"
    parser.add_argument("--crops", type=str, default=None, help=told)
    size = "HEIGHTxWIDTH in pixels of what the file takes; default what MODEL was trained on, 256x128 where it does not say"
    parser.add_argument("--image_size", type=height_and_width, default=None, help=size)
    frames = f"of a clip, for a network of clips; default as it was trained, {FRAMES} where it does not say"
    parser.add_argument("--frames", type=PositiveInt | None, default=None, help=frames)
    timed = "images, or clips, of the larger batch whose time is taken, beside a batch of 1: fewer where memory is short"
    parser.add_argument("--timed_batch", type=PositiveInt, default=32, help=timed)
    license = "of the weights, for the card of a model folder, as the Hugging Face hub names it: apache-2.0, cc-by-nc-4.0..."
    parser.add_argument("--license", type=str | None, default=None, help=license)
    use = "what the network is meant for, in sentences, for the card of a model folder"
    parser.add_argument("--intended_use", type=str | None, default=None, help=use)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Export, compare, time, and tell.

    Raises:
        ModuleNotFoundError: The extra of the format is not installed.
        OSError: MODEL or the crops are not there, or OUT cannot be written.
        ValueError: See ``export_network`` and ``load``; or a crop cannot be read.
    """
    if is_folder(cfg.out):
        return _run_folder(cfg)
    if not Path(cfg.out).suffix:
        raise ValueError(
            f"{cfg.out} has no suffix: give {cfg.out}/ for a model folder, or a file with one of {', '.join(SUFFIXES.values())}"
        )
    place = place_of(cfg.out, cfg.format)
    loaded = load(cfg.model, cfg.frames)
    size = cfg.image_size or loaded.network.image_size or PERSON_SIZE
    pixels, number = crops_to_compare(cfg.crops, size, loaded.frames)
    exported = export_network(loaded.network, place.path, pixels, format=place.format, card=loaded.card)
    times = milliseconds(loaded.network, exported, pixels, tuple(sorted({1, cfg.timed_batch})))
    told = _told(cfg, loaded, exported, times)
    told["compared"]["crops"] = number
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")  # in ASCII: a name need not be text
    else:
        _print(told)
    return 0


def is_folder(out: str) -> bool:
    """Whether OUT names a model folder."""
    return out.endswith(("/", os.sep)) or Path(out).is_dir()


def _run_folder(cfg: Namespace) -> int:
    unused = [name for name in ("format", "crops") if cfg[name] is not None]
    if unused:
        raise ValueError(f"--{unused[0]} is of exported files, and {cfg.out} is a model folder: leave it out")
    if located(cfg.model).is_dir():
        raise ValueError(f"{cfg.model} is a model folder already: copy it, card and all")
    network = load(cfg.model, cfg.frames).network
    size = cfg.image_size or network.image_size or PERSON_SIZE
    told_by_user = {"title": Path(cfg.out).resolve().name, "license": cfg.license, "intended_use": cfg.intended_use}
    facts = replace(facts_of_checkpoint(cfg.model, network, size), **told_by_user)
    network.save_pretrained(cfg.out, facts=facts, image_size=size, clip_length=cfg.frames)
    told = {
        "out": sorted(str(file) for file in Path(cfg.out).iterdir()),
        "model": name_with_size(network, size),
        "scores": {one.stamp.dataset: dict(one.scores) for one in facts.scores},
        "unknown": unknown_facts(facts),
        "notes": [] if network.image_size else [f"the model does not say on which images it was trained: {size[0]}x{size[1]} is told"],
    }
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")
    else:
        _print_folder(cfg.out, told)
    return 0


def _print_folder(out: str, told: Mapping[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(printable(f"{out}: model folder of the model {told['model']}, which gives its embeddings to the bit"))
    for data, scores in told["scores"].items():
        console.print(printable(f"  on {data}: " + ", ".join(f"{name} {100 * score:.1f}" for name, score in scores.items())))
    for way_on in dict.fromkeys(told["unknown"].values()):
        unknown = ", ".join(words for words, way in told["unknown"].items() if way == way_on)
        console.print(printable(f"  its card does not know {unknown}: {way_on}"))
    for note in told["notes"]:
        console.print(printable(f"notes: {note}"))


def load(model: str, frames: int | None) -> Loaded:
    """A network of images, or of clips of so many frames.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no network of the house, or of images, which have no frames.
    """
    if Path(model).suffix.lower() in SUFFIXES.values():
        raise ValueError(f"{model} is an exported network already: give the checkpoint that it was made of")
    folder = located(model)
    card = f"README.md of {folder.resolve().name}" if (folder / "README.md").is_file() else None
    if read_checkpoint(model).get("hyper_parameters", {}).get("network") is None:
        if frames is not None:
            raise ValueError(f"{model} is of a network of images: leave --frames out")
        return Loaded(load_embedding_network(model), None, card)
    from lightning_reid.modules.video import load_video_network  # with Lightning, which networks of images need not wait for

    video = load_video_network(model)
    return Loaded(video, frames or video.clip_length or FRAMES, card)


def crops_to_compare(folder: str | None, size: tuple[int, int], frames: int | None) -> tuple[Tensor, int]:
    """Crops, or clips of crops that follow one another by name, and of how many files they are.

    Args:
        folder: Of images, spread over which they are taken; ``None`` for generated people.
        size: (height, width) in pixels that they are resized to.
        frames: T of a clip; ``None`` for images.

    Returns:
        ``[N, 3, H, W]`` or ``[N, T, 3, H, W]`` uint8, N at least 5, crops coming again where there are too few; and the number of crops.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no images.
        ValueError: A crop cannot be read.
    """
    paths = _generated() if folder is None else find_crops([folder])
    count = CLIPS if frames else max(CLIPS, min(IMAGES, len(paths)))
    length = frames or 1
    starts = [number * max(len(paths) // count, 1) for number in range(count)]
    chosen = [paths[(start + step) % len(paths)] for start in starts for step in range(length)]
    images = {path: _read(path, size) for path in dict.fromkeys(chosen)}
    crops = torch.stack([images[path] for path in chosen])
    return (crops.unflatten(0, (count, length)) if frames else crops), len(images)


def _generated() -> Sequence[str]:
    return [f"{DRAWN}0/{pid}/{camid}/0" for pid in range(1, _PEOPLE + 1) for camid in range(1, _SHOTS + 1)]


def _read(path: str, size: tuple[int, int]) -> Tensor:
    try:
        return resized(load_image(path), *size)
    except CorruptImageError as error:
        raise ValueError(str(error)) from error


def _told(cfg: Namespace, loaded: Loaded, exported: ExportedNetwork, times: dict[int, dict[str, float]]) -> dict[str, Any]:
    words, (height, width) = exported.told, exported.told.image_size
    clip = [loaded.frames] if loaded.frames else []
    return {
        "out": [str(file) for file in exported.files],
        "format": exported.format,
        "bytes": sum(file.stat().st_size for file in exported.files),
        "model": words.model,
        "takes": f"uint8 {['batch', *clip, 3, height, width]}".replace("'", ""),
        "gives": f"float32 [batch, {loaded.network.num_features}]",
        "compared": {
            "largest difference": exported.largest_difference,
            "batches": list(exported.batches),
            "of": "generated people" if cfg.crops is None else cfg.crops,
        },
        "milliseconds": {str(size): {who: round(value, 3) for who, value in row.items()} for size, row in times.items()},
        "threads": torch.get_num_threads(),
        "notes": _notes(cfg, loaded, exported),
    }


def _notes(cfg: Namespace, loaded: Loaded, exported: ExportedNetwork) -> list[str]:
    notes, taken, trained = [], exported.told.image_size, loaded.network.image_size
    if cfg.crops is None:
        notes.append("compared on people who were drawn: give --crops to compare on real ones")
    if trained is None:
        notes.append(f"the model does not say on which images it was trained: it takes {taken[0]}x{taken[1]} here (--image_size)")
    elif trained != taken:
        notes.append(f"it was trained on images of {trained[0]}x{trained[1]}: at {taken[0]}x{taken[1]} it finds people less well")
    if isinstance(loaded.network, VideoNetwork) and loaded.network.clip_length != loaded.frames:
        known = loaded.network.clip_length
        says = "does not say" if known is None else f"says {known}"
        notes.append(f"the model {says} on clips of how many frames it was trained: it takes {loaded.frames} here (--frames)")
    if exported.difference_unasked is not None:
        notes.append(
            "ask OpenVINO for float32, compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}): unasked it computes as this CPU"
            f" is quickest, and embeddings differ from PyTorch's by up to {exported.difference_unasked:.1e}"
        )
    return notes


def _print(told: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)

    def tell(line: str) -> None:
        console.print(printable(line))

    compared = told["compared"]
    tell(f"{' and '.join(told['out'])}: {told['format']}, {told['bytes'] / 1e6:.1f} MB, of the model {told['model']}")
    tell(f"  takes {told['takes']}, gives {told['gives']}")
    tell(
        f"  differs from PyTorch by at most {compared['largest difference']:.1e} in batches of {', '.join(map(str, compared['batches']))},"
        f" on {compared['crops']} crops of {compared['of']}"
    )
    for size, row in told["milliseconds"].items():
        tell(f"  ms a batch of {size}: " + ", ".join(f"{value:.1f} by {who}" for who, value in row.items()))
    tell(f"  median on this CPU, threads: {told['threads']}")
    for note in told["notes"]:
        tell(f"notes: {note}")
