"""Copy the charting library of the leaderboard's page: `python -m scripts.vendor_charts`.

Observable Plot, and D3 on which it stands, are pinned with the hash of each package in
`scripts/charts/package-lock.json`.  npm checks the hashes and runs nothing of the packages; the
minified files and the licences are copied as they are, and their own hashes written beside them,
which a test compares.  Only this script needs npm and a network: the package has the copies.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from rmdp_bench.files import write_directory

ROOT = Path(__file__).resolve().parent.parent
PINNED = ROOT / "scripts" / "charts"
VENDOR = ROOT / "rmdp_bench" / "data" / "site" / "vendor"
COPIED = {
    "d3.min.js": ("d3", "dist/d3.min.js"),
    "d3.LICENSE.txt": ("d3", "LICENSE"),
    "plot.umd.min.js": ("@observablehq/plot", "dist/plot.umd.min.js"),
    "plot.LICENSE.txt": ("@observablehq/plot", "LICENSE"),
}
"""Name of the copy -> package and path in it."""
RECORD = "vendored.json"


def describe(contents: dict[str, bytes]) -> dict[str, dict[str, str]]:
    """Name of each copy -> its package, the version, the package's hash, and its own."""
    lock = json.loads((PINNED / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {
        name: {
            "package": COPIED[name][0],
            "version": lock[f"node_modules/{COPIED[name][0]}"]["version"],
            "package_integrity": lock[f"node_modules/{COPIED[name][0]}"]["integrity"],
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in sorted(contents.items())
    }


def main() -> None:
    """Install what is pinned into a temporary folder, and copy."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PINNED / name, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=folder, check=True)
        modules = Path(folder) / "node_modules"
        contents = {
            name: (modules / package / path).read_bytes()
            for name, (package, path) in COPIED.items()
        }
    record = json.dumps(describe(contents), indent=2) + "\n"
    write_directory(VENDOR, contents | {RECORD: record.encode()})


if __name__ == "__main__":
    main()
