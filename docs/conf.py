"""How the guide is built: ``make site``, into build/site."""

from importlib import metadata

project = "cdpanalytics"
author = "the cdpanalytics contributors"
release = version = metadata.version("cdpanalytics")

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
exclude_patterns = [
    "fill.py",
    "coverage.py",
    "reference/generated",
]  # version 0.1 generated pages there
default_role = "py:obj"  # a name in a docstring links to its definition
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "cdpanalytics"
html_show_sourcelink = False
html_show_copyright = False
