"""Find links of the built site that lead nowhere: `python -m scripts.check_site build/docs`.

Of every page: other pages, places in them, pictures, styles, scripts. What is asked of another
address while a page is loaded is named too: the site is read without a network. With --search WORD
the search page, opened as a file in headless Chromium, has to find it. Exit code 1, with what was
found, if anything was.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

LOADED = {"img": "src", "script": "src", "source": "src", "video": "src", "link": "href"}
"""Element -> the attribute with what a browser loads by itself."""
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "author", "copyright"}
"""Kinds of `link` that only say where something is."""
RECORDS = "leaderboards/submissions"
"""The folder of submissions, where strangers wrote what they liked."""
BOARD = "leaderboards/site/index.html"
"""The leaderboard's page, whose scripts make the places in it; its own tests follow them."""
SECONDS = 60


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it."""

    def __init__(self, text: str) -> None:
        """Read the page's markup."""
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of each element, the attributes that name something."""
        own = {name: value for name, value in attrs if value}
        self.places |= {own[name] for name in ("id", "name") if name in own}
        target = own.get(LOADED.get(tag, "href"))
        if target is None:
            return
        loads = tag in LOADED and not NOT_LOADED & {*own.get("rel", "").split()}
        (self.loaded if loads else self.links).append(target)


def check(site: Path) -> Iterator[str]:
    """What is wrong on the pages of a site, a line for each."""
    paths = [path for path in sorted(site.rglob("*.html")) if RECORDS not in path.as_posix()]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in paths}
    board = (site / BOARD).resolve()
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for target in page.loaded + page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loaded and parts.scheme != "data":
                    yield f"{name}: loads {target}"
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if there.is_dir():
                there /= "index.html"
            place = unquote(parts.fragment)
            if not there.is_relative_to(site.resolve()) or not there.exists():
                yield f"{name}: {target} leads nowhere"
            elif there == board or there not in pages or not place:
                continue
            elif place not in pages[there].places:
                yield f"{name}: {target} leads to no place in that page"


def search(site: Path, word: str) -> Iterator[str]:
    """What is wrong with the answer of the site's search, a line for each."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    from benchmarks.browser import open_browser

    with tempfile.TemporaryDirectory() as profile:
        browser = open_browser(Path(profile))
        if browser is None:
            yield "chromium and chromedriver are not installed: the search was not tried"
            return
        try:
            address = (site / "search.html").resolve().as_uri()
            browser.get(f"{address}?{urlencode({'q': word})}")
            wait = WebDriverWait(browser, SECONDS)
            wait.until(lambda own: own.find_elements(By.CSS_SELECTOR, "ul.search a[href]"))
        except TimeoutException:
            yield f"search.html finds nothing for {word!r}"
        finally:
            browser.quit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the site that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("site", type=Path, help="the folder of its pages")
    parser.add_argument("--search", metavar="WORD", help="a word that its search has to find")
    given = parser.parse_args(arguments)
    site: Path = given.site
    if not (site / "index.html").is_file():
        parser.error(f"{site} has no index.html: build it with `make docs`")
    found = sorted({*check(site)})
    if given.search:
        found += search(site, given.search)
    for line in found:
        print(line)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
