"""Settings of Sphinx for the website; ``make site`` gathers what it reads (``gather.py``) and calls it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from address import REPOSITORY

import kdref

project = "kdref"
author = "the kdref authors"
copyright = "the kdref authors; text CC BY 4.0, code MIT"
release = kdref.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx.ext.mathjax",
    "extension",
]
exclude_patterns = ["originals"]
suppress_warnings = ["mystnb.unknown_mime_type"]

nb_execution_mode = "off"  # the outputs are those that CI compares
nb_render_markdown_format = "myst"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the whole signature, with its types and shapes, is shown from the source
napoleon_google_docstring = True
napoleon_numpy_docstring = False

mathjax_path = "mathjax/tex-chtml.js"  # extension.py puts it there: the site asks nobody else
# A macro that MathJax does not know is an error, which a test finds, and not red letters, which readers find.
mathjax3_config = {"tex": {"packages": {"[-]": ["noerrors", "noundefined"]}}}

html_theme = "sphinx_book_theme"
html_title = "kdref"
html_static_path = ["static"]
html_css_files = ["kdref.css"]
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "use_download_button": False,  # each lesson links to the notebook as learners get it, without solutions
    "use_fullscreen_button": False,
    "use_repository_button": bool(REPOSITORY),
    "repository_url": f"https://github.com/{REPOSITORY}" if REPOSITORY else "",
    "use_edit_page_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the sidebar has the search
}
