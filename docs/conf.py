"""Settings of the site: `make docs` builds it into build/docs.

The pages are the Markdown files beside this one, which also read well on the forge. What follows
from the package and the records (a page for each environment, data set and solver, the reference)
is written into `docs/generated` at every build, by `scripts/site_pages.py`, and not kept.
"""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from functools import partialmethod
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import site_pages  # noqa: E402

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "rmdp_bench"
author = "rmdp_bench contributors"
version = release = _PROJECT["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# The notebook's commands are those of this environment; what they write is not kept.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
nb_execution_in_temp = True
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "notebooks")
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_execution_show_tb = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "rmdp_bench"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it would fetch the pages, which a page that is a file may not
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/board.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_context = {"repository": _PROJECT["urls"]["Repository"]}
# The colours of the leaderboard's page, rmdp_bench/data/site/style.css.
html_theme_options: dict[str, Any] = {
    "light_css_variables": {
        "color-brand-primary": "#0a5a9c",
        "color-brand-content": "#0a5a9c",
        "color-brand-visited": "#0a5a9c",
        "color-background-primary": "#faf9f7",
        "color-background-secondary": "#f3f2ef",
        "color-foreground-primary": "#1d2126",
        "color-foreground-secondary": "#5b626b",
        "color-foreground-muted": "#5b626b",
    },
    "dark_css_variables": {
        "color-brand-primary": "#84bdf2",
        "color-brand-content": "#84bdf2",
        "color-brand-visited": "#84bdf2",
        "color-background-primary": "#121417",
        "color-background-secondary": "#191c20",
        "color-foreground-primary": "#e7e9ec",
        "color-foreground-secondary": "#a3aab3",
        "color-foreground-muted": "#a3aab3",
    },
}

PARTS = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Contents">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="On this page">',
    '<aside class="toc-drawer no-toc">': '<aside class="toc-drawer no-toc" aria-hidden="true">',
    '<div class="highlight"><pre>': '<div class="highlight"><pre tabindex="0">',
    'container"><table': 'container" tabindex="0"><table',
    'container">\n<table': 'container" tabindex="0">\n<table',
}
"""Markup of the theme -> the same, so that code and wide tables scroll from the keyboard too."""


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx looks for pages, and lead links out of `docs`."""
    app.connect("config-inited", _join_pieces)
    app.connect("config-inited", lambda app, config: site_pages.write(Path(app.srcdir)))
    app.connect("source-read", _lead_links)
    app.connect("build-finished", _name_parts)
    app.connect("autodoc-process-docstring", _to_rst, priority=100)  # before napoleon


def _join_pieces(app: Any, config: Any) -> None:
    """Keep what a command of the notebook prints as one text.

    It arrives in pieces of 100 bytes, of which the page would make a line each, and no lexer knows
    half a code of a colour.
    """
    client = importlib.import_module("nbclient").NotebookClient
    client.__init__ = partialmethod(client.__init__, coalesce_streams=True)


def _lead_links(app: Any, name: str, source: list[str]) -> None:
    if not name.startswith("generated/"):  # those have the right links already
        page = Path(app.env.doc2path(name))
        source[0] = site_pages.lead_links(source[0], page) + site_pages.contents_of(name)


def _to_rst(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = site_pages.docstring_to_rst(lines)
    if what in ("attribute", "data", "property") and lines:
        # Napoleon takes what is before the first colon for a type, and reads no sections. Read as
        # a method's, a docstring keeps both; after the empty comment nothing is looked for.
        method = importlib.import_module("sphinx.ext.napoleon").GoogleDocstring
        lines[:] = ["..", "", *method(lines, app.config, app, "method", name, value).lines()]


def _name_parts(app: Any, error: Exception | None) -> None:
    """Give the theme's parts the names and levels that who hears or tabs through a page needs."""
    for path in Path(app.outdir).rglob("*.html") if error is None else ():
        text = path.read_text(encoding="utf-8")
        for part, named in PARTS.items():
            text = text.replace(part, named)
        path.write_text(text, encoding="utf-8")
