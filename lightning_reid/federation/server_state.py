"""The file of a server's state: safetensors with a checksum."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from typing_extensions import Buffer

from lightning_reid.arguments import require_count, shown
from lightning_reid.checksums import CHECKSUM, checksum
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.plausibility import LARGEST_COUNT, implausible
from lightning_reid.federated.strategies import ServerState
from lightning_reid.files import write_atomically
from lightning_reid.networks.archives import require_file

logger = logging.getLogger(__name__)

_TOLD_BEFORE = {"strategy", "round", "clients", "federation"}
_ROUNDS = re.compile(r"0|[1-9][0-9]{0,8}")
_TOLD_WITHOUT_WALK = {*_TOLD_BEFORE, "signed_up", CHECKSUM}
_TOLD = {*_TOLD_WITHOUT_WALK, "owed", "retried"}


def write_server_state(path: Path, state: ServerState) -> None:
    """Write a server's state as safetensors, atomically."""
    about = {
        "strategy": state.strategy,
        "round": str(state.round),
        "clients": json.dumps(state.clients),
        "federation": state.federation,
        "signed_up": json.dumps(state.signed_up),
        "owed": json.dumps(state.owed),
        "retried": str(state.retried),
    }
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    about[CHECKSUM] = checksum(about, _contents(tensors))
    content = save(tensors, metadata=about)  # not save_file: on a full disk that raises no OSError
    write_atomically(path, lambda file: file.write_bytes(content))


def read_server_state(path: Path) -> ServerState:
    """Read a server's state that ``write_server_state`` wrote; files of earlier versions have no checksum, which is told.

    Raises:
        OSError: There is no such file, or something else under its name.
        ValueError: The file is damaged, or holds something else; the message names it.
    """
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dictionary)
        if {*about} not in (_TOLD, _TOLD_WITHOUT_WALK, _TOLD_BEFORE):
            raise ValueError(f"it tells {', '.join(sorted(about)) or 'nothing'}, expected {', '.join(sorted(_TOLD))}")
        if CHECKSUM in about and about[CHECKSUM] != checksum(about, _contents(tensors)):
            raise ValueError("its checksum is wrong")
        state = _state(about, tensors)
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        told = f"{path} is damaged, or no state of a federation's server ({error!r})"
        raise ValueError(f"{told}: restore it, or begin anew in another folder") from error
    if CHECKSUM not in about:
        logger.warning("%s has no checksum, an earlier version wrote it: damage to it cannot be told. The next round gives it one", path)
    return state


def _state(about: dict[str, str], tensors: dict[str, torch.Tensor]) -> ServerState:
    clients: Any = json.loads(about["clients"])
    signed_up: Any = json.loads(about.get("signed_up", "{}"))
    owed: Any = json.loads(about.get("owed", "[]"))
    retried = about.get("retried", "0")
    for rounds in (about["round"], retried):
        if not _ROUNDS.fullmatch(rounds):
            raise ValueError(f"it tells of {shown(rounds)} rounds")
    named = isinstance(clients, list) and clients and all(isinstance(client, str) and client for client in clients)
    if not named or len({*clients}) < len(clients):
        raise ValueError(f"it tells of clients {shown(clients)}, expected different ids")
    if not isinstance(signed_up, dict) or not {*signed_up} <= {*clients}:
        raise ValueError(f"it tells that {shown(signed_up)} signed up, clients are {shown(clients)}")
    if not isinstance(owed, list) or not all(client in clients for client in owed):
        raise ValueError(f"it tells that {shown(owed)} are owed a visit, clients are {shown(clients)}")
    for client, images in signed_up.items():
        require_count(f"the images that client {shown(client)} signed up with", images, high=LARGEST_COUNT)
    broken = implausible(tensors, tensors)
    if not tensors or broken:
        raise ValueError(broken or "it holds no tensors")
    return ServerState(about["strategy"], int(about["round"]), tensors, clients, about["federation"], signed_up, owed, int(retried))


def _contents(tensors: NamedTensors) -> Iterator[Buffer]:
    for name, tensor in sorted(tensors.items()):
        yield f"{name} {tensor.dtype} {list(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
