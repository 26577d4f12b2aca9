"""The pages of the documentation: their blocks of code, which are marked as not run, and the commands that they show."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import quiet_trainer

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>[^\n]*?) -->\n+)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
REPLACEMENTS = ROOT / "tests" / "documentation" / "replacements.toml"
TINY = {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}
"""Of a ResNet-18 that trains in no time."""
QUIET = quiet_trainer.QUIET | {"num_sanity_val_steps": 0}
"""A Trainer that shows nothing and leaves nothing behind, as the blocks of pages are given."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    number: int
    language: str
    code: str
    why_not_run: str | None


def pages() -> list[str]:
    """Paths of all pages, relative to the root; those that are written at build time are not among them."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return ["README.md", *(path.relative_to(ROOT).as_posix() for path in found)]


def blocks(page: str) -> list[Block]:
    """The blocks of a page in order, whatever their language; directives of the site are none."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = enumerate(BLOCK.finditer(text), start=1)
    return [Block(page, number, one["language"], one["code"], one["why"]) for number, one in found]


def replacements(page: str) -> list[tuple[str, str]]:
    """Words of a page's blocks that are others in the test, such as names of data and numbers of epochs."""
    pairs = tomllib.loads(REPLACEMENTS.read_text(encoding="utf-8")).get(page, {}).get("pairs", [])
    return [(old, new) for old, new in pairs]


def commands(code: str) -> list[list[str]]:
    """The words of each command of a block of bash: lines that end in a backslash go on, comments are none, ``&&`` begins another."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            found.append(words[:end])
            words = words[end + 1 :]
    return found
