"""The process of a sweep's job: `rmdp-bench`, which ends when whoever started it has ended.

    python -m rmdp_bench.runs.child run SOLVER TASK ...

Its standard input is a pipe that nobody writes to. When the other end goes away, because that
process was killed, the job does as on SIGTERM: it saves a checkpoint and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _end_with_parent() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # SLURM sends it to all processes of a job; the one that started this one answers it.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from rmdp_bench_command import main

    sys.exit(main())
