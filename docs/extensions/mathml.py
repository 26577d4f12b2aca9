"""Formulas as MathML, which browsers draw by themselves: no script, nothing from another host, and screen readers can read it."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def formula_in_a_line(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a sentence."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def formula_by_itself(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula in lines of its own; a wide one scrolls."""
    self.body.append(self.starttag(node, "div", CLASS="math", tabindex="0", role="math"))
    self.body.append(convert(node.astext(), display="block") + "</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Offer it as ``html_math_renderer``."""
    app.add_html_math_renderer("mathml", (formula_in_a_line, None), (formula_by_itself, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
