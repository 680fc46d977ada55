"""The page in a browser: headless Chromium, from files, with whatever it logs and asks for."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from benchmarks.browser import open_browser
from benchmarks.synthetic_submissions import write_marks, write_submission
from rmdp_bench.files import write_json
from rmdp_bench.leaderboard.page import build_site
from rmdp_bench.leaderboard.policies import address_of
from rmdp_bench.runs import SOLVERS
from tests.helpers.checkout import ROOT, needs_submissions
from tests.helpers.site import MARKUP, read_script

SECONDS = 30
ONLINE, VELOCITY = "ResourceGathering-n25-k3-v0", "HalfCheetahVel-n100-k5-v0"
OFFLINE = "CartPoleHet-n500-pure-v1"
Browser = webdriver.Chrome


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium of its own; skipped where there is none, unless it must be there."""
    chromium = open_browser(tmp_path_factory.mktemp("profile"))
    if chromium is None:
        missing = "chromium and chromedriver are not installed"
        if os.environ.get("RMDP_BENCH_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    yield chromium
    chromium.quit()


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[[Path, str], None]]:
    """Opens a page; afterwards nothing may be in the console, and nothing asked of a network."""
    read_logs(browser)

    def open_page(root: Path, address: str = "") -> None:
        browser.get("about:blank")  # an address that differs after the # only is not loaded again
        browser.get((root / "site" / "index.html").as_uri() + address)
        wait(browser, "return !document.querySelector('[aria-busy]')")

    yield open_page
    messages, addresses = read_logs(browser)
    assert messages == []
    assert addresses
    # "chrome:" are the browser's own parts, such as the cross in a field of a search.
    strange = r"(?!file:///|data:|about:blank|blob:null/|chrome:)"
    assert [address for address in addresses if re.match(strange, address)] == []


def read_logs(browser: Browser) -> tuple[list[str], list[str]]:
    """Messages in the console, and addresses that were asked for, since the last call."""
    messages = [entry["message"] for entry in browser.get_log("browser")]
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return messages, [request["request"]["url"] for request in requests]


def wait(browser: Browser, script: str) -> Any:
    return WebDriverWait(browser, SECONDS).until(lambda b: b.execute_script(script))


def texts(browser: Browser, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    found: list[str] = browser.execute_script(script, selector)
    return found


def keys(browser: Browser, table: str = "table.rows") -> list[str]:
    """Rows of the first table, as they stand: submission/solver, or "" for the ceiling."""
    script = (
        "return [...document.querySelector(arguments[0]).tBodies[0].rows]"
        ".map((row) => row.dataset.key ?? '')"
    )
    found: list[str] = browser.execute_script(script, table)
    return found


def click(browser: Browser, selector: str) -> None:
    element = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def header(browser: Browser, label: str) -> Any:
    """The button in a header of the first table."""
    buttons = browser.find_elements(By.CSS_SELECTOR, "table.rows thead button")
    button = next(b for b in buttons if b.get_attribute("textContent") == label)
    # A column that stays in place may cover the edge of a table that was scrolled.
    browser.execute_script("arguments[0].scrollIntoView({inline: 'center'})", button)
    return button


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard with three submissions, one of them hostile, and one on one seed."""
    root = tmp_path_factory.mktemp("board")
    submissions = root / "submissions"
    solvers = ("em", "end_to_end", "clustering", "conditioned", "universal", "random_assignment")
    rows = [(VELOCITY, solver) for solver in solvers] + [(ONLINE, "em"), (OFFLINE, "cql")]
    write_submission(submissions / "first", rows, 0)
    gpu = {"device": "cuda", "system": {"cpu": "", "device": "cuda", "device_name": "a GPU"}}
    hostile: dict[str, Any] = dict.fromkeys(("method", "description", "licence"), MARKUP)
    hostile |= {"authors": [MARKUP], "division": "open", "differences": [MARKUP]}
    write_submission(
        submissions / "hostile",
        [(VELOCITY, "__proto__"), (VELOCITY, "constructor"), (OFFLINE, "toString")],
        1,
        changes=hostile | {"paper": "https://example.org/';alert(1)//"},
        record_changes={"system": {"cpu": MARKUP, "device": "cpu"}, "git_revision": MARKUP},
    )
    write_submission(
        submissions / "single",
        [(VELOCITY, "em"), (OFFLINE, "bcq")],
        2,
        n_seeds=1,
        record_changes=gpu,
    )
    write_marks(sorted(submissions.iterdir()))
    names = [path.name for path in submissions.iterdir()]
    write_json(root / "suite.json", {"schema_version": 1, "submissions": names})
    build_site(root)
    return root


Show = Callable[..., None]


def test_overview_shows_tasks_and_all_rows(browser: Browser, show: Show, board: Path) -> None:
    show(board)
    assert browser.title == "rmdp_bench leaderboard"
    assert len(texts(browser, ".card")) == 3
    assert texts(browser, "#count") == ["10 of 10 rows"]
    shown = keys(browser)
    assert shown.count("") == 2  # a ceiling for each of the two online tasks
    assert {"first/em", "single/em", "hostile/__proto__"} <= set(shown)
    assert "exact ceiling" in texts(browser, "table.rows tr.exact .solver")
    click(browser, ".segments [data-value=offline]")
    assert sorted(keys(browser)) == ["first/cql", "hostile/toString", "single/bcq"]
    assert "extrapolating†" in texts(browser, "table.rows thead button")


def test_sorts_both_ways_with_missing_values_last(
    browser: Browser, show: Show, board: Path
) -> None:
    show(board, f"#{VELOCITY}")
    own = keys(browser)
    assert own[0] == ""  # the ceiling is above all rows
    header(browser, "IQM [95 %]").click()
    assert keys(browser) == [*own[1:], ""]  # the ceiling has no interquartile mean
    assert "descending" in [
        e.get_attribute("aria-sort") for e in browser.find_elements(By.CSS_SELECTOR, "thead th")
    ]
    header(browser, "IQM [95 %]").click()
    assert keys(browser) == [*own[:0:-1], ""]
    header(browser, "seeds").click()
    assert keys(browser) == [*[k for k in own[1:] if k != "single/em"], "single/em", ""]
    header(browser, "mark").click()
    assert keys(browser) == [*own[1:], ""]  # all alike: the order of the board
    assert len(texts(browser, "table.rows [aria-sort=ascending]")) == 1


def test_filters_and_the_address_that_brings_them_back(
    browser: Browser, show: Show, board: Path
) -> None:
    show(board)
    for name, value, expected in (
        ("division", "open", {"hostile/__proto__", "hostile/constructor", ""}),
        ("division", "", None),
        ("device", "GPU", {"single/em", ""}),
        ("device", "", None),
        ("k", "3", {"first/em", ""}),
        ("k", "", None),
        ("task", ONLINE, {"first/em", ""}),
        ("task", "", None),
        ("mark", "reported", None),
    ):
        Select(browser.find_element(By.ID, f"filter-{name}")).select_by_value(value)
        if expected is not None:
            assert set(keys(browser)) == expected, name
    assert "No row passes these filters." in texts(browser, "#rows .message")
    Select(browser.find_element(By.ID, "filter-mark")).select_by_value("verified")
    browser.find_element(By.ID, "filter-q").send_keys("single EM")
    assert set(keys(browser)) == {"single/em", ""}
    address = browser.current_url.partition("#")[2]
    show(board, f"#{address}")
    assert set(keys(browser)) == {"single/em", ""}
    assert browser.find_element(By.ID, "filter-q").get_attribute("value") == "single EM"
    click(browser, "#reset")
    assert texts(browser, "#count") == ["10 of 10 rows"]


def test_an_address_that_asks_for_what_is_not_there_shows_all_rows(
    browser: Browser, show: Show, board: Path
) -> None:
    show(board, "#?track=offline&k=5&task=NoSuchTask&mark=%22gold&device=TPU&view=quality")
    assert len(keys(browser)) == 3
    assert browser.find_element(By.ID, "count").text == "3 of 3 rows"


def test_what_is_only_claimed_is_called_so_and_stands_below(
    browser: Browser, show: Show, tmp_path: Path
) -> None:
    submissions = tmp_path / "submissions"
    for number, name in enumerate(("low", "high", "other")):
        write_submission(submissions / name, [(VELOCITY, name), (OFFLINE, "cql")], number)
    write_marks([submissions / "low"])
    build_site(tmp_path)
    show(tmp_path, f"#{VELOCITY}")
    first = ["", "low/low"]
    assert keys(browser)[:2] == first
    for column in ("measured", "claimed", "IQM [95 %]", "solver, submission"):
        for _ in range(2):
            header(browser, column).click()
            assert set(keys(browser)[:2]) == set(first), column
    show(tmp_path, f"#{VELOCITY}")
    places = texts(browser, ".quality tbody td:nth-child(2)")
    assert places == ["–", "1", "not ranked", "not ranked"]
    assert len(texts(browser, ".quality tr.unmeasured")) == 2
    show(tmp_path, f"#{OFFLINE}")
    assert keys(browser)[0] == "low/cql"
    # A recipe is one only if somebody has run it.
    row = "{exact: false, mark: 'recipe', status: '%s', rank: %s}"
    chip = "const c = markChip(" + row + "); return [c.textContent.trim(), c.className]"
    for status, rank, look in (("recipe, not run", "null", "reported"), ("recipe", "1", "recipe")):
        assert browser.execute_script(chip % (status, rank)) == [f"↻ {status}", f"mark {look}"]


def test_columns_and_marks_are_explained_in_text(browser: Browser, show: Show, board: Path) -> None:
    show(board)
    browser.find_element(By.CSS_SELECTOR, "details.help summary").click()
    shown = browser.find_element(By.CSS_SELECTOR, "details.help dl").text
    for name in ("Gini", "regret", "✓ verified", "↻ recipe", "○ reported"):
        assert name in shown
    link = browser.find_element(By.CSS_SELECTOR, "footer a[href='../SUBMITTING.md']")
    assert link.is_displayed() and (ROOT / "leaderboards" / "SUBMITTING.md").is_file()


CUT = """
const task = board.tasks.find((one) => one.id === arguments[0]);
const [row] = rowsOf(task);
const was = row.welfare;
row.welfare = arguments[1];
const line = taskLine(task);
row.welfare = was;
document.querySelector("main").append(line);
const own = line.querySelector(".best > .cut");
const placed = own && getComputedStyle(own).position === "absolute";
const seen = placed && own.getBoundingClientRect().width > 0;
const value = line.querySelector(".best").style.getPropertyValue("--value");
line.remove();
const share = shareCell({ share: arguments[1] / 100 }).querySelector(".bar > .cut");
return [value, own && own.textContent, seen, share && share.textContent];
"""


@pytest.mark.parametrize(
    ("welfare", "shown", "sign"),
    [(-20.0, "0%", "◂"), (0.0, "0%", None), (60.0, "60%", None), (100.0, "100%", None)]
    + [(130.0, "100%", "▸")],
)
def test_a_bar_that_is_cut_says_so(
    browser: Browser, show: Show, board: Path, welfare: float, shown: str, sign: str | None
) -> None:
    """Where 0 and 100 are no bounds: of patients, or offline."""
    show(board)
    found = browser.execute_script(CUT, VELOCITY, welfare)
    assert found == [shown, sign, None if sign is None else True, sign]
    assert any("◂ and ▸ are where one is cut" in text for text in texts(browser, ".under"))


def test_costs_are_apart_for_each_class_of_devices(
    browser: Browser, show: Show, board: Path
) -> None:
    show(board)
    click(browser, ".segments [data-value=GPU]")
    assert keys(browser) == ["single/em"]
    assert "transitions/s" in texts(browser, "table.rows thead button")
    click(browser, ".segments [data-value=CPU]")
    assert "single/em" not in keys(browser)
    assert "" not in keys(browser)
    show(board, f"#{VELOCITY}")
    assert texts(browser, ".costs h3") == ["CPU", "GPU"]


@pytest.mark.parametrize(("task", "n_charts"), [(VELOCITY, 6), (ONLINE, 5), (OFFLINE, 4)])
def test_the_page_of_a_task_has_its_charts(
    browser: Browser, show: Show, board: Path, task: str, n_charts: int
) -> None:
    show(board, f"#{task}")
    wait(browser, "return document.querySelectorAll('.canvas > svg, .canvas > figure').length > 0")
    charts = browser.find_elements(By.CSS_SELECTOR, ".canvas > [role=img]")
    assert len(charts) == n_charts
    for chart in charts:
        name = chart.get_attribute("aria-label") or ""
        assert not re.search(r"undefined|NaN|null|Infinity", name)
        assert "first/" not in name
        assert chart.find_elements(By.CSS_SELECTOR, "path, circle, rect")
    assert not re.search(r"\bundefined\b|\bNaN\b", " ".join(texts(browser, "main")))
    n_tables = len(browser.find_elements(By.CSS_SELECTOR, "figure details table"))
    assert n_tables == n_charts
    assert bool(texts(browser, "table.improvement")) == (task != ONLINE)


def test_rows_of_the_charts_can_be_chosen(browser: Browser, show: Show, board: Path) -> None:
    show(board, f"#{VELOCITY}")
    boxes = browser.find_elements(By.CSS_SELECTOR, ".picker input")
    assert [box.is_selected() for box in boxes] == [True] * 6 + [False] * 3
    boxes[6].click()
    boxes[7].click()
    assert not boxes[8].is_enabled()
    lines = "querySelectorAll('.grid figure')[2].querySelectorAll('[data-part=line]').length"
    profile = f"return document.{lines}"
    assert browser.execute_script(profile) == 8
    for box in boxes[:8]:
        box.click()
    assert texts(browser, ".grid .message") == ["No row is chosen."]
    boxes[8].click()
    assert browser.execute_script(profile) == 1


def test_raw_records_are_linked_and_there(browser: Browser, show: Show, board: Path) -> None:
    show(board, f"#{ONLINE}")
    click(browser, ".record > summary")
    wait(browser, "return document.querySelector('.files a')")
    links = [a.get_property("href") for a in browser.find_elements(By.CSS_SELECTOR, ".files a")]
    # The toy row has no policies.
    assert {Path(str(link)).name for link in links} == {"records.json", "arrays.npz"}
    for link in links:
        assert Path(str(link).removeprefix("file://")).is_file()


def test_downloads_are_made_here_and_hold_no_formula(
    browser: Browser, show: Show, board: Path
) -> None:
    show(board, f"#{VELOCITY}")
    for button in browser.find_elements(By.CSS_SELECTOR, ".tools button"):
        button.click()
    cells = browser.execute_script("return toCsv(['a'], [['=1+1'], [-2.5], [null], ['x, \"y\"']])")
    assert cells == 'a\n\'=1+1\n-2.5\n\n"x, ""y"""\n'
    script = "const r = rowsOf(board.byTask.get(arguments[0]).task);"
    script += "return csvOf(columnsFor('quality', 'online', r, true), r)"
    lines = list(csv.reader(browser.execute_script(script, VELOCITY).splitlines()))
    assert lines[0][:3] == ["key", "solver, submission", "rank"]
    assert len(lines) == 10
    assert len({len(line) for line in lines}) == 1


def test_text_of_strangers_stays_text(browser: Browser, show: Show, board: Path) -> None:
    for address in ("", "#?view=CPU&q=hostile", f"#{VELOCITY}", f"#{OFFLINE}", f"#{MARKUP}"):
        show(board, address)
        for summary in browser.find_elements(By.CSS_SELECTOR, ".record > summary"):
            summary.click()
        assert browser.execute_script("return typeof hacked") == "undefined"
        assert browser.find_elements(By.CSS_SELECTOR, "main img, main script") == []
    show(board, f"#{VELOCITY}")
    for summary in browser.find_elements(By.CSS_SELECTOR, ".record > summary"):
        summary.click()
    wait(browser, "return document.querySelectorAll('.about').length === 9")
    assert MARKUP in texts(browser, ".about > p")
    links = browser.find_elements(By.CSS_SELECTOR, ".about dd a")
    assert {str(a.get_attribute("href"))[:8] for a in links} == {"https://"}
    assert MARKUP[:80] in " ".join(texts(browser, ".device"))


def test_everything_works_from_the_keyboard(browser: Browser, show: Show, board: Path) -> None:
    show(board, f"#{VELOCITY}")
    own = keys(browser)
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    for _ in range(30):
        active = browser.switch_to.active_element
        if active.get_attribute("textContent") == "measured":
            break
        active.send_keys(Keys.TAB)
    active.send_keys(Keys.ENTER)
    active.send_keys(Keys.ENTER)
    assert keys(browser) == own[::-1]
    assert browser.switch_to.active_element == active
    browser.get(browser.current_url.partition("#")[0] + f"#{ONLINE}")
    wait(browser, f"return document.title.startsWith('{ONLINE}')")
    assert browser.switch_to.active_element.tag_name == "h1"


def test_every_control_has_a_name_and_ids_are_unique(
    browser: Browser, show: Show, board: Path
) -> None:
    nameless = """
      return [...document.querySelectorAll('a, button, select, input, summary')].filter((e) =>
        !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).length"""
    repeated = """
      const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
      return ids.filter((id, i) => ids.indexOf(id) !== i)"""
    for address in ("", f"#{VELOCITY}", f"#{OFFLINE}"):
        show(board, address)
        assert browser.execute_script(nameless) == 0
        assert browser.execute_script(repeated) == []


def test_light_and_dark(browser: Browser, show: Show, board: Path) -> None:
    show(board)
    ground = "return getComputedStyle(document.body).backgroundColor"
    emulate = "Emulation.setEmulatedMedia"
    seen = {}
    for system in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": system}]
        browser.execute_cdp_cmd(emulate, {"features": features})
        seen[system] = browser.execute_script(ground)
    assert seen["light"] != seen["dark"]
    click(browser, "#theme")  # light, whatever the system says
    assert browser.execute_script(ground) == seen["light"]
    show(board)
    assert texts(browser, "#theme") == ["Theme: light"]
    click(browser, "#theme")
    browser.execute_cdp_cmd(emulate, {"features": []})
    assert browser.execute_script(ground) == seen["dark"]
    click(browser, "#theme")


def test_a_board_without_rows_and_a_task_without_rows(
    browser: Browser, show: Show, tmp_path: Path, board: Path
) -> None:
    (tmp_path / "submissions").mkdir()
    build_site(tmp_path)
    show(tmp_path)
    assert texts(browser, "#count") == ["0 of 0 rows"]
    show(board, "#AntVel-n100-k5-v0")
    assert texts(browser, "main .message") == ["Nobody has submitted a row for this task yet."]
    show(board, "#no-such-task")
    assert texts(browser, "h1") == ["No such task"]


@pytest.fixture
def resize(browser: Browser) -> Iterator[Callable[[int], None]]:
    """Gives the window another width."""

    def set_width(width: int) -> None:
        metrics = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    yield set_width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [360, 390, 800, 1400])
def test_the_window_does_not_scroll_sideways(
    browser: Browser, show: Show, board: Path, resize: Callable[[int], None], width: int
) -> None:
    resize(width)
    for address in ("", f"#{VELOCITY}", f"#{OFFLINE}"):
        show(board, address)
        assert browser.execute_script("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [390, 1400])
def test_wide_tables_say_so_and_on_a_telephone_the_score_stays(
    browser: Browser, show: Show, board: Path, resize: Callable[[int], None], width: int
) -> None:
    resize(width)
    show(board, f"#{VELOCITY}")
    for wide in browser.find_elements(By.CSS_SELECTOR, ".sideways"):
        area = wide.find_element(By.CSS_SELECTOR, ".scroll")
        scrolls = "return arguments[0].scrollWidth > arguments[0].clientWidth + 1"
        assert wide.find_element(By.CSS_SELECTOR, ".hint").is_displayed() == (
            browser.execute_script(scrolls, area)
        )
    row = "document.querySelector('.quality tbody tr:nth-child(2)')"
    rank = browser.execute_script(f"return {row}.querySelector('.column-rank').offsetWidth")
    assert bool(rank) == (width == 1400)
    if width == 390:
        wait(browser, "return document.querySelector('.quality .sideways[data-more]')")
        for left in (0, 10_000):
            browser.execute_script(
                f"document.querySelector('.quality .scroll').scrollLeft = {left}"
            )
            place = browser.execute_script(
                f"return {row}.querySelector('.column-measured').getBoundingClientRect().toJSON()"
            )
            assert 0 <= place["left"] and place["right"] <= width
        wait(browser, "return !document.querySelector('.quality .sideways[data-more]')")


def test_a_card_has_the_solver_first_its_mark_and_the_measured_score(
    browser: Browser, show: Show, board: Path
) -> None:
    show(board)
    lines = browser.find_elements(By.CSS_SELECTOR, f".card a[href='#{VELOCITY}'] > *")
    assert [line.get_attribute("class") for line in lines] == ["who", "badges", "value", "scale"]
    script = (
        "const [r] = rowsOf(board.byTask.get(arguments[0]).task); return [r.solver, r.measured]"
    )
    solver, score = browser.execute_script(script, VELOCITY)
    assert lines[0].text == solver
    assert lines[1].text.endswith("✓ verified")
    assert float(lines[2].text.split()[0]) == pytest.approx(score, abs=0.051)
    (tick,) = lines[3].find_elements(By.CSS_SELECTOR, ".tick")
    assert tick.is_displayed()


def test_levels_of_a_task_are_ticks_and_lines(browser: Browser, show: Show, board: Path) -> None:
    show(board)
    known = {"best known": 20.5, "reachable reference": 30.5}
    script = "board.byTask.get(arguments[0]).task.anchors = arguments[1]; location.hash = '#all'"
    browser.execute_script(script, VELOCITY, known)
    browser.execute_script("location.hash = ''")
    ticks = f".card a[href='#{VELOCITY}'] .tick"
    wait(browser, f'return document.querySelectorAll("{ticks}").length === 3')
    assert len({t.location["x"] for t in browser.find_elements(By.CSS_SELECTOR, ticks)}) == 3
    browser.execute_script("location.hash = arguments[0]", VELOCITY)
    note = "; dash-dotted: reachable reference 30.5; dotted: best known 20.5."
    wait(browser, "return document.querySelectorAll('figure figcaption').length > 3")
    assert sum(note in text for text in texts(browser, "figure figcaption")) == 2


def test_the_rules_the_subset_the_solvers_and_the_way_out(
    browser: Browser, show: Show, board: Path
) -> None:
    show(board)
    assert browser.find_element(By.CSS_SELECTOR, ".rules svg[role=img]").is_displayed()
    urls = {name: address_of(name) for name in ("Homepage", "Repository")}
    links = browser.find_elements(By.CSS_SELECTOR, "header nav a[href]")
    targets = {link.text: str(link.get_dom_attribute("href")) for link in links}
    assert targets["Submit"] == "../SUBMITTING.md"
    assert targets["Repository"] == urls["Repository"]
    assert targets["Documentation"] == urls["Homepage"]
    script = """
      return board.tasks.filter((t) => rowsOf(t).length
        && (rowsOf(t)[0].share ?? rowsOf(t)[0].welfare / 100) < 0.99).map((t) => t.id)"""
    assert texts(browser, ".recommended .chip") == browser.execute_script(script)
    assert {"em", "bcq", "cql"} <= {*texts(browser, ".solvers dt")} < {*SOLVERS}
    (page,) = (link for link in links_of(browser, ".solvers dt a") if "/bcq" in link)
    assert page == f"{urls['Homepage']}/generated/solvers/offline/bcq.html"


def links_of(browser: Browser, selector: str) -> list[str]:
    found = browser.find_elements(By.CSS_SELECTOR, selector)
    return [str(link.get_dom_attribute("href")) for link in found]


def test_a_long_table_is_complete_in_the_end_and_sorts_meanwhile(
    browser: Browser, show: Show, tmp_path: Path, board: Path
) -> None:
    shutil.copytree(board / "site", tmp_path / "site")
    data = tmp_path / "site" / "data.js"
    (content,) = read_script(data)
    row = content["rows"][0]
    content["rows"] = [row | {"key": f"made-up/{i}", "measured": i * 7 % 500} for i in range(500)]
    data.write_text(f"receiveBoard({json.dumps(content)});\n")
    show(tmp_path)
    header(browser, "measured").click()
    wait(browser, "return !document.querySelector('[data-unfinished]')")
    assert keys(browser)[:3] == ["made-up/357", "made-up/214", "made-up/71"]
    assert sorted(filter(None, keys(browser))) == sorted(f"made-up/{i}" for i in range(500))


@pytest.fixture
def suite_page(tmp_path: Path) -> Path:
    """Built before `show` looks at the browser, which does things of its own meanwhile."""
    build_site(ROOT / "leaderboards", tmp_path)
    return tmp_path


@needs_submissions
def test_the_page_of_the_submissions_opens_every_task(
    suite_page: Path, browser: Browser, show: Show
) -> None:
    root = suite_page
    show(root)
    tasks = sorted(path.stem for path in (root / "site" / "tasks").iterdir())
    assert tasks
    for task in tasks:
        show(root, f"#{task}")
        assert texts(browser, "h1") == [task]
        assert browser.find_elements(By.CSS_SELECTOR, ".canvas > [role=img]")
