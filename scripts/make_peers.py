"""Install the peers that `benchmarks.peers` compares with, each in an environment of its own.

    python -m scripts.make_peers [--folder build/peers] [envpool] [d3rlpy] [paper]

Their pins of NumPy, Gymnasium and torch are theirs, so nothing is installed into the environment
that runs this. Afterwards it prints the commands that use them. Stable-Baselines3 comes with the
extra `behaviour`; the code of the paper itself is fetched by whoever compares with it: the first
lines of `benchmarks.peers` say how.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = ["-c", str(ROOT / "constraints.txt"), "torch"]
"""Ours, whatever the peer would choose."""
INSTALLS: dict[str, list[list[str]]] = {
    "envpool": [["envpool==1.2.5"]],
    "d3rlpy": [TORCH, ["d3rlpy==2.8.1"]],
    # Of what its requirements.txt asks for, much has no wheels for Python 3.11: it runs with these.
    "paper": [
        ["setuptools<70", "wheel"],
        TORCH,
        ["numpy<2", "gymnasium==0.29.1", "mujoco==2.3.7", "gym==0.26.2", "matplotlib==3.7.5"],
        ["tensorboard", "imageio", "pandas", "seaborn", "scipy<1.14", "numpy<2"],
        ["--no-deps", "stable-baselines3==1.2.0"],
    ],
}
"""Of each peer: what pip is asked for, one call after the other."""
USES = {
    "envpool": "python -m benchmarks.peers --envpool-python {python}",
    "d3rlpy": "python -m benchmarks.peers --d3rlpy-python {python}",
    "paper": "python -m benchmarks.peers --paper-code FOLDER --paper-python {python}",
}


def make_peer(name: str, folder: Path) -> Path:
    """Make the environment of a peer anew; gives its Python.

    Raises:
        subprocess.CalledProcessError: pip failed, and has said why.
    """
    venv.create(folder / name, clear=True, with_pip=True)
    python = folder / name / "bin" / "python"
    for packages in INSTALLS[name]:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
    return python


def main() -> None:
    """Install those that are named, or all."""
    parser = argparse.ArgumentParser(description="Install peers to compare with.")
    parser.add_argument("names", nargs="*", metavar="PEER", help=", ".join(INSTALLS))
    parser.add_argument("--folder", type=Path, default=Path("build/peers"))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in INSTALLS]
    if unknown:
        parser.error(f"no such peer: {unknown[0]!r}; there are {', '.join(INSTALLS)}")
    for name in arguments.names or INSTALLS:
        try:
            python = make_peer(name, arguments.folder)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{name} could not be installed: pip ended with {error.returncode}")
        print(USES[name].format(python=python))


if __name__ == "__main__":
    main()
