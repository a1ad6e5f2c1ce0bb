"""The site: `make docs` builds it into build/docs. Its pages are the Markdown files that the repository shows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # site_pages

import instar

project = "instar"
author = "The instar authors"
release = instar.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_pages"]
language = "en"
smartquotes_action = "D"  # dashes alone, those that Sphinx writes between a parameter and its words

myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a card may go from a title to a third level

html_theme = "furo"
html_title = "instar"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_show_search_summary = False  # a summary is fetched, which a browser refuses for files
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5f8b", "color-brand-content": "#1f5f8b"},
    "dark_css_variables": {"color-brand-primary": "#8ec5ec", "color-brand-content": "#8ec5ec"},
}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # "Returns: total, soft and hard: ..." names no type
default_role = "py:obj"  # a name in single backticks is a link where it is a public name, else code

nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", ".*"),  # words in backticks
    ("py:.*", r"(?!instar\.\w+$).*"),  # types of other libraries, and what only signatures name
]
