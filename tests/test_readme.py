"""The Python of the README and of its page on Trainers, run: as it is, but for names of data, sizes and numbers of epochs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from written_pages import QUIET, TINY

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINER = (ROOT / "docs" / "trainer.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = [block for language, block in FENCED.findall(README + TRAINER) if language == "python"]

NETWORK = {'backbone="resnet50", pretrained=True': '**{"backbone": "resnet18", "backbone_options": TINY}'}
SMALL = "image_size=(32, 16), crop_padding=2, num_workers=0"


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


def test_every_verb_has_a_section_on_the_page_of_commands_and_none_is_told_that_is_not():
    from lightning_reid.command_line.main import VERBS

    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(VERBS)


def test_the_readme_is_two_screens():
    assert len(README.splitlines()) <= 110


def test_a_trainer_takes_modules_of_its_own_distribution_alone_and_says_what_the_page_quotes(tmp_path):
    (quoted,) = re.findall(r'"(`model` must be a .*?)"', TRAINER)
    of_the_other = type("SupervisedReID", (torch.nn.Module,), {})  # which is no LightningModule of this Trainer's either
    with pytest.raises(TypeError, match=f"^{re.escape(quoted)}$"):
        pl.Trainer(default_root_dir=tmp_path, **QUIET).fit(of_the_other())


def test_every_block_is_run_below():
    assert len(PYTHON) == 2


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


def test_the_command_line(run_block, data_root, monkeypatch, tmp_path):
    (config,) = [block for language, block in FENCED.findall(TRAINER) if language == "yaml"]
    replacements = {
        "max_epochs: 60": "max_epochs: 1\n" + "".join(f"  {name}: {str(value).lower()}\n" for name, value in QUIET.items()),
        "backbone: resnet50\n  pretrained: true": f"backbone: resnet18\n  backbone_options: {TINY}",
        "root: /data/reid": f"root: {data_root}\n  image_size: [32, 16]\n  crop_padding: 2\n  k: 2\n  num_workers: 0",
    }
    for old, new in replacements.items():
        assert old in config, f"the page no longer says {old}"
        config = config.replace(old, new)
    (tmp_path / "train.yaml").write_text(config, encoding="utf-8")
    (command,) = re.findall(r"^python (train\.py .*)$", TRAINER, re.MULTILINE)
    monkeypatch.setattr("sys.argv", shlex.split(command))
    with pytest.warns(UserWarning, match="configure_optimizers` will be overridden"):
        run_block("LightningCLI", {})
    assert (tmp_path / "rank_list.png").is_file()
