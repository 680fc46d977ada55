"""The command line, `rmdp-bench`.

Exit codes: 0 done; 1 a solver failed, a verified dataset is not the repository's, or the reader of
the output went away; 2 bad input, with one line on stderr (a terminal that is too narrow for it
shows it in several) and nothing written, or no command, with the help on stderr; 3 a disk or quota
is full; 128 + the number of a signal that stopped it: 130 Ctrl-C (SIGINT), 143 SIGTERM, 129 SIGHUP,
138 SIGUSR1 (on Linux).
A stopped `run` has saved a checkpoint, if its solver has any; other commands leave nothing half
written.  With --json a command prints one JSON document on stdout; warnings and progress go to
stderr.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rmdp_bench.cli import datasets, listing, running, scoring, submission, sweep
from rmdp_bench.cli.leaderboard import build_command
from rmdp_bench.cli.output import print_error, print_stopped
from rmdp_bench.cli.signals import RaiseStopped, Stopped, on_signals
from rmdp_bench.files import FULL_DISK_CODE, describe_refusal, is_of_full_disk

__all__ = ["app", "main"]


def _print_help_alone(context: typer.Context) -> None:
    """Print the help where a command is missing: an error, as argparse has it, with its code."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


app = typer.Typer(
    name="rmdp-bench",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_GROUP: dict[str, Any] = {
    "rich_markup_mode": None,
    "callback": _print_help_alone,
    "invoke_without_command": True,
}
leaderboard = typer.Typer(help="Tables and page of submitted results.", **_GROUP)
app.command("list")(listing.list_command)
app.command("run")(running.run_command)
app.add_typer(sweep.app, name="sweep")
app.command("evaluate")(running.evaluate_command)
app.command("score")(scoring.score_command)
app.command("plot")(scoring.plot_command)
app.command("submit")(submission.submit_command)
app.command("verify")(submission.verify_command)
leaderboard.command("show")(scoring.show_command)
leaderboard.command("build")(build_command)
app.add_typer(leaderboard, name="leaderboard")
datasets_app = typer.Typer(help="Datasets through Minari.", **_GROUP)
datasets_app.command("build")(datasets.build_command)
datasets_app.command("verify")(datasets.verify_command)
datasets_app.command("info")(datasets.info_command)
app.add_typer(datasets_app, name="datasets")
app.command("doctor")(listing.doctor_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rmdp-bench {importlib.metadata.version('rmdp_bench')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A benchmark suite for represented Markov decision processes: many agents, few policies."""
    _print_help_alone(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give the exit code.

    Args:
        arguments: without the program's name; None: the process's own.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without "±" still gets its table
    act = RaiseStopped()
    try:
        with on_signals(act):
            code = _run(arguments, act)
            if act.stopped is None:
                return code
            raise act.stopped  # some code has taken it for an error of its own
    except Stopped as stopped:
        print_stopped(stopped.name)
        return stopped.exit_code
    except KeyboardInterrupt:  # of a library that takes Ctrl-C for itself
        return 130
    except OSError as error:  # of the message itself, if it goes to a file on a full disk
        if is_of_full_disk(error):
            return FULL_DISK_CODE
        raise


def _run(arguments: Sequence[str] | None, act: RaiseStopped) -> int:
    """Run the command line; bad input becomes a message."""
    try:
        code = app(
            args=None if arguments is None else list(arguments),
            prog_name="rmdp-bench",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if act.stopped is not None:  # libraries make errors of their own of it, within an import
            raise act.stopped from error
        if isinstance(error, OSError):
            print_error(describe_refusal(error))
            return FULL_DISK_CODE if is_of_full_disk(error) else 2
        if isinstance(error, ValueError | ImportError):
            print_error(str(error))
            return FULL_DISK_CODE if is_of_full_disk(error) else 2
        if not hasattr(error, "format_message"):  # which typer's errors of usage have
            raise
        # Of choices that do not exist the parser says so twice.
        print_error(error.format_message().replace("Value error, ", ""))
        return 2
    return code if isinstance(code, int) else 0
