"""The command `rmdp-bench`: what has to be done before `rmdp_bench` is imported.

That takes a second and loads NumPy, whose threads are started then. Nothing heavy is imported here,
and not the package.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
from importlib.util import find_spec


def main() -> int:
    """Limit the threads of libraries, load the command line and run it; gives the exit code."""
    try:
        # That of ONNX Runtime keeps a database in the user's home, and complains where it cannot.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        package = find_spec("rmdp_bench")
        assert package is not None and package.submodule_search_locations
        folder = package.submodule_search_locations[0]
        counts = runpy.run_path(os.path.join(folder, "counts.py"))
        cores = runpy.run_path(os.path.join(folder, "cores.py"))
        cores["limit_command"](sys.argv, counts["parse_count"])
        from rmdp_bench.cli import main as run
    except KeyboardInterrupt:
        os.write(2, b"rmdp-bench: stopped while starting up; nothing was written\n")
        return 130
    code = run()
    # What Python still does takes seconds where torch is loaded, and hears no signal; there is
    # nothing left to save. Without what it would collect it is short, and Ctrl-C ends it.
    gc.freeze()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code
