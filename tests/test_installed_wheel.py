"""A model folder, read by the wheel alone: in another process, from an empty folder, far from the sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from house import ROOT

from lightning_reid import from_pretrained
from lightning_reid.networks import NVAN, EmbeddingNetwork, build_backbone

DEEPER = {"channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1]}
READER = """
import sys
import torch
import lightning_reid

assert lightning_reid.__file__.startswith(sys.argv[1]), lightning_reid.__file__
found = {}
for name, pixels in torch.load(sys.argv[2], weights_only=True).items():
    network = lightning_reid.from_pretrained(name)
    with torch.inference_mode():
        found[name] = network(pixels).embedding
torch.save(found, sys.argv[3])
"""


def built_wheel(place: Path) -> Path:
    """The wheel of a copy of what git knows: building leaves files beside the sources."""
    source = place / "source"
    source.mkdir()
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    packed = [name for name in files.stdout.decode().split("\0") if name and not name.startswith(("tests/", "docs/", "benchmarks/"))]
    for name in packed:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_networks_that_were_saved_give_the_same_embeddings_to_the_bit_in_an_empty_environment_with_the_wheel(tmp_path):
    pytest.importorskip("setuptools")  # pip builds with this environment's, and asks no network
    torch.manual_seed(0)
    networks = {
        "generated-people-small": None,
        str(tmp_path / "models" / "images"): EmbeddingNetwork(
            build_backbone("osnet_x0_25", channels=[16, 16, 16, 16]), pooling="gem"
        ).eval(),
        str(tmp_path / "models" / "clips"): NVAN("resnet18", **DEEPER).eval(),
    }
    pixels, expected = {}, {}
    for name, network in networks.items():
        if network is not None:
            network.save_pretrained(name, image_size=(64, 32), clip_length=4 if isinstance(network, NVAN) else None)
        frames = (4,) if isinstance(network, NVAN) else ()
        pixels[name] = torch.randint(0, 256, (2, *frames, 3, 64, 32), dtype=torch.uint8)
        with torch.inference_mode():
            expected[name] = (network or from_pretrained(name))(pixels[name]).embedding
    torch.save(pixels, tmp_path / "pixels.pt")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    wheel = built_wheel(tmp_path)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    asked = [sys.executable, "-c", READER, str(site), str(tmp_path / "pixels.pt"), str(tmp_path / "found.pt")]
    subprocess.run(asked, cwd=empty, check=True, env={**os.environ, "PYTHONPATH": str(site)})
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert {name: torch.equal(found[name], one) for name, one in expected.items()} == dict.fromkeys(networks, True)
    assert list(empty.iterdir()) == []
