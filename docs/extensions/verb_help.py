"""``verb-help`` shows what a verb of the command line says to ``--help``; ``verbs`` lists them."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_reid.command_line.main import VERBS, main

WIDTH = "100"
"""Columns of the help, which argparse takes from the terminal."""


def help_of(*words: str) -> str:
    """What ``lightning-reid WORDS --help`` prints."""
    said = StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        with redirect_stdout(said):
            main([*words, "--help"])
    except SystemExit as end:
        if end.code:
            raise ValueError(f"lightning-reid {' '.join(words)} --help ended with {end.code}") from end
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return said.getvalue()


class VerbHelp(SphinxDirective):
    """The help of a verb as a block."""

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        """Build it."""
        shown = help_of(*self.arguments)
        block = nodes.literal_block(shown, shown)
        block["language"] = "text"
        return [block]


class Verbs(SphinxDirective):
    """What each verb does, in the words of the command line."""

    def run(self) -> list[nodes.Node]:
        """Build it."""
        entries = []
        for name, does in VERBS.items():
            link = nodes.reference("", "", nodes.literal("", name), internal=True, refid=name)
            entry = nodes.list_item("", nodes.paragraph("", "", link, nodes.Text(f": {does}")))
            entries.append(entry)
        return [nodes.bullet_list("", *entries)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Name the directives."""
    app.add_directive("verb-help", VerbHelp)
    app.add_directive("verbs", Verbs)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
