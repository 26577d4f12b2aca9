"""Two gloo processes on blocks: each rank is dealt the pictures that it is dealt of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lying_store import LyingFileSystem
from typing_extensions import override

from lightning_reid.callbacks import BlockAccessLogger
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.blocks import BlockStore, pack
from lightning_reid.datamodules.catalog import read_prepared
from lightning_reid.modules import SupervisedReID


class Batches(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[list[int], float]] = []
        self.logged: dict[str, float] = {}

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append((batch["indices"].tolist(), float(batch["images"].double().sum())))

    @override
    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("blocks/")}


def fit(settings: dict[str, Any], dataset: str, cache: Path) -> dict[str, Any]:
    assert LyingFileSystem.protocol == "lying"  # known in each process
    pl.seed_everything(0, verbose=False)
    model = SupervisedReID(backbone="resnet18", backbone_options={"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]})
    data = ImageReIDDataModule(dataset, image_size=(32, 16), p=2, k=4, num_workers=0, val_identities=0, block_cache=str(cache))
    batches = Batches()
    trainer = pl.Trainer(**settings, max_epochs=1, limit_val_batches=0, callbacks=[BlockAccessLogger(), batches])
    trainer.fit(model, data)
    weights = sum(float(one.detach().double().abs().sum()) for one in model.parameters())
    return {"seen": batches.seen, "logged": batches.logged, "weights": weights}


def test_two_gloo_processes_see_of_blocks_what_they_see_of_files(market_folder, in_one_and_two_processes, tmp_path):
    pack(read_prepared(str(market_folder), None), BlockStore(str(tmp_path / "blocks")), block_bytes=40_000, progress=False)
    told = (tmp_path / "cache",)
    _, *files = in_one_and_two_processes(fit, str(market_folder), one=told, two=told)
    _, *blocks = in_one_and_two_processes(fit, f"lying://{tmp_path / 'blocks'}", one=told, two=told)
    assert files[0]["seen"] != files[1]["seen"]
    for rank in (0, 1):
        assert blocks[rank]["seen"] == files[rank]["seen"]
        assert blocks[rank]["weights"] == files[rank]["weights"]
    assert blocks[0]["logged"] == blocks[1]["logged"]
    distinct = sum(len({row for rows, _ in rank["seen"] for row in rows}) for rank in blocks)
    assert blocks[0]["logged"]["blocks/frames"] == distinct  # each rank keeps the few pictures that it has read
    assert files[0]["logged"] == {}
    assert torch.tensor(blocks[0]["weights"]).isfinite()
