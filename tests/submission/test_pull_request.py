"""What a pull request with a submission may change, and what the workflow does with it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.changed_submissions import MAX_REMARKS, changed_submissions, main, remarks
from tests.helpers.checkout import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(repository: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = repository / "leaderboards" / "submissions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--no-verify", "-m", "x")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    commit(tmp_path, {"old/submission.toml": "", "gone/submission.toml": ""})
    return tmp_path


def test_changed_folders_are_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "rm", "-rq", "leaderboards/submissions/gone")
    head = commit(repository, {"new/submission.toml": "", "old/README.md": "x"})
    assert changed_submissions(repository, base, head) == ["new", "old"]
    git(repository, "checkout", "-q", base)
    moved = commit(repository, {"other/README.md": ""})  # the base went on
    assert changed_submissions(repository, moved, head) == ["new", "old"]
    assert main([str(repository), base, head]) == 0
    assert capsys.readouterr().out == "new\nold\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../marks.json", "the maintainers write this file"),
        ("../suite.json", "the maintainers write this file"),
        ("../marks.json/x", "the maintainers write this file"),
        ("$(touch x)/submission.toml", "not in the folder of a submission"),
        ("-rf/submission.toml", "not in the folder of a submission"),
        ("a\nb/submission.toml", "not in the folder of a submission"),
        ("loose.txt", "not in the folder of a submission"),
    ],
)
def test_refused_requests(
    name: str, message: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = git(repository, "rev-parse", "HEAD")
    head = commit(repository, {name: ""})
    assert main([str(repository), base, head]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_submission_that_loses_a_file_to_another_is_named(repository: Path) -> None:
    base = commit(repository, {"old/policy": "the same bytes\n" * 20})
    (repository / "leaderboards" / "submissions" / "new").mkdir()
    git(repository, "mv", *(f"leaderboards/submissions/{name}/policy" for name in ("old", "new")))
    head = commit(repository, {})
    assert changed_submissions(repository, base, head) == ["new", "old"]


def test_the_folder_of_all_is_not_replaced(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "rm", "-rq", "leaderboards/submissions")
    (repository / "leaderboards").mkdir(exist_ok=True)
    (repository / "leaderboards" / "submissions").symlink_to("/tmp")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--no-verify", "-m", "x")
    with pytest.raises(ValueError, match="not in the folder of a submission"):
        changed_submissions(repository, base, git(repository, "rev-parse", "HEAD"))


def test_commits_are_hashes(repository: Path) -> None:
    with pytest.raises(ValueError, match="not the hash of a commit"):
        changed_submissions(repository, "--output=x", "HEAD")
    with pytest.raises(ValueError, match="git fails"):
        changed_submissions(repository, "0" * 40, "0" * 40)


def test_runs_as_a_module(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    command = [sys.executable, "-m", "scripts.changed_submissions", str(repository), head, head]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == ""


def test_new_submissions_alone_need_no_label(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = git(repository, "rev-parse", "HEAD")
    head = commit(repository, {"new/submission.toml": "", "new/README.md": ""})
    assert remarks(repository, base, head) == []
    assert main([str(repository), base, head, "--remarks"]) == 0
    assert capsys.readouterr().out == ""


def test_what_a_reviewer_has_to_see(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "rm", "-rq", "leaderboards/submissions/gone")
    beside = (
        "../../.github/workflows/verify-submission.yml",
        "../../rmdp_bench/submission/quick.py",
        "../TABLES.md",
        "../site/data.js",
        "../../::set-output name=x\n::error::y",
    )
    files = dict.fromkeys(beside, "")
    head = commit(repository, files | {"old/README.md": "x", "new/submission.toml": ""})
    expected = [
        "deletes the submission 'gone'",
        "changes the submission 'old', which is there already (1 files)",
        "changes '.github/workflows/verify-submission.yml', which is of no submission",
        "changes '::set-output name=x\\n::error::y', which is of no submission",
        "changes 'leaderboards/TABLES.md', which is of no submission",
        "changes 'leaderboards/site/data.js', which is of no submission",
        "changes 'rmdp_bench/submission/quick.py', which is of no submission",
    ]
    assert remarks(repository, base, head) == expected
    assert main([str(repository), base, head, "--remarks"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"for the reviewer: this request {line}" for line in expected]
    git(repository, "checkout", "-q", base)
    moved = commit(repository, {"../other.py": ""})  # the base went on
    assert remarks(repository, moved, head) == expected


def test_a_submission_of_the_same_name_that_came_first_is_not_replaced(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    head = commit(repository, {"new/submission.toml": "mine"})
    git(repository, "checkout", "-q", base)
    first = commit(repository, {"new/submission.toml": "theirs"})
    assert remarks(repository, first, head) == [
        "changes the submission 'new', which is there already (1 files)"
    ]


def test_a_moved_submission_is_a_deleted_one(repository: Path) -> None:
    base = commit(repository, {"old/policy": "the same bytes\n" * 20})
    folder = "leaderboards/submissions"
    git(repository, "mv", f"{folder}/old", f"{folder}/mine")
    head = commit(repository, {})
    assert remarks(repository, base, head) == ["deletes the submission 'old'"]


def test_a_submission_that_becomes_a_link_is_named(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "rm", "-rq", "leaderboards/submissions/old")
    (repository / "leaderboards" / "submissions" / "old").symlink_to("gone")
    head = commit(repository, {})
    assert "which is of no submission" in " ".join(remarks(repository, base, head))


def test_remarks_have_an_end(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = git(repository, "rev-parse", "HEAD")
    head = commit(repository, {f"../more/{i}": "" for i in range(MAX_REMARKS + 20)})
    assert main([str(repository), base, head, "--remarks"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == MAX_REMARKS + 1
    assert lines[-1] == "for the reviewer: and 20 more"


def test_workflow_asks_for_a_label_that_holds_for_one_commit() -> None:
    text = (WORKFLOWS / "verify-submission.yml").read_text(encoding="utf-8")
    given = "github.event.action == 'labeled' && github.event.label.name == 'changes-reviewed'"
    assert f"REVIEWED: ${{{{ {given} }}}}" in text
    assert "types: [opened, synchronize, reopened, labeled, unlabeled]" in text
    last = text.split("- name: ")[-1]
    assert '[ "$REVIEWED" != true ]' in last
    assert "exit 1" in last


def test_workflow_has_no_rights() -> None:
    text = (WORKFLOWS / "verify-submission.yml").read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    assert "permissions:\n  contents: read\n" in text
    assert text.count("permissions:") == 1
    assert "secrets." not in text
    assert text.count("persist-credentials: false") == text.count("actions/checkout@") == 2
    actions = re.findall(r"uses: (\S+)", text)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in actions)
    scripts = re.findall(r"run: (?:\|\n((?:          .*\n)+)|(.*))", text)
    assert len(scripts) == 6
    played = [script for script, _ in scripts if "rmdp-bench verify" in script]
    assert len(played) == 1
    assert all(text in played[0] for text in ("--network none", "--read-only", ":ro", "--user"))
    assert not any("${{" in part for script in scripts for part in script)


def test_the_container_of_the_check_is_given_all_that_it_reads() -> None:
    """What .dockerignore names is not in its image."""
    text = (WORKFLOWS / "verify-submission.yml").read_text(encoding="utf-8")
    _, _, inside = text.partition(" checker \\\n")
    assert "--marks /marks.json" in inside and "/base/" not in inside
    (given,) = re.findall(r'"\$PWD/base/(\S+):/marks\.json:ro"', text)
    assert (ROOT / given).is_file()
