"""The command `rmdp-bench`: what has to be done before `rmdp_bench` is imported.

That takes a second and loads NumPy, whose threads are started then. Nothing heavy is imported here,
and not the package.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.util import find_spec


def main() -> int:
    """Limit the threads of libraries, load the command line and run it; gives the exit code."""
    # ONNX Runtime's, which writes to the user's folders and to the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        package = find_spec("rmdp_bench")
        assert package is not None and package.submodule_search_locations
        folder = package.submodule_search_locations[0]
        counts = runpy.run_path(os.path.join(folder, "cli", "counts.py"))
        cores = runpy.run_path(os.path.join(folder, "cores.py"))
        cores["limit_command"](sys.argv, counts["parse_count"])
        from rmdp_bench.cli import main as run
    except KeyboardInterrupt:
        os.write(2, b"rmdp-bench: stopped while starting up; nothing was written\n")
        return 130
    return run()
