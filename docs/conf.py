"""Settings of the documentation's site: ``sphinx-build -W docs build/docs``.

The pages are Markdown (MyST). Extensions beside this file write what would go stale if it were typed: the reference of every exported name,
from its docstring, and the help of every verb of the command line. Formulas become MathML, which browsers draw without a script.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "lightning-reid"
author = "the lightning-reid developers"
project_copyright = author
release = version = version_of("lightning-reid")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "mathml",
    "public_api",
    "verb_help",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
exclude_patterns = ["build", "Thumbs.db", ".DS_Store"]
html_theme = "furo"
html_title = f"lightning-reid {release}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what Lightning says of its hooks stands in its own reference
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_use_ivar = True
napoleon_use_rtype = False
