"""Runs of recipes that take a second: a network of nothing on a few generated people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

NETWORK = ["--model.backbone=resnet18", '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}']
SIZES = ["--data.image_size=[64,32]", "--data.p=4", "--data.num_workers=0", "--quiet", "--accelerator=cpu"]
CLUSTERING = ["--clustering.every_n_epochs=1", "--clustering.min_samples=2", "--clustering.k1=10", "--clustering.k2=3"]


@contextmanager
def without_pictures() -> Iterator[None]:
    """What takes most of the time of such a run: t-SNE, and figures, which come to be empty files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **options: Path(file).touch())
        patch.setattr("lightning_reid.callbacks.embedding_projector.project", lambda embeddings, seed: np.zeros((len(embeddings), 2)))
        yield


def adapted(source: Path, target: Path, output: Path) -> Path:
    """HSR in two iterations, with its baseline and a source model."""
    from lightning_reid.recipes import hsr_duke2market

    domains = [f"--source={source}", f"--target={target}", f"--output={output}", "--data.source_p=4", "--source_epochs=1", "--epochs=2"]
    with without_pictures():
        hsr_duke2market.main([*domains, *NETWORK, *SIZES, *CLUSTERING])
    return output


def supervised(data: Path, output: Path) -> Path:
    """One epoch on labeled people."""
    from lightning_reid.recipes import supervised_market

    with without_pictures():
        supervised_market.main([f"--data.dataset={data}", f"--output={output}", "--epochs=1", *NETWORK, *SIZES])
    return output


def filmed(tracklets: Path, output: Path, network: str) -> Path:
    """One epoch of a network of clips on tracklets in the layout of MARS."""
    from lightning_reid.recipes import video_mars

    options = json.dumps({"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
    clips = ["--data.clip_length=4", "--data.p=3", "--data.k=2", "--data.image_size=[64,32]", "--data.num_workers=0"]
    told = [f"--data.dataset={tracklets}", f"--network={network}", f"--model.network_options={options}", f"--output={output}"]
    with without_pictures():
        video_mars.main([*told, *clips, "--epochs=1", "--quiet", "--accelerator=cpu"])
    return output
