"""Sphinx: pages in MyST, one theme, warnings are errors (see `make docs`)."""

import importlib.metadata

project = "Pellucid"
author = "The Pellucid authors"
version = release = importlib.metadata.version("pellucid")
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Pellucid {version}"
html_copy_source = False
