"""What `leaderboard build` writes, read without a browser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_submissions import write_submission
from rmdp_bench.files import TEMPORARY_PREFIX
from rmdp_bench.leaderboard import make_entries
from rmdp_bench.leaderboard.columns import rounded
from rmdp_bench.leaderboard.page import build_site
from rmdp_bench.leaderboard.reading import read_rows
from rmdp_bench.leaderboard.snapshot import SNAPSHOT_FILE, read_snapshot, write_snapshot
from rmdp_bench.submission.rows import RowFiles
from scripts.vendor_charts import COPIED, RECORD, VENDOR, describe
from tests.helpers.checkout import IS_CLONE, ROOT, needs_submissions, tracked_files
from tests.helpers.site import MARKUP, read_script
from tests.helpers.submission_toys import refused

LEADERBOARDS = ROOT / "leaderboards"
ONLINE, VELOCITY = "ResourceGathering-n25-k3-v0", "HalfCheetahVel-n100-k5-v0"
OFFLINE = "CartPoleHet-n500-pure-v1"


def all_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@needs_submissions
def test_the_committed_tables_are_those_of_the_submissions(tmp_path: Path) -> None:
    """If this fails: rmdp-bench leaderboard build, and commit what it wrote."""
    built = build_site(LEADERBOARDS, tmp_path)
    assert built.tables.read_bytes() == (LEADERBOARDS / "TABLES.md").read_bytes()


@needs_submissions
def test_builds_are_alike(tmp_path: Path) -> None:
    """Of some of the suite's own submissions, online and offline, and its marks."""
    board = tmp_path / "board"
    for name in ("reference-gpu", "example-evolution-strategies", "reference-planning"):
        source = LEADERBOARDS / "submissions" / name
        shutil.copytree(source, board / "submissions" / name)
    for name in ("marks.json", "suite.json"):
        shutil.copy(LEADERBOARDS / name, board)
    for name in ("one", "another"):
        build_site(board, tmp_path / name)
    built, again = all_files(tmp_path / "one"), all_files(tmp_path / "another")
    assert len(built) > 10
    assert list(built) == list(again)
    assert [name for name, data in built.items() if again[name] != data] == []


@pytest.mark.skipif(not IS_CLONE, reason="git says what is committed")
def test_the_page_is_built_and_not_committed() -> None:
    assert tracked_files("leaderboards/site") == []


@needs_submissions
def test_the_rows_in_the_package_are_those_of_the_submissions() -> None:
    """If this fails: rmdp-bench leaderboard build, and commit what it wrote."""
    stored = read_snapshot(LEADERBOARDS)
    assert stored is not None and stored == make_entries(read_rows(LEADERBOARDS))
    assert read_snapshot(None) == stored
    assert SNAPSHOT_FILE.stat().st_size < 200_000


def test_a_stored_board_holds_for_the_same_bytes_only(tmp_path: Path) -> None:
    folder, path = tmp_path / "submissions" / "one", tmp_path / "stored.json.gz"
    write_submission(folder, [(ONLINE, "em"), (OFFLINE, "cql")], 0)
    entries = make_entries(read_rows(tmp_path))
    write_snapshot(entries, tmp_path, path)
    first = path.read_bytes()
    assert read_snapshot(tmp_path, path) == entries
    write_snapshot(entries, tmp_path, path)
    assert path.read_bytes() == first
    changed = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    assert read_snapshot(tmp_path, path) is None
    assert read_snapshot(None, path) == entries
    assert read_snapshot(tmp_path / "elsewhere", path) is None


def test_every_row_is_in_the_tables_and_on_the_page(tmp_path: Path) -> None:
    write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em"), (OFFLINE, "cql")], 0)
    write_submission(tmp_path / "submissions" / "two", [(ONLINE, "em")], 1, n_seeds=1)
    built = build_site(tmp_path)
    assert (built.n_rows, built.n_submissions, built.n_tasks) == (3, 2, 2)
    (board,) = read_script(built.site / "data.js")
    assert {row["key"] for row in board["rows"]} == {"one/em", "two/em", "one/cql"}
    alone = next(row for row in board["rows"] if row["submission"] == "two")
    assert alone["error"] is alone["low"] is alone["high"] is None
    task, details, rows = read_script(built.site / "tasks" / f"{ONLINE}.js")
    assert task == ONLINE
    assert set(rows) == {"one/em", "two/em"}
    assert rows["two/em"]["profileLow"] == [None] * len(details["thresholds"])
    assert rows["one/em"]["about"]["files"] == ["arrays.npz", "records.json"]
    tables = built.tables.read_text(encoding="utf-8")
    row = r"^\| – \| `em \(by (one|two)\)` \| \1 \| reported"
    assert len(re.findall(row, tables, flags=re.M)) == 2
    assert "| – | *exact ceiling* | computed |" in tables


def test_statistics_on_the_page_follow_from_the_records(tmp_path: Path) -> None:
    folder = tmp_path / "submissions" / "one"
    write_submission(folder, [(VELOCITY, "em"), (VELOCITY, "clustering")], 0, n_seeds=4)
    site = build_site(tmp_path).site
    _, details, rows = read_script(site / "tasks" / f"{VELOCITY}.js")
    records = [seed.record for seed in RowFiles(folder / VELOCITY / "em").seeds]
    returns = np.array([record["agent_returns"] for record in records])
    row = rows["one/em"]
    np.testing.assert_allclose(row["scores"], returns.mean(axis=1), atol=6e-4)
    expected = [(returns > threshold).mean() for threshold in details["thresholds"]]
    np.testing.assert_allclose(row["profile"], expected, atol=6e-4)
    assert np.all(np.array(row["profileLow"]) <= np.array(row["profile"]) + 1e-9)
    assert sum(row["groups"]["mean"]) == pytest.approx(100, abs=0.05)
    assert sum(map(sum, row["targets"])) == pytest.approx(100, abs=0.05)
    assert row["groups"]["mean"] == sorted(row["groups"]["mean"], reverse=True)
    assert details["improvement"]["pairs"][0][2] in (0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.125 + 1e-16, 2, 0.12),
        (0.1 + 0.2, 3, 0.3),
        (2.675 - 4e-16, 2, rounded(2.675 + 4e-16, 2)),
        (-1e-9, 2, 0.0),
        (None, 2, None),
        (float("nan"), 2, None),
        (float("inf"), 2, None),
        (1234567.891, 1, 1234567.9),
    ],
)
def test_rounding_forgets_the_last_bits(
    value: float | None, digits: int, expected: float | None
) -> None:
    assert rounded(value, digits) == expected
    assert str(rounded(value, digits)) == str(expected)


def test_text_of_strangers_is_no_markup(tmp_path: Path) -> None:
    folder = tmp_path / "submissions" / "hostile"
    texts = dict.fromkeys(("method", "description", "licence"), MARKUP)
    changes = texts | {"authors": [MARKUP], "division": "open", "differences": [MARKUP]}
    system = {"cpu": MARKUP, "device": "cpu", "device_name": MARKUP}
    write_submission(
        folder, [(ONLINE, "em")], 0, changes=changes, record_changes={"system": system}
    )
    built = build_site(tmp_path)
    for path in (built.site / "data.js", built.site / "tasks" / f"{ONLINE}.js"):
        assert not re.search(r"[<>&\u2028\u2029]", path.read_text(encoding="utf-8"))
    (_, _, rows) = read_script(built.site / "tasks" / f"{ONLINE}.js")
    assert rows["hostile/em"]["about"]["description"] == MARKUP
    costs = built.tables.read_text(encoding="utf-8").split("## Cost on CPU")[1]
    (line,) = [line for line in costs.splitlines() if "hostile" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 10  # no cell more than columns
    assert "<" not in re.sub(r"`[^`]*`", "", line)
    assert "](" not in re.sub(r"`[^`]*`", "", line)


def test_seeds_whose_curves_do_not_meet_have_no_curve_together(tmp_path: Path) -> None:
    folder = write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em")], 0, n_seeds=2)
    path = folder / ONLINE / "em" / "records.json"
    document = json.loads(path.read_text())
    curve = document["seeds"][0]["curve"]
    curve[1:] = ["1,1.0,1.0,", "2,1.0,,"]
    path.write_text(json.dumps(document))
    _, _, rows = read_script(build_site(tmp_path).site / "tasks" / f"{ONLINE}.js")
    assert rows["one/em"]["curve"] is None


def test_rows_of_different_devices_have_keys_of_their_own(tmp_path: Path) -> None:
    folder = write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em")], 0)
    path = folder / ONLINE / "em" / "records.json"
    document = json.loads(path.read_text())
    document["seeds"][1]["record"]["device"] = "cuda"
    path.write_text(json.dumps(document))
    (board,) = read_script(build_site(tmp_path).site / "data.js")
    assert sorted((row["key"], row["device"]) for row in board["rows"]) == [
        ("one/em", "CPU"),
        ("one/em/2", "GPU"),
    ]


def test_without_a_folder_of_submissions_nothing_is_built(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "there is no folder" in refused(capsys, "leaderboard", "build", "--root", "nowhere")


def test_a_folder_of_something_else_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "submissions").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.txt").write_text("mine")
    assert "move it away" in refused(capsys, "leaderboard", "build", "--root", str(tmp_path))
    assert (tmp_path / "site" / "thesis.txt").read_text() == "mine"


def test_what_a_killed_submit_left_is_not_a_submission(tmp_path: Path) -> None:
    write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em")], 0)
    (tmp_path / "submissions" / f"{TEMPORARY_PREFIX}x" / "new" / "two").mkdir(parents=True)
    assert build_site(tmp_path).n_submissions == 1


def test_the_vendored_library_is_the_pinned_one() -> None:
    contents = {name: (VENDOR / name).read_bytes() for name in COPIED}
    assert json.loads((VENDOR / RECORD).read_text(encoding="utf-8")) == describe(contents)
    assert {path.name for path in VENDOR.iterdir()} == {*COPIED, RECORD}


def test_the_page_forbids_everything_but_its_own_files() -> None:
    page = (VENDOR.parent / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'; script-src 'self';" in page
    assert re.findall(r"<script>|javascript:| on[a-z]+=", page) == []
    for path in VENDOR.parent.glob("*.js"):
        source = path.read_text(encoding="utf-8")
        words = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|fetch\("
        )
        assert re.findall(words, source) == [], path.name


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_that_WCAG_asks_for() -> None:
    style = (VENDOR.parent / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root[^{]*\{([^}]*)\}", style)
    themes = [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    assert len(themes) == 3
    assert themes[1] == themes[2]  # dark by choice, and dark by the system
    for theme in themes[:2]:
        for text in ("ink", "muted", "accent"):
            for ground in ("page", "surface", "raised"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        for text, ground in (
            ("good", "good-soft"),
            ("recipe", "recipe-soft"),
            ("ink", "plain-soft"),
        ):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["accent"], theme["accent-soft"]) >= 4.5
        for index in range(8):
            assert contrast(theme[f"series-{index}"], theme["surface"]) >= 3.0, index
        assert contrast(theme["strong-line"], theme["surface"]) >= 3.0
