"""Ask axe-core what the pages of the site and of the board make hard to see, hear or reach by keys.

    npm pack axe-core && tar xzf axe-core-*.tgz
    python -m scripts.check_accessibility package/axe.min.js leaderboards/site/index.html FILE ...

In headless Chromium, in three widths, light and dark. Exit code 1, with what was found, if anything
was. axe-core is not kept here: it is larger than the page that it checks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.browser import open_browser

WIDTHS = (390, 800, 1400)
SCHEMES = ("light", "dark")
SECONDS = 120
_RUN = """
const done = arguments[arguments.length - 1];
const settle = () => new Promise((resolve) => setTimeout(resolve, 700));  // what is drawn later
settle().then(() => axe.run(document)).then(
  (found) => done(found.violations.map(
    (violation) => `${violation.id}: ${violation.nodes.map((node) => node.target).join(", ")}`)),
  (error) => done([String(error)]));
"""


def check(browser: Any, axe: str, address: str) -> Iterator[str]:
    """Violations of a page, each with the width and scheme in which it was found."""
    for scheme in SCHEMES:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for width in WIDTHS:
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            browser.get("about:blank")  # an address that differs after the # only is not loaded
            browser.get(address)
            browser.execute_script(axe)
            for violation in browser.execute_async_script(_RUN):
                yield f"{address}, {width} px, {scheme}: {violation}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Check the pages that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("axe", type=Path, help="axe.min.js of the package axe-core")
    parser.add_argument("pages", nargs="+", help="files; what follows a # is kept")
    given = parser.parse_args(arguments)
    axe = given.axe.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        browser = open_browser(Path(profile))
        if browser is None:
            sys.exit("chromium and chromedriver are not installed")
        browser.set_script_timeout(SECONDS)
        found: list[str] = []
        for page in given.pages:
            path, hash_sign, anchor = page.partition("#")
            address = Path(path).resolve(strict=True).as_uri() + hash_sign + anchor
            found += check(browser, axe, address)
        browser.quit()
    print("\n".join(found))
    print(f"{len(given.pages)} pages, {len(found)} violations")
    if found:
        sys.exit(1)


if __name__ == "__main__":
    main()
