"""Workers know what they decode and augment with, and nothing of the program that trains."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from lightning_reid.datamodules import CrossDomainDataModule, ImageReIDDataModule


def run_script(path, text: str, *arguments: object, timeout: float) -> str:
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    command = [sys.executable, str(path), *map(str, arguments)]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.mark.slow
def test_with_spawned_workers_that_live_on_the_smallest_hsr_run_ends_and_they_import_nothing_of_the_script(
    market_folder, duke_folder, tmp_path
):
    script = """
        import multiprocessing, sys
        import pytorch_lightning as pl
        from lightning_reid.callbacks import InterCameraMining, PseudoLabelClustering
        from lightning_reid.datamodules import CrossDomainDataModule
        from lightning_reid.datamodules.images import TrainImages
        from lightning_reid.modules import HSR

        if __name__ == "__main__":
            multiprocessing.set_start_method("spawn")
            data = CrossDomainDataModule(sys.argv[1], sys.argv[2], image_size=(32, 16), p=2, k=2, num_workers=1)
            model = HSR(backbone="resnet18", backbone_options={"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}, min_samples=2)
            callbacks = [PseudoLabelClustering(every_n_epochs=1, k1=10, k2=3, min_samples=2), InterCameraMining(k=5)]
            options = dict(logger=False, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False)
            pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=callbacks, **options).fit(model, data)
            print("ended with", data.target_state.num_clusters, "clusters")
        else:
            open(sys.argv[3], "a").write("imported")
    """
    told = run_script(tmp_path / "main.py", script, duke_folder, market_folder, tmp_path / "again", timeout=280)
    assert "ended with" in told
    assert not (tmp_path / "again").exists()


def test_loaders_leave_the_global_generator_alone(market_folder):
    data = ImageReIDDataModule(str(market_folder), image_size=(32, 16), p=2, k=2, num_workers=2)
    data.prepare_data()
    data.setup()
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_asked_for_again_comes_with_its_workers(market_folder, duke_folder):
    data = CrossDomainDataModule(str(duke_folder), str(market_folder), image_size=(32, 16), num_workers=2)
    data.prepare_data()
    data.setup()
    assert data.target_dataloader() is data.target_dataloader()
    assert data.val_dataloader() is data.val_dataloader()
    kept = data.target_dataloader()
    data.teardown("fit")
    assert data.target_dataloader() is not kept
