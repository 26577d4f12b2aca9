"""What can be done with a path: the commands for it, as they can be typed."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_reid.command_line.seen import (
    INDEX,
    MARKET_PART,
    NETWORK,
    NETWORK_FILE,
    NOT_NAMED,
    PACKED_IMAGES,
    PACKED_TRACKLETS,
    RUN,
    SEQUENCE,
    VIDEO,
    Found,
    is_somebody,
    parent_of,
)
from lightning_reid.datamodules.readers.mars import FOLDERS as FOLDERS_OF_MARS
from lightning_reid.files import read_json
from lightning_reid.networks.shipped import DEFAULT, located

P = 16
"""People of a batch, as recipes have it by default."""
VAL_IDENTITIES, LEAST_PEOPLE = 0.1, 2
"""Share of the people to train on that DataModules hold out by default, and how many it is at least."""
EPOCHS = 60
QUICK_EPOCHS = 20
"""Of a small network, which a CPU trains in minutes."""
HOURS = (
    "to train a ResNet-50 at 256x128, as recipes do by default, takes hours without a GPU:"
    " the command with --model.backbone resnet18 trains a small network in minutes"
)


def next_commands(path: Path, found: Found) -> list[str]:
    """What can be done with it, as commands of a shell."""
    given = _argument(str(path))
    name = path.resolve().name if path.is_dir() else path.stem
    if found.kind == VIDEO:
        named = f"{path.stem.replace('=', '-')}={given}" if "=" in given else given
        return [_command("crops", named, _argument(f"{name}-crops"))]
    if found.kind == SEQUENCE:
        return [f"python -m lightning_reid.datamodules.mot.conversion {shlex.join([given, f'{path.resolve()}-crops'])}"]
    if found.kind in (PACKED_IMAGES, PACKED_TRACKLETS):
        train = ("supervised" if found.kind == PACKED_IMAGES else "video", "--data.dataset")
        return [_command("health", _argument(str(path))), _command("train", *train, _argument(str(path)))]
    if found.kind == INDEX:
        return [_command("search", given, "--query", "picture.jpg")]
    if found.kind == RUN:
        return [_embedding_by(_argument(one)) for one in found.weights]
    if found.kind in (NETWORK_FILE, NETWORK):
        exported = [] if path.suffix.lower() == ".onnx" else [_command("export", given, _argument(f"{name}.onnx"))]
        return [_embedding_by(given), *exported]
    if not found.images:
        return []
    train_alone = found.tracklets and all(one.split == "train" for one in found.images)  # beside which lies a contact sheet, say
    crops = _argument(str(path / FOLDERS_OF_MARS[0])) if train_alone else given
    embedded = [_command("embed", crops, _argument(f"{name}.npz"))] if path.is_dir() else []
    if found.kind == MARKET_PART:
        return [_command("doctor", _argument(str(parent_of(path)))), *embedded]
    if found.pattern is not None:
        return [_command("convert", given, _table(path), "--pattern", found.pattern.text), *embedded]
    if found.kind == NOT_NAMED:
        return [*_unlabeled(["--data.dataset", given]), *embedded]
    return [*_trainings(found), *embedded]


def _command(*arguments: str) -> str:
    return shlex.join(["lightning-reid", *arguments])


def _embedding_by(model: str) -> str:
    return _command("embed", "my_crops/", "embeddings.npz", "--model", model)


def _argument(path: str) -> str:
    """Of a command, not taken for an option."""
    return f"./{path}" if path.startswith("-") else path


def _table(path: Path) -> str:
    """A new table beside a folder, which it must lie beside or above, as short as it can be told."""
    folder = path.resolve()
    name = f"{folder.name}.csv"
    return _argument(name) if folder.parent == Path.cwd() else str(folder.parent / name)


def _trainings(found: Found) -> list[str]:
    """What can be trained, with the options that these data need."""
    of = {split: [one for one in found.images if one.split == split] for split in ("train", "val", "query", "gallery")}
    people = {one.person for one in of["train"] if is_somebody(one)}
    if found.options is None or not of["train"]:
        return []
    data = [one if one.startswith("--data.") else _argument(one) for one in found.options]
    if not people:
        return _unlabeled(data)
    protocol = ["--model.protocol", "no-camera"] if len({one.camera for one in found.images}) == 1 else []
    if found.tracklets:
        return [_command("train", "video", *data, *_p(len(people)))] if of["query"] and of["gallery"] else []
    unlabeled = _command("train", "buc", *data, *protocol)
    if len(people) < LEAST_PEOPLE:
        return [unlabeled]
    if of["query"] and of["gallery"]:
        supervised = ["train", "supervised", *data, *_p(len(people)), *protocol]
        return [_command(*supervised, *_small_network(), "--epochs", str(QUICK_EPOCHS)), _command(*supervised), unlabeled]
    held_out, options = _held_out(found, people)
    fit = ["train", "fit", "--model", "SupervisedReID", *protocol, "--data", "ImageReIDDataModule", *data, "--data.needs_test", "false"]
    fit, last = [*fit, *options, *_p(len(people) - held_out)], "--trainer.max_epochs"
    return [_command(*fit, *_small_network(), last, str(QUICK_EPOCHS)), _command(*fit, last, str(EPOCHS)), unlabeled]


def notes_on(commands: Sequence[str]) -> list[str]:
    """What should be known before one of the next commands is started."""
    return [HOURS] if any(f"--model.weights {DEFAULT}" in one for one in commands) else []


def _small_network() -> list[str]:
    """Options of a recipe that goes on from the network that comes with the library, as its folder describes it."""
    card = read_json(located(DEFAULT) / "config.json", way_on="install the library again")
    names = ("backbone", "backbone_options", "pooling")
    written = {name: card[name] if isinstance(card[name], str) else _compact(card[name]) for name in names}
    network = [word for name in names for word in (f"--model.{name}", written[name])]
    size = ["--data.image_size", _compact(card["image_size"])]
    return [*network, "--model.weights", DEFAULT, *size]


def _compact(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _unlabeled(data: list[str]) -> list[str]:
    """Of images of whom nobody knows, by a network that is there already."""
    target = ["--target", *data[1:]] if data[0] == "--data.dataset" else data
    started = ["--start_from", DEFAULT]
    return [_command("train", "hsr", *target, *started), _command("train", "buc", *data, *started)]


def _p(people: int) -> list[str]:
    return ["--data.p", str(max(people, LEAST_PEOPLE))] if people < P else []


def _held_out(found: Found, people: set[str | None]) -> tuple[int, list[str]]:
    """How many people will be held out to validate on, and the options where none can be: as ``hold_out_people`` has it."""
    if any(one.split == "val" for one in found.images):
        return 0, []
    seen = {(one.person, one.camera) for one in found.images if one.split == "train" and one.person in people}
    twice = sum(count > 1 for count in Counter(person for person, _ in seen).values())
    wanted = max(LEAST_PEOPLE, round(VAL_IDENTITIES * len(people)))
    if wanted > twice or len(people) - wanted < LEAST_PEOPLE:
        return 0, ["--data.val_identities", "0", "--trainer.limit_val_batches", "0"]
    return wanted, []
