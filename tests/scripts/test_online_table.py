"""The runs that make the online rows: each is one that `rmdp-bench run` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rmdp_bench.runs import make_request
from scripts.run_online_table import ROWS, list_commands, make_parser


def test_every_run_is_accepted_and_has_a_folder_of_its_own(tmp_path: Path) -> None:
    commands = list(list_commands(make_parser().parse_args(["--out", str(tmp_path)])))
    folders = set()
    for command in commands:
        options = dict(zip(command[3::2], command[4::2], strict=True))
        settings = [text for key, text in zip(command, command[1:], strict=False) if key == "--set"]
        request = make_request(
            *command[1:3],
            seeds=[0],
            transitions=int(options["--transitions"]) if "--transitions" in options else None,
            device=options["--device"],
            out=Path(options["--out"]),
            settings=settings,
        )
        folders.add(request.directory(0))
        for setting in settings:
            name, _, value = setting.partition("=")
            assert str(getattr(request.config, name)) == value
    assert len(folders) == len(commands) == sum(len(r.tasks) * len(r.solvers) for r in ROWS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "number"), [("--parts figure-2", 36), ("--solvers oracle", 7)])
def test_a_part_can_be_asked_for(option: str, number: int) -> None:
    assert len(list(list_commands(make_parser().parse_args(option.split())))) == number
