"""How the page's scripts are read, and markup that must stay text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

MARKUP = (
    "</script><script>hacked=1</script>|`x` <img src=x onerror=hacked=1> &amp; [a](https://a.b)"
)


def read_script(path: Path) -> list[Any]:
    """The arguments of the one call in a script of data."""
    text = path.read_text(encoding="utf-8")
    call = re.fullmatch(r"receive(?:Board|Task)\((.*)\);\n", text, flags=re.DOTALL)
    assert call is not None
    arguments: list[Any] = json.loads(f"[{call[1]}]")
    return arguments
