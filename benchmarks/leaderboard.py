"""How long the leaderboard takes: to be built, and to be opened.

    build    `leaderboard build` of made-up submissions of one row and three seeds each
    parse    its floor: json.loads of the same records
    page     the overview, from the start of the navigation until it has loaded, with the first 150
             rows of its table, in headless Chromium; filters and order know all rows by then
    rows     until the last row of its table is there as well
    static   their floor: the cells of the same table as plain HTML, without scripts or style

Seconds are medians over repetitions; what is compared is measured in turn.

    python -m benchmarks.leaderboard [--quick] [--submissions 1000] [--out DIR]
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from selenium import webdriver

from benchmarks.browser import open_browser
from benchmarks.common import make_parser, positive, report
from benchmarks.synthetic_submissions import write_many
from rmdp_bench.leaderboard.page import build_site

HEADER = ("what", "submissions", "seconds", "floor", "floor seconds", "of the floor")
_PAINTED = """
const [navigation] = performance.getEntriesByType("navigation");
const [paint] = performance.getEntriesByName("first-contentful-paint");
return paint && navigation.loadEventEnd ? Math.max(navigation.loadEventEnd, paint.startTime) : 0;
"""
_COMPLETE = """
const table = document.querySelector("table.rows");
if (!table || table.hasAttribute("data-unfinished")) return 0;
table.getBoundingClientRect();
return performance.now();
"""
_CELLS = """
return [...document.querySelectorAll("table.rows tr")].map(
  (row) => [...row.cells].map((cell) => cell.textContent));
"""


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_build(root: Path, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each way."""
    records = sorted((root / "submissions").rglob("records.json"))

    def parse() -> None:
        for path in records:
            json.loads(path.read_text(encoding="utf-8"))

    build_site(root)  # ceilings and modules are there, and files in the page cache
    seconds: dict[str, list[float]] = {"build": [], "parse": []}
    for _ in range(repetitions):
        seconds["build"].append(timed(lambda: build_site(root)))
        seconds["parse"].append(timed(parse))
    return seconds


def measure_page(browser: webdriver.Chrome, root: Path, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each way, as the browser itself counts them."""
    address = (root / "site" / "index.html").as_uri()
    browser.get(address)
    _wait(browser, _COMPLETE)
    cells = browser.execute_script(_CELLS)
    lines = ("".join(f"<td>{escape(cell)}" for cell in row) for row in cells)
    static = root / "static.html"
    static.write_text("<!doctype html><table><tr>" + "<tr>".join(lines), encoding="utf-8")
    seconds: dict[str, list[float]] = {"page": [], "rows": [], "static": []}
    for _ in range(repetitions):
        browser.get("about:blank")
        browser.get(address)
        seconds["rows"].append(_wait(browser, _COMPLETE))
        seconds["page"].append(_wait(browser, _PAINTED))
        browser.get("about:blank")
        browser.get(static.as_uri())
        seconds["static"].append(_wait(browser, _PAINTED))
    return seconds


def _wait(browser: webdriver.Chrome, script: str) -> float:
    """Ask until the answer is not 0; milliseconds of the page's clock, as seconds."""
    while not (answer := browser.execute_script(script)):
        time.sleep(0.01)
    return float(answer) / 1000.0


def format_row(result: dict[str, Any]) -> list[str]:
    """One line of the table; dashes where there is no browser."""
    names = [result["what"], str(result["submissions"])]
    if not result["seconds"]:
        return [*names, "–", result["floor"], "–", "–"]
    seconds, floor = median(result["seconds"]), median(result["floor_seconds"])
    return [*names, f"{seconds:.3f}", result["floor"], f"{floor:.3f}", f"{seconds / floor:.1f} x"]


def measure(n_submissions: int, repetitions: int) -> list[dict[str, Any]]:
    """Build and page of as many submissions."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "leaderboards"
        write_many(root, n_submissions)
        seconds = measure_build(root, repetitions) | {"page": [], "rows": [], "static": []}
        browser = open_browser(Path(folder) / "profile")
        if browser is not None:
            try:
                seconds |= measure_page(browser, root, repetitions)
            finally:
                browser.quit()
    return [
        {
            "what": what,
            "submissions": n_submissions,
            "seconds": seconds[what],
            "floor": floor,
            "floor_seconds": seconds[floor],
        }
        for what, floor in (("build", "parse"), ("page", "static"), ("rows", "static"))
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed of the leaderboard.", "one repetition of 30 submissions")
    parser.add_argument("--submissions", type=positive, default=1000)
    parser.add_argument("--repetitions", type=positive, default=3)
    arguments = parser.parse_args()
    size = (30, 1) if arguments.quick else (arguments.submissions, arguments.repetitions)
    results = measure(*size)
    report("leaderboard", arguments.out, HEADER, ((one, format_row(one)) for one in results))


if __name__ == "__main__":
    main()
