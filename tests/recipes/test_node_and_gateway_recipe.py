"""Nodes and a gateway, as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from forked import FORKED, forked

from lightning_reid.inference import crop_embedder
from lightning_reid.live.tokens import read_token
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.networks.network_name import network_name
from lightning_reid.recipes import track_cameras
from lightning_reid.recipes.workshop import live_node
from lightning_reid.recipes.workshop.live_networks import LiveNetworks

WORLD = {"num_cameras": 2, "num_people": 6, "seconds": 20.0, "image_size": [144, 192], "encounters": 1, "crossings": 1, "twins": 0}
OPTIONS = [f"--world.{name}={value}" for name, value in WORLD.items()]


def issued(folder: Path, *options: str) -> Path:
    path = folder / f"{len(list(folder.glob('*.token')))}.token"
    path.write_text(track_cameras.main(["token", f"--output={folder}", *options]) + "\n")
    return path


@contextmanager
def gateway_process(folder: Path) -> Iterator[tuple[subprocess.Popen, str, int]]:
    """``track_cameras.py gateway`` on a free port, its address and how many messages it has replayed."""
    command = [sys.executable, "-m", "lightning_reid.recipes.track_cameras", "gateway", f"--output={folder}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one:
        try:
            address, replayed = one.stdout.readline().split(", ")
            yield one, address, int(replayed.split()[0])
        finally:
            one.kill()


def gateway_of_a_fork(folder: Path, told: Connection) -> None:
    """A gateway that says on a pipe what it says on its terminal."""
    sys.stdout = os.fdopen(told.fileno(), "w", closefd=False)
    track_cameras.main(["gateway", f"--output={folder}", "--port=0"])


@pytest.mark.slow
def test_a_node_is_matched_by_a_gateway_that_ends_by_a_signal_and_goes_on_where_it_was(tmp_path, monkeypatch):
    token = issued(tmp_path, "--cameras", "camera 1", "camera 2")
    with gateway_process(tmp_path) as (gateway, address, replayed):
        assert replayed == 0
        node = track_cameras.main(["node", f"--gateway={address}", f"--token={token}", "--seconds=4", *OPTIONS])
        assert node["frames"] > 4
        assert node["left"] == 0

        other = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])).eval()
        networks = LiveNetworks(crop_embedder(other), None, other.num_features, network_name(other), "other")
        monkeypatch.setattr(live_node, "load_networks", lambda checkpoint: networks)
        with pytest.raises(SystemExit, match=r"features of 16 numbers by 'weights [0-9a-f]{16}' came, \d+ by 'weights"):
            track_cameras.main(["node", f"--gateway={address}", f"--token={token}", *OPTIONS])

        gateway.send_signal(signal.SIGTERM)
        frames, _, refused = (int(part.split()[0]) for part in gateway.stdout.read().split(", "))
        assert gateway.wait(30) == 0
    assert 0 < frames <= node["frames"]
    assert refused == 0
    assert {"secret", "journal", "audit.log"} <= {path.name for path in tmp_path.iterdir()}
    ours, theirs = FORKED.Pipe(duplex=False)
    again = forked(gateway_of_a_fork, tmp_path, theirs)  # which need not import for ten seconds
    assert ours.poll(60)
    assert int(os.read(ours.fileno(), 1000).split(b", ")[1].split()[0]) >= frames
    again.kill()
    again.join()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["token"], "name --cameras that are told of, or say --asks"),
        (["gateway", "--host=0.0.0.0"], "give a certificate (TLS), or say insecure"),
        (["gateway", "--peers=wss://other:1"], "--peers: expected ADDRESS=FILE"),
        (["gateway", "--rules.margin=9"], "margin must be a number in [0, 2]"),
        (["node", "--token=none.token"], "No such file"),
        (["node", "--token={token}", "--cameras", "yard=rtsp://a/1"], "the token is for camera 1, the cameras are yard: name them so"),
        (["node", "--token={token}", "--realtime=false"], "--realtime false: a node tells when people were where"),
        (["gateway", "--reid.checkpoint=mine.ckpt"], "--threshold belongs to a network: tell the one of mine.ckpt"),
        (["node", "--token={token}", "--gateway=ws://10.0.0.1:80"], "10.0.0.1 is another host"),
        (["node", "--token={other}"], "the token is for yard, the cameras are camera 1, camera 2, camera 3"),
    ],
)
def test_what_cannot_be_right_is_told_before_anything_is_opened(tmp_path, capsys, argv, told):
    files = {"token": issued(tmp_path, "--cameras", "camera 1"), "other": issued(tmp_path, "--cameras", "yard")}
    with pytest.raises(SystemExit):
        track_cameras.main([one.format(**files) for one in argv])
    assert told in capsys.readouterr().err


def test_a_token_is_printed_for_a_file(tmp_path, capsys):
    token = track_cameras.main(["token", f"--output={tmp_path}", "--cameras", "camera 1", "--days=2", "--asks"])
    assert capsys.readouterr().out.strip() == token
    assert read_token(token).cameras == ("camera 1",)
    assert read_token(token).asks
