"""The pages of the documentation do what they say: their Python runs, their commands have the options that they show."""

from __future__ import annotations

import configparser
import re
import time
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from constant_detector import write_yolox_head
from written_pages import QUIET, REPLACEMENTS, ROOT, TINY, blocks, commands, pages, replacements

from lightning_reid.datamodules.mot import conversion
from lightning_reid.live.tokens import issue_token
from lightning_reid.modules import SupervisedReID

LANGUAGES = {"python", "bash", "yaml", "toml", "ini", "text"}
NOT_RUN = ("needs a GPU", "needs a server", "needs somebody's data")
"""Reasons for which a block may not be run."""
WITH_PYTHON = [page for page in pages() if any(one.language == "python" and one.why_not_run is None for one in blocks(page))]
WITH_COMMANDS = [page for page in pages() if any(one.language == "bash" for one in blocks(page))]
FOLDERS_SHOWN, FILES_SHOWN = ("my_crops", "crops", "my_folder"), ("somebody.jpg", "door.mp4", "hall.mp4")
"""What some commands look for when they are parsed."""
ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "docs/trainer.md": "tests/test_readme.py",
    "docs/first_evening.md": "tests/documentation/test_first_evening.py",
    "docs/pipelined_training.md": "tests/documentation/test_scripts_of_two_processes.py",
}
"""Pages whose Python another file runs."""


@pytest.fixture(scope="session")
def mars_folder(tmp_path_factory) -> Path:
    """Tracklets of four training and two test people in the layout of MARS, 64 x 32 pixels."""
    from lightning_reid.datamodules.generated import GeneratedTracklets

    people = GeneratedTracklets("mars-like", num_train_pids=4, num_test_pids=2, num_distractors=1, frames=(3, 5), height=64, width=32)
    return people.write(tmp_path_factory.mktemp("data") / "mars", progress=False)


@pytest.fixture
def given(market_folder, duke_folder, mars_folder, tmp_path) -> dict[str, Any]:
    """What the blocks may use in place of somebody's data."""
    root = tmp_path / "reid"
    root.mkdir()
    for name, folder in (("Market-1501", market_folder), ("DukeMTMC-reID", duke_folder), ("MARS", mars_folder)):
        (root / name).symlink_to(folder)
    paths = {"MARKET": market_folder, "DUKE": duke_folder, "MARS": mars_folder, "ROOT": root}
    return {name: str(path) for name, path in paths.items()} | {"TINY": TINY, "QUIET": QUIET}


@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if page not in ELSEWHERE])
def test_the_python_of_a_page_runs_from_top_to_bottom(page, given, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    code = [one.code if one.language == "python" and one.why_not_run is None else "" for one in blocks(page)]
    for old, new in replacements(page):
        assert any(old in one for one in code), f"{page} no longer says {old}"
        code = [one.replace(old, new) for one in code]
    torch.manual_seed(0)
    names = {"__name__": "page"} | given
    for number, one in enumerate(code, start=1):
        exec(compile(one, f"{page}, block {number}", "exec"), names)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of a small network, which some commands look into when they are parsed."""
    path, trainer = tmp_path_factory.mktemp("network") / "a.ckpt", pl.Trainer(**QUIET)
    model = SupervisedReID(4, backbone="resnet18", backbone_options=TINY)
    model.trainer = trainer
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_have_the_options_that_it_shows(page, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.ckpt").symlink_to(checkpoint)
    for folder in FOLDERS_SHOWN:
        Path(folder).mkdir()
    for file in FILES_SHOWN:
        Path(file).touch()
    write_yolox_head(tmp_path / "yolox_s.onnx")
    for file, camera in (("one.token", "camera 1"), ("two.token", "door"), ("door.token", "door")):
        Path(file).write_text(issue_token(b"secret" * 6, [camera], expires=time.time() + 60), encoding="utf-8")
    for block in blocks(page):
        if block.language == "bash":
            for command in commands(block.code):
                assert understood(command), f"{page}: nobody checks {' '.join(command)}"


def understood(command: list[str]) -> bool:
    """Whether a command is one whose options were just parsed; wrong ones end the test with what the parser says."""
    match command:
        case ["lightning-reid", "train", ("fit" | "validate" | "test" | "predict") as name, *options]:
            return _of_lightning(name, options)
        case ["lightning-reid", "train", preset, *options]:
            from lightning_reid.command_line.train import PRESETS

            return _of_recipe(PRESETS[preset][0], options)
        case ["lightning-reid", *words]:
            from lightning_reid.command_line.main import parse

            return bool(parse(words).verb)
        case ["python", script, *options] if script.startswith("recipes/"):
            return _of_recipe(Path(script).stem, options)
        case ["python", "-m", module, *options] if module.startswith("lightning_reid.recipes."):
            return _of_recipe(module.rpartition(".")[2], options)
        case ["python", script, *_] if script.startswith("benchmarks/"):
            return (ROOT / script).is_file()
        case ["pip", "install", *words]:
            return _known_extras(words)
        case ["python", "-m", "lightning_reid.datamodules.mot.conversion", *options]:
            with pytest.raises((SystemExit, FileNotFoundError)) as end:  # it has read its options when it looks for the sequence
                conversion.main(options)
            return isinstance(end.value, FileNotFoundError) or not end.value.code
        case ["python", "train.py", *_]:
            return True  # LightningCLI, whose page is run elsewhere
        case ["export", *variables]:
            return all("=" in one for one in variables)
        case ["pytest" | "git" | "cd" | "sphinx-build" | "flower-superlink" | "flower-supernode" | "flwr" | "ssh-keygen", *_]:
            return True  # not ours
    return bool(re.fullmatch(r"\w+=\S*", command[0]) and understood(command[1:]))


def _of_recipe(name: str, options: list[str]) -> bool:
    import_module(f"lightning_reid.recipes.{name}").parse(options)  # ends the process with 2 where an option is wrong
    return True


def _of_lightning(name: str, options: list[str]) -> bool:
    from lightning_reid.command_line.main import main

    with pytest.raises(SystemExit) as end:
        main(["train", name, *options, "--print_config"])
    return not end.value.code


def _known_extras(words: list[str]) -> bool:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
    asked = {one for word in words for group in re.findall(r"\[(.*?)\]", word) for one in group.split(",")}
    assert asked <= extras, f"there are no extras {sorted(asked - extras)}"
    return True


@pytest.mark.parametrize("page", pages())
def test_other_blocks_are_files_that_can_be_read_and_what_is_not_run_says_why(page):
    for block in blocks(page):
        if block.language == "toml":
            assert tomllib.loads(block.code)
        if block.language == "ini":
            parser = configparser.ConfigParser()
            parser.read_string(block.code)
            assert parser.sections()
        if block.language == "yaml":
            assert yaml.safe_load(block.code)
        if block.why_not_run is not None:
            assert block.why_not_run in NOT_RUN, f"{page}: {block.why_not_run} is no reason that is known"
        assert block.language in LANGUAGES, f"{page}: who checks a block of {block.language}?"


def test_replacements_are_of_pages_that_there_are():
    assert set(tomllib.loads(REPLACEMENTS.read_text(encoding="utf-8"))) <= set(pages())
