"""Sphinx's settings of the site. ``make docs`` builds it: no network, no notebook run."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import hooks  # noqa: E402 - found by the path above
import inventory  # noqa: E402 - so is this

project = "mmcontrast"
author = "the mmcontrast authors"
copyright = "2026, the mmcontrast authors. MIT license"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax and its fonts, in the site itself
    "sphinx_copybutton",
    "myst_nb",
]
exclude_patterns = ["__pycache__"]
nitpicky = True
# Attributes are in the text of their class.
nitpick_ignore_regex = [("py:attr", ".*"), *(("py:.*", name) for name in inventory.NO_PAGE)]

# --- Markdown and notebooks ---
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_fence_as_directive = ["math"]  # GitHub draws these fences, too
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]
nb_execution_mode = "off"
nb_merge_streams = True

# --- the API ---
autodoc_preserve_defaults = True  # normalize=l2_normalize, not <function l2_normalize at 0x7f...>
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Fields", "params_style")]

# --- other projects' pages: their addresses are known here, so that nothing is fetched ---
intersphinx_mapping = inventory.written(HERE / "inventories")

# --- how it looks ---
html_theme = "furo"
html_title = f"mmcontrast {version}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app):
    hooks.connect(app, ROOT)
