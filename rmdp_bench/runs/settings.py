"""Settings of a solver in words: the fields of its Config, each with the docstring below it."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

from rmdp_bench.runs.solver_loading import SOLVERS, Solver


def describe_solvers() -> dict[str, str | None]:
    """The suite's solvers, each in one line; None where its file is not installed.

    It is the first line of the module, which is read but not imported: that would need torch.
    """
    lines: dict[str, str | None] = {}
    for name, module in SOLVERS.items():
        path = _find_source(module)
        lines[name] = None
        if path is not None:
            source = path.read_text(encoding="utf-8")
            lines[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0] or None
    return lines


def _find_source(module: str) -> Path | None:
    """The file of a module; nothing is imported, not even, as by `find_spec`, its packages."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        place = Path(folder, *rest)
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def describe_settings(solver: Solver) -> list[dict[str, Any]]:
    """The settings of a solver, in order.

    Returns:
        For each its name, type (as it is written), default (as JSON holds it; text if it does not;
        None if there is none) and description (None if there is none). A task may have defaults
        of its own.
    """
    config_type: type = solver.module.Config
    written: dict[str, tuple[str, str | None]] = {}
    for base in reversed(config_type.__mro__):
        if "__dataclass_fields__" in vars(base):
            written |= _read_fields(base)
    rows = []
    for field in dataclasses.fields(config_type):
        kind, description = written.get(field.name, (str(field.type), None))
        default = _default(field)
        rows.append(
            {"name": field.name, "type": kind, "default": default, "description": description}
        )
    return rows


def _read_fields(config_type: type) -> dict[str, tuple[str, str | None]]:
    """Name -> (annotation, docstring or None) of the fields in the source of one class."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config_type))).body
    except (OSError, TypeError, SyntaxError):  # no source file, or one that cannot be cut out
        return {}
    assert isinstance(definition, ast.ClassDef)
    fields: dict[str, tuple[str, str | None]] = {}
    for node, following in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = None
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = " ".join(str(following.value.value).split())
            fields[node.target.id] = (ast.unparse(node.annotation), text)
    return fields


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return None
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return repr(value)
