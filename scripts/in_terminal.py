"""Run a command in a terminal of its own: `python scripts/in_terminal.py COLUMNS COMMAND...`.

The command finds a terminal of that width on stdin, stdout and stderr, wherever it is called from:
a pipe, a batch job, continuous integration. What it writes goes to stdout, and its exit code is
that of this program. Needs Python's standard library only, on Linux or macOS.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROWS = 50


def set_width(descriptor: int, columns: int) -> None:
    """Give the terminal behind an open file a width."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))


def run_in_terminal(
    command: Sequence[str],
    columns: int,
    write: Callable[[bytes], object],
    *,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Run a command in a new terminal and wait for it.

    Args:
        command: program and arguments.
        columns: width of the terminal.
        write: gets what the command writes, as it comes.
        folder: to run in; None: this one.
        variables: the environment; None: this process's, but for COLUMNS and LINES.

    Returns:
        The exit code; 128 + the signal's number if one ended the command.
    """
    own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    ours, its = os.openpty()
    try:
        set_width(its, columns)
        process = subprocess.Popen(
            command,
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=folder,
            env=own if variables is None else dict(variables),
            start_new_session=True,
        )
    finally:
        os.close(its)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                output = terminal.read(65536)
            except OSError:  # how Linux says that nobody has the terminal open any more
                break
            if not output:
                break
            write(output)
    code = process.wait()
    return code if code >= 0 else 128 - code


def main(arguments: Sequence[str]) -> int:
    """Run the command of the command line."""
    if len(arguments) < 2 or not arguments[0].isdecimal():
        print("usage: python scripts/in_terminal.py COLUMNS COMMAND...", file=sys.stderr)
        return 2

    def write(output: bytes) -> None:
        sys.stdout.buffer.write(output)
        sys.stdout.buffer.flush()

    return run_in_terminal(arguments[1:], int(arguments[0]), write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
