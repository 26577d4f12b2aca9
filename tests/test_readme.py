"""The blocks of Python in the README, run: as they are, but for names of data, sizes and numbers of epochs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = [block for language, block in FENCED.findall(README) if language == "python"]

NETWORK = {'backbone="resnet50", pretrained=True': '**{"backbone": "resnet18", "backbone_options": TINY}'}
SMALL = "image_size=(32, 16), crop_padding=2, num_workers=0"
TINY = {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
}


@pytest.fixture(scope="session")
def data_root(market_folder, duke_folder, tmp_path_factory) -> Path:
    """Generated images in the folders of the official sets."""
    root = tmp_path_factory.mktemp("reid")
    (root / "Market-1501").symlink_to(market_folder)
    (root / "DukeMTMC-reID").symlink_to(duke_folder)
    return root


@pytest.fixture
def run_block(data_root, tmp_path, monkeypatch):
    """``run_block(beginning, replacements, **given)``: the names that a block has made, with other words in it; each must be there."""
    monkeypatch.chdir(tmp_path)

    def run(beginning: str, replacements: dict[str, str], **given: Any) -> dict[str, Any]:
        (block,) = [block for block in PYTHON if beginning in block]
        for old, new in replacements.items():
            assert old in block, f"the README no longer says {old}"
            block = block.replace(old, new)
        torch.manual_seed(0)
        names = {"__name__": "readme", "ROOT": str(data_root), "TINY": TINY, "QUIET": QUIET} | given
        exec(compile(block, "README.md", "exec"), names)
        return names

    return run


def test_the_network_that_comes_along_embeds_a_folder_at_once(run_block, market_folder):
    quiet = {"EmbeddingPass()": "EmbeddingPass(device='cpu', quiet=True)", '["my_crops/"]': "[MARKET]"}
    names = run_block("EmbeddingPass", quiet, MARKET=str(market_folder / "query"))
    number = len(names["images"].paths)
    assert names["similarities"].shape == (number, number)
    torch.testing.assert_close(names["similarities"].diagonal(), torch.ones(number))


def test_three_lines_embed_the_detections_of_a_frame(run_block):
    frame, boxes = torch.randint(256, (3, 90, 120), dtype=torch.uint8), torch.tensor([[10.0, 5, 40, 80], [60, 0, 95, 90]])
    made = run_block("cut_out", {}, frame=frame, boxes=boxes)
    assert made["embeddings"].shape == (2, 192)
    torch.testing.assert_close(made["embeddings"].norm(dim=1), torch.ones(2))


def test_every_verb_that_the_readme_shows_is_one():
    from lightning_reid.command_line.main import VERBS

    shown = set(re.findall(r"^lightning-reid (\w+) ", README, re.MULTILINE))
    assert shown == set(VERBS)


def test_a_trainer_takes_modules_of_its_own_distribution_alone_and_says_what_the_readme_quotes(tmp_path):
    (quoted,) = re.findall(r'"(`model` must be a .*?)"', README)
    of_the_other = type("SupervisedReID", (torch.nn.Module,), {})  # which is no LightningModule of this Trainer's either
    with pytest.raises(TypeError, match=f"^{re.escape(quoted)}$"):
        pl.Trainer(default_root_dir=tmp_path, **QUIET).fit(of_the_other())


def test_every_block_is_run_below():
    assert len(PYTHON) == 7


def test_adapting_without_labels(run_block):
    made = run_block(
        "import HSR",
        {
            'root="/data/reid"': f"root=ROOT, p=2, k=2, {SMALL}",
            **NETWORK,
            "every_n_epochs=10": "every_n_epochs=10, min_samples=2, eps=0.5, k1=6, k2=2",
            "max_epochs=300": "max_epochs=1, **QUIET",
        },
    )
    assert made["trainer"].current_epoch == 1
    assert made["data"].target_state.neighbors is not None, "clustered, and mined across cameras"


def test_few_labels(run_block):
    made = run_block(
        "import SGCDPL",
        {
            'root="/data/reid", labeled="1/6"': f'root=ROOT, labeled="2/5", p=2, k=2, unlabeled_per_batch=2, {SMALL}',
            **NETWORK,
            "iteration_epochs=200, milestones=[50, 100, 150]": "iteration_epochs=1",
            "max_epochs=200": "max_epochs=1, **QUIET",
            "max_epochs=8 * 200": "max_epochs=2, **QUIET",
            "every_n_epochs=200": "every_n_epochs=1",
        },
    )
    assert made["data"].target_state.iteration == 1


def test_pruning(run_block, market_folder):
    from lightning_reid.datamodules import ImageReIDDataModule
    from lightning_reid.modules import SupervisedReID

    given = {
        "model": SupervisedReID(backbone="resnet18", backbone_options=TINY),
        "data": ImageReIDDataModule(str(market_folder), p=2, k=2, image_size=(32, 16), crop_padding=2, num_workers=0),
    }
    made = run_block(
        "import CAIEPruning",
        {'"latency": 0.6}': '"params": 0.6}, filters_per_step=1, batches_per_step=1', "max_epochs=1000": "max_epochs=40, **QUIET"},
        **given,
    )
    assert made["pruning"].done
    assert made["model"].channel_plan is not None


def test_federated(run_block, capsys):
    made = run_block(
        "import FedPav",
        {
            'num_clients=4, concentration=0.5, held_out=0.3, root="/data/reid"': (
                f"num_clients=2, concentration=50.0, held_out=0.5, root=ROOT, p=2, k=2, {SMALL}"
            ),
            **NETWORK,
            "epochs=1": 'epochs=1, accelerator="cpu", quiet=True',
            "rounds=30": "rounds=1",
        },
    )
    assert made["federation"].state.round == 1
    assert "2 clients by dirichlet" in capsys.readouterr().out


def test_the_command_line(run_block, data_root, monkeypatch, tmp_path):
    (config,) = [block for language, block in FENCED.findall(README) if language == "yaml"]
    replacements = {
        "max_epochs: 60": "max_epochs: 1\n" + "".join(f"  {name}: {str(value).lower()}\n" for name, value in QUIET.items()),
        "backbone: resnet50\n  pretrained: true": f"backbone: resnet18\n  backbone_options: {TINY}",
        "root: /data/reid": f"root: {data_root}\n  image_size: [32, 16]\n  crop_padding: 2\n  k: 2\n  num_workers: 0",
    }
    for old, new in replacements.items():
        assert old in config, f"the README no longer says {old}"
        config = config.replace(old, new)
    (tmp_path / "train.yaml").write_text(config, encoding="utf-8")
    (command,) = re.findall(r"^python (train\.py .*)$", README, re.MULTILINE)
    monkeypatch.setattr("sys.argv", shlex.split(command))
    with pytest.warns(UserWarning, match="configure_optimizers` will be overridden"):
        run_block("LightningCLI", {})
    assert (tmp_path / "rank_list.png").is_file()
