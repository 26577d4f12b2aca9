"""Damaged, foreign and hostile files given as weights: a named error, or the weights as they were; and nothing is ever run."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import TIMES
from safetensors.torch import save
from torch import Tensor

from lightning_reid.checkpoints import DurableCheckpointIO
from lightning_reid.federation.server_state import read_server_state
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import build_backbone, from_pretrained, load_embedding_network
from lightning_reid.networks.teacher import load_teacher
from lightning_reid.networks.weights import read_state_dict
from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet

NARROW = {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}
SEED = 17

Weights = dict[str, Tensor]


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mknod, (self.marker,)


def module() -> SupervisedReID:
    torch.manual_seed(0)
    return SupervisedReID(num_classes=3, backbone="resnet18", backbone_options=NARROW)


def pickled(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Any]:
    trained = module()
    return {
        "state_dict": trained.state_dict(),
        "hyper_parameters": dict(trained.hparams),
        "pytorch-lightning_version": "2.6.0",
        "image_size": [64, 32],
    }


LOADERS: dict[str, Callable[[Path], Weights]] = {
    "module": lambda path: SupervisedReID.load_from_checkpoint(path).network.state_dict(),
    "network": lambda path: load_embedding_network(path).state_dict(),
    "teacher": lambda path: load_teacher(path).network.state_dict(),
    "state dict": lambda path: {
        name.removeprefix("network."): tensor for name, tensor in read_state_dict(path).items() if name.startswith("network.")
    },
    "durable": lambda path: {
        name.removeprefix("network."): tensor
        for name, tensor in DurableCheckpointIO().load_checkpoint(path)["state_dict"].items()
        if name.startswith("network.")
    },
}
"""Every way in which this library reads a checkpoint, as the weights of the network in it."""
BUILDING = ("module", "network", "teacher")
"""Those that build what the checkpoint tells; the others only read it."""


def refused_or_equal(load: Callable[[Path], Weights], path: Path, whole: Weights) -> bool:
    """Whether the file is refused by its name; where it is not, the weights are the whole file's."""
    try:
        loaded = load(path)
    except (ValueError, OSError) as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert str(path) in told, f"the error names no file: {told}"
        assert "weights_only" not in told, "nobody is told to run the code of a damaged file"
        return True
    assert loaded.keys() >= whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(loaded[name], tensor), f"{name} was taken over damaged"
    return False


def damaged(whole: bytes, draw: random.Random) -> Iterator[bytes]:
    """Cut, overwritten, with bits flipped, with a piece lost or twice."""
    for share in (0, 0.01, 0.3, 0.9, 0.999):
        yield whole[: int(share * len(whole))]
    for _ in range(12 * TIMES):
        flipped, place = bytearray(whole), draw.randrange(len(whole))
        flipped[place] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
    for length in [length for length in (1, 100, 4000) if length < len(whole)] * TIMES:
        place = draw.randrange(len(whole) - length)
        yield whole[:place] + bytes(length) + whole[place + length :]
        yield whole[:place] + draw.randbytes(length) + whole[place + length :]
        yield whole[:place] + whole[place + length :]
        yield whole[: place + length] + whole[place:]


@pytest.mark.parametrize("old", [False, True], ids=["of today", "of torch before 1.6"])
def test_a_damaged_checkpoint_is_refused_by_name_or_gives_its_weights(checkpoint, tmp_path, old):
    # the old format has no checksum: of its weights nobody can tell, and only what is before them is damaged here
    whole = pickled(checkpoint, _use_new_zipfile_serialization=not old)
    network, draw, path = module().network.state_dict(), random.Random(SEED), tmp_path / "last.ckpt"
    refused = tried = 0
    for number, content in enumerate(damaged(whole, draw)):
        if old and len(content) == len(whole):
            continue
        path.write_bytes(content)
        name = ("state dict", "durable", *BUILDING)[number % (5 if number < 10 else 2)]  # to build takes ten times as long as to read
        refused += refused_or_equal(LOADERS[name], path, network)
        tried += 1
    assert refused > tried / 2, f"{refused} of {tried}"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_model_folder_is_refused_by_name_or_gives_its_weights(tmp_path, name):
    network, folder, draw = module().network.eval(), tmp_path / "model", random.Random(SEED)
    network.save_pretrained(folder, image_size=(64, 32))
    whole, state = (folder / name).read_bytes(), network.state_dict()
    refused = tried = 0
    for content in damaged(whole, draw):
        (folder / name).write_bytes(content)
        refused += refused_or_equal(lambda path: from_pretrained(path).state_dict(), folder, state)
        tried += 1
    assert refused > tried / 2, f"{refused} of {tried}"


def header(told: dict[str, Any] | bytes, data: bytes = bytes(16), size: int | None = None) -> bytes:
    written = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<Q", len(written) if size is None else size) + written + data


def entry(**changed: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changed


LYING = {
    "beyond the file": header({"a": entry(shape=[400], data_offsets=[0, 1600])}),
    "overlapping": header({"a": entry(), "b": entry(shape=[2], data_offsets=[8, 16])}),
    "with a hole": header({"a": entry(shape=[1], data_offsets=[0, 4]), "b": entry(shape=[1], data_offsets=[12, 16])}),
    "backwards": header({"a": entry(data_offsets=[16, 0])}),
    "of another size": header({"a": entry(shape=[5])}),
    "of a product that overflows": header({"a": entry(shape=[2**32, 2**32, 4])}),
    "negative": header({"a": entry(shape=[-4])}),
    "of a kind that is not known": header({"a": entry(dtype="F77")}),
    "of a kind that torch lacks": header({"a": entry(dtype="F8_E8M0", shape=[16])}),
    "of float8": header({"a": entry(dtype="F8_E4M3", shape=[16])}),
    "complex": header({"a": entry(dtype="C64", shape=[2])}),
    "of int8": header({"a": entry(dtype="I8", shape=[16])}),
    "no JSON": header(b'{"a": '),
    "no object": header(b"[1, 2]"),
    "latin-1": header('{"ä": 1}'.encode("latin-1")),
    "nested": header(b'{"a":' * 5000),
    "twice the same name": header(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'
    ),
    "a header of 2^63 bytes": header({}, size=2**63),
    "a header of 100 MB": header({}, size=10**8 - 1),
    "a header beyond the file": header({"a": entry()}, size=1000),
    "nothing in it": header({}, b""),
    "seven bytes": bytes(7),
    "empty": b"",
    "NaN": header({"a": entry()}, struct.pack("<4f", 1, float("nan"), 2, 3)),
}


@pytest.mark.parametrize("lie", LYING)
def test_a_safetensors_file_with_a_lying_header_is_refused_by_name(tmp_path, lie):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(LYING[lie])
    for read in (read_state_dict, read_server_state, partial(build_backbone, "resnet18", **NARROW)):
        with pytest.raises(ValueError, match=r"weights\.safetensors"):
            read(weights=str(path)) if isinstance(read, partial) else read(path)


def test_flipped_bits_in_the_header_of_a_safetensors_file_are_refused_or_change_no_weight(tmp_path):
    network = module().network
    whole, path, draw = save(network.state_dict()), tmp_path / "weights.safetensors", random.Random(SEED)
    end = 8 + struct.unpack("<Q", whole[:8])[0]  # the format has no checksum: of the bytes behind its header nobody can tell
    for _ in range(40 * TIMES):
        place = draw.randrange(end)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            read = read_state_dict(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017  (it need not be raised)
            continue
        # another name or kind is what a network that is built does not take
        assert all(
            torch.equal(read[name], tensor) for name, tensor in network.state_dict().items() if name in read and fits(read[name], tensor)
        )


def fits(read: Tensor, tensor: Tensor) -> bool:
    return read.shape == tensor.shape and read.dtype == tensor.dtype


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("wrapped", ["alone", "in the weights", "in the arguments", "in torch.save's oldest format"])
def test_nothing_that_a_checkpoint_brings_along_is_run(checkpoint, tmp_path, loader, wrapped):
    marker, path = tmp_path / "code ran", tmp_path / "last.ckpt"
    evil = RunsCode(marker)
    content = {
        "alone": pickle.dumps(evil),
        "in the weights": pickled(checkpoint | {"state_dict": checkpoint["state_dict"] | {"network.x": evil}}),
        "in the arguments": pickled(checkpoint | {"hyper_parameters": checkpoint["hyper_parameters"] | {"margin": evil}}),
        "in torch.save's oldest format": pickled(evil, _use_new_zipfile_serialization=False),
    }
    path.write_bytes(content[wrapped])
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        LOADERS[loader](path)
    assert not marker.exists(), "what the file brought along was run"


def other_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/notes.txt", "mine")
    return file.getvalue()


STRANGERS = {
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a web page": b"<!DOCTYPE html>\n<html><body>404</body></html>",
    "ONNX": b"\x08\x08\x12\x07pytorch\x1a\x05",
    "a ZIP archive": other_zip(),
    "text": b"these are no weights\n" * 100,
    "a JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(100),
    "zeros": bytes(5000),
    "a list": pickled([torch.zeros(3)]),
    "a tensor": pickled(torch.zeros(3)),
    "nothing": pickled(None),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, loader):
    path = tmp_path / "last.ckpt"
    for content in STRANGERS.values():
        path.write_bytes(content)
        with pytest.raises((ValueError, OSError), match=r"last\.ckpt"):
            LOADERS[loader](path)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_folder_a_pipe_and_nothing_at_all_are_refused_by_name_and_waited_for_by_nobody(tmp_path, loader):
    for name, make in (("folder.ckpt", os.mkdir), ("pipe.ckpt", os.mkfifo), ("gone.ckpt", lambda path: None)):
        make(tmp_path / name)
        with pytest.raises((ValueError, OSError), match=name):
            LOADERS[loader](tmp_path / name)


def test_packed_tracklets_with_damaged_headers_are_refused_by_name_or_give_their_frames(tmp_path):
    write_packed_tracklet(tmp_path / "a.safetensors", torch.zeros(2, 3, 8, 4, dtype=torch.uint8))
    whole, draw, path = (tmp_path / "a.safetensors").read_bytes(), random.Random(SEED), tmp_path / "b.safetensors"
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    for _ in range(60 * TIMES):
        place = draw.randrange(end)
        path.write_bytes(whole[:place] + draw.randbytes(3) + whole[place + 3 :])
        try:
            frames, _ = PackedTracklet(path).read([0, 1])
        except (ValueError, OSError) as error:
            assert str(path) in str(error)  # noqa: PT017  (it need not be raised)
            continue
        assert not frames.any()
