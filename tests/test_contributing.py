"""CONTRIBUTING.md followed to the letter: its example of a new paradigm keeps the rules of the house, learns, and is tested."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from doctest import DocTestFinder, DocTestRunner
from pathlib import Path
from types import ModuleType

import pytest
from house import FOLDERS, ROOT

import lightning_reid.losses
import lightning_reid.modules
import lightning_reid.recipes

BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(BLOCK.findall(TEXT))
TINY = [
    "--data.dataset=generated-people,people=8,cameras=4,visits=2,shots=1,test_people=4",
    *("--data.image_size=[32,16]", "--data.crop_padding=2", "--data.p=4", "--data.k=2", "--data.num_workers=0", "--data.val_identities=0"),
    *("--model.backbone=resnet18", '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}'),
    *("--epochs=1", "--quiet", "--accelerator=cpu"),
]


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """The files of the page in a layout of their own, and their modules within the packages that they say."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for package, folder in {
        lightning_reid.losses: "lightning_reid/losses",
        lightning_reid.modules: "lightning_reid/modules",
        lightning_reid.recipes: "recipes",
    }.items():
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / folder)])
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.endswith((".center", ".center_market")):
            parent, _, child = name.rpartition(".")
            sys.modules.pop(name)
            vars(sys.modules[parent]).pop(child, None)


def loaded(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tests(file: Path, tmp_path: Path) -> list[str]:
    """Run the functions of a file that are tests, and tell their names."""
    module = loaded(file, "test_of_contributing")
    tests = {name: one for name, one in vars(module).items() if name.startswith("test_")}
    for one in tests.values():
        one(**({"tmp_path": tmp_path} if "tmp_path" in inspect.signature(one).parameters else {}))
    return list(tests)


def test_the_page_has_the_files_that_it_says():
    assert list(FILES) == [
        "lightning_reid/losses/center.py",
        "lightning_reid/modules/center.py",
        "recipes/center_market.py",
        "tests/losses/test_center.py",
    ]
    assert TEXT.count("```python") == len(FILES)
    assert not any((ROOT / name).exists() for name in FILES), "an example that is in the library is none"


def test_who_follows_the_page_has_a_paradigm_that_is_tested_and_a_recipe_that_runs(scratch, tmp_path):
    names = run_tests(scratch / "tests/losses/test_center.py", tmp_path)
    assert len(names) == 4
    center = importlib.import_module("lightning_reid.losses.center")
    (example,) = DocTestFinder(recurse=False).find(center.center_loss, "center_loss", globs={})
    assert DocTestRunner(verbose=False).run(example).failed == 0
    recipe = importlib.import_module("lightning_reid.recipes.center_market")
    row = recipe.main([*TINY, f"--output={tmp_path / 'run'}"])
    assert 0 < row.scores["mAP"] <= 1
    assert (tmp_path / "run" / "center-loss" / "last.ckpt").is_file()
    assert (tmp_path / "run" / "table.md").read_text().startswith("## center loss on generated-people")


def test_its_test_fails_where_the_formula_is_another(scratch, tmp_path):
    file = scratch / "lightning_reid/losses/center.py"
    file.write_text(file.read_text(encoding="utf-8").replace(".mean() / 2", ".mean()"), encoding="utf-8")
    with pytest.raises(AssertionError):
        run_tests(scratch / "tests/losses/test_center.py", tmp_path)


def test_the_files_of_the_page_keep_the_rules_of_the_house(scratch, monkeypatch):
    house = loaded(ROOT / "tests" / "test_house.py", "rules_of_the_house")
    monkeypatch.setattr(house, "ROOT", scratch)
    monkeypatch.setattr(house, "FOLDERS", {package: scratch / folder.relative_to(ROOT) for package, folder in FOLDERS.items()})
    assert len(house.sources()) == 3
    house.test_imports_run_downhill()
    house.test_the_core_has_never_heard_of_a_trainer()
    house.test_nobody_imports_a_bare_callbacks_or_datamodules_or_the_other_lightning()
    summaries = house.public_summaries()
    assert len(summaries) >= 5
    assert [one for one in summaries if len(re.findall(r"\w[\w'-]*", one[1])) < 4 or house.FRAGMENT.match(one[1])] == []
    file = scratch / "lightning_reid/losses/center.py"
    file.write_text(file.read_text(encoding="utf-8") + "\nfrom lightning_reid.modules import HSR\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        house.test_imports_run_downhill()


def test_the_files_of_the_page_pass_the_linter(scratch):
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        told = subprocess.run(
            [*ruff, *command, "--config", str(ROOT / "pyproject.toml"), *FILES], cwd=scratch, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stdout + told.stderr
    file = scratch / "lightning_reid/losses/center.py"
    file.write_text(file.read_text(encoding="utf-8") + f"# {'x' * 140}\n", encoding="utf-8")
    command = [*ruff, "check", "--no-cache", "--config", str(ROOT / "pyproject.toml"), *FILES]
    assert "E501" in subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False).stdout


def test_the_commands_of_the_page_are_those_of_the_readme_and_of_ci():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'pip install -e ".[dev]"' in TEXT
    assert 'pip install -e ".[dev]"' in readme
    assert "ruff check ." in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for file in re.findall(r"`((?:tests|lightning_reid)/[\w/]+\.py)`", TEXT):
        assert (ROOT / file).is_file(), file
    ast.parse("\n".join(FILES.values()).replace("from __future__ import annotations", ""))
