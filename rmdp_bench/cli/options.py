"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from rmdp_bench.cli.counts import parse_count
from rmdp_bench.cores import limited_cores


def _limit_cores(context: typer.Context, cores: int | None) -> int | None:
    """Limit the cores until the command ends."""
    context.with_resource(limited_cores(cores))
    return cores


CoresOption = Annotated[
    int | None,
    typer.Option(
        parser=parse_count,
        metavar="N",
        callback=_limit_cores,
        help="Most cores to use; default: $RMDP_BENCH_CORES, else all that may be used.",
    ),
]
