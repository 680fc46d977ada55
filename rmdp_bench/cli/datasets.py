"""`datasets build`, `verify` and `info`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmdp_bench.cli.counts import parse_count
from rmdp_bench.cli.options import CoresOption
from rmdp_bench.cli.output import JsonOption, number, print_json, print_table, warn
from rmdp_bench.terminal import can_redraw, fit_terminal

if TYPE_CHECKING:
    from rmdp_bench.datasets import DatasetEntry, Verification
    from rmdp_bench.datasets.content import Deviation

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of datasets.", show_default=False)
]


def build_command(
    ids: Ids = None,
    all_datasets: Annotated[bool, typer.Option("--all", help="Build every dataset.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build again what is there already.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=parse_count,
            metavar="N",
            help="Processes, one dataset each; default: the cores.",
        ),
    ] = None,
    cores: CoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build datasets into Minari's folder, each whole or not at all.

    Minari's folder is $MINARI_DATASETS_PATH, by default ~/.minari/datasets.
    """
    from rmdp_bench.cores import usable_cores
    from rmdp_bench.datasets import DATASETS, build_datasets

    if bool(ids) == all_datasets:
        raise ValueError("name datasets or give --all; `rmdp-bench list datasets` lists them")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers is {workers}, expected at least 1")
    entries = list(DATASETS) if all_datasets else _entries(ids or [])
    with _progress() as report:
        results = build_datasets(
            entries, force=force, workers=workers or usable_cores(), report=report
        )
    for result in results:
        if not result.identical:
            hint = f"`rmdp-bench datasets verify {result.id}` says more"
            if result.deviation is not None:
                hint = f"the largest deviation: {_describe(result.deviation, ' sd')}"
            warn(f"{result.id} is different from the repository's; {hint}")
    if as_json:
        print_json(
            [
                dataclasses.asdict(result) | {"deviation": _deviation(result.deviation)}
                for result in results
            ]
        )
        return
    cells = [
        [
            result.id,
            "built" if result.built else "was there",
            "the repository's" if result.identical else "different",
        ]
        for result in results
    ]
    print_table("Datasets", ["dataset", "", "content"], cells, n_left=3)


def verify_command(ids: Ids = None, cores: CoresOption = None, as_json: JsonOption = False) -> None:
    """Say whether datasets are the repository's; without ids, those in Minari's folder.

    identical: all values are those recorded. different: whole, but other values, such as another
    processor gives; the largest deviations are named. damaged: not what was written. The exit code
    is 1 unless all are identical.
    """
    from rmdp_bench.datasets import DATASETS, is_installed, verify_dataset

    entries = _entries(ids) if ids else [entry for entry in DATASETS if is_installed(entry.id)]
    if not entries:
        raise ValueError(
            "there is no dataset to verify; `rmdp-bench datasets build --all` builds all"
        )
    results = [verify_dataset(entry) for entry in entries]
    if as_json:
        print_json([_verification(result) for result in results])
    else:
        cells = [[result.id, result.status, _explain(result)] for result in results]
        print_table("Datasets", ["dataset", "content", ""], cells, n_left=3)
    if any(result.status != "identical" for result in results):
        raise typer.Exit(1)


def info_command(
    ids: Ids = None,
    as_json: JsonOption = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of the documents.")
    ] = False,
) -> None:
    """Say what datasets contain, whether they are built or not; without ids, all."""
    from rmdp_bench.datasets import DATASETS

    rows = [_facts(entry) for entry in (_entries(ids) if ids else DATASETS)]
    if as_json:
        print_json(rows)
        return
    columns = ["dataset", "episodes", "steps", "steps per episode", "return ± sd", "least", "most"]
    cells = []
    for row in rows:
        returns = row["statistics"]["return"]
        digits = 1 if abs(returns["mean"]) >= 10.0 else 3
        cells.append(
            [
                row["id"],
                number(row["n_episodes"], 0),
                number(row["n_steps"], 0),
                number(row["statistics"]["length"]["mean"]),
                f"{number(returns['mean'], digits)} ± {number(returns['sd'], digits)}",
                number(returns["min"], digits),
                number(returns["max"], digits),
            ]
        )
    if as_markdown:
        print(f"| {' | '.join(columns)} |")
        print(f"|---{'|---:' * (len(columns) - 1)}|")
        for row_cells in cells:
            print(f"| `{row_cells[0]}` | {' | '.join(row_cells[1:])} |")
        return
    columns.append("built")
    for row, row_cells in zip(rows, cells, strict=True):
        row_cells.append("yes" if row["installed"] else "no")
    notes = {
        "return ± sd": (
            "Returns are undiscounted; of velocity datasets, percent of a perfect episode."
        )
    }
    optional = ["least", "most", "steps per episode", "steps", "episodes", "built"]
    print_table("Datasets", columns, cells, optional=optional, notes=notes)


def _entries(ids: Sequence[str]) -> list[DatasetEntry]:
    from rmdp_bench.datasets import get_dataset

    return [get_dataset(dataset_id) for dataset_id in dict.fromkeys(ids)]


def _facts(entry: DatasetEntry) -> dict[str, Any]:
    from rmdp_bench.datasets import find_record, is_installed, reference_scores

    record = find_record(entry.id)
    if record is None:
        raise ValueError(f"{entry.id} is not recorded; scripts/record_datasets.py records it")
    return {
        "id": entry.id,
        "env_id": entry.env_id,
        "description": entry.description,
        "seed": entry.seed,
        "epsilon": entry.epsilon,
        "licence": entry.licence,
        **dataclasses.asdict(record),
        "reference_scores": dataclasses.asdict(reference_scores(entry.env_id)),
        "installed": is_installed(entry.id),
    }


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar for each dataset on stderr where it can move, else a line when one is collected."""
    if not can_redraw(sys.stderr):
        yield _print_collected
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column

    with Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        BarColumn(bar_width=None),
        console=Console(stderr=True),
        expand=True,
    ) as progress:
        bars: dict[str, Any] = {}

        def report(dataset_id: str, share: float) -> None:
            if dataset_id not in bars:
                bars[dataset_id] = progress.add_task(dataset_id, total=1.0)
            progress.update(bars[dataset_id], completed=share)

        yield report


def _print_collected(dataset_id: str, share: float) -> None:
    if share == 1.0:
        print(fit_terminal(f"{dataset_id}: collected", sys.stderr), file=sys.stderr, flush=True)


def _describe(deviation: Deviation, unit: str = "") -> str:
    if not deviation.where:
        return "none"
    if math.isinf(deviation.size):
        return deviation.where
    return f"{deviation.where} ({deviation.size:.3g}{unit})"


def _deviation(deviation: Deviation | None) -> dict[str, Any] | None:
    """For JSON, which has no infinity."""
    if deviation is None:
        return None
    size = None if math.isinf(deviation.size) else deviation.size
    return {"size": size, "where": deviation.where}


def _verification(result: Verification) -> dict[str, Any]:
    return dataclasses.asdict(result) | {
        "from_record": _deviation(result.from_record),
        "from_rebuild": _deviation(result.from_rebuild),
    }


def _explain(result: Verification) -> str:
    if result.reason is not None:
        return result.reason
    parts = []
    if result.from_record is not None:
        parts.append(f"from the record: {_describe(result.from_record, ' sd')}")
    if result.from_rebuild is not None:
        parts.append(f"from a build here: {_describe(result.from_rebuild)}")
    return "; ".join(parts)
