"""What pyproject.toml cannot say: the README of the package's page, whose links hold anywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent


def make_links_absolute(text: str, repository: str) -> str:
    """Lead relative links of a Markdown text to the repository, pictures to their bytes."""
    text = re.sub(r"(?<=!)(\[[^\]]*\])\((?!https?:)([^)#]+)", rf"\1({repository}/raw/main/\2", text)
    return re.sub(r"(?<=\])\((?!https?:)([^)#]+)", rf"({repository}/blob/main/\1", text)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        long_description=make_links_absolute(
            (ROOT / "README.md").read_text(encoding="utf-8"), project["urls"]["Repository"]
        ),
        long_description_content_type="text/markdown",
    )
