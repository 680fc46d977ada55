"""What a submission is: `submission.toml` and its schema.

The file says who did what.  What was measured is in the records beside it; `rows` lists them with
the settings of each solver, and the quick check compares the two.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rmdp_bench.results.records import MAX_COUNT, SchemaVersion
from rmdp_bench.submission.bounded import read_text
from rmdp_bench.submission.texts import (
    MAX_DEPTH,
    Author,
    Line,
    Link,
    Name,
    SolverName,
    TaskName,
    Text,
    check_texts,
)

SUBMISSION_FILE = "submission.toml"
MAX_TOML_BYTES = 256 * 2**10
_PART = r"""(?:(?<![\w-])[\w-]+|(?<!\\)"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?:{_PART}[ \t]*\.[ \t]*){{{MAX_DEPTH + 1}}}", re.ASCII)
"""A key of more parts than anything may be deep; wherever it stands, in a header for example, the
parser goes through all of them again for each key that follows."""
Model = TypeVar("Model", bound=BaseModel)
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]


class Row(BaseModel):
    """A solver on a task: the seeds that were run and the settings of all of them."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    task: TaskName
    solver: SolverName
    seeds: list[Seed] = Field(min_length=1, max_length=1000)
    settings: dict[str, Any] = {}
    """As in the records; TOML has no null, so that settings that are None are left out."""


class Submission(BaseModel):
    """submission.toml."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    schema_version: SchemaVersion
    name: Name
    """That of the folder."""
    authors: list[Author] = Field(min_length=1, max_length=50)
    method: Line
    """The method in a few words; the page shows it with the records of the row."""
    description: Text = ""
    division: Literal["closed", "open"]
    """Closed: the task's transitions, data and episodes of evaluation are untouched."""
    differences: list[Line] = Field(default=[], max_length=50)
    """What an open submission does differently, an entry each."""
    paper: Link | None = None
    code: Link | None = None
    licence: Line
    """Of the submitted policies and records; an SPDX identifier."""
    n_online_evaluations: int = Field(ge=0, le=MAX_COUNT)
    """How often policies were tried in the environment to choose settings or policies, all seeds
    together; the final scoring and the learning curve do not count if nothing was chosen by them.
    """
    rows: list[Row] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _check(self) -> Submission:
        if self.division == "open" and not self.differences:
            raise ValueError("differences: an open submission names at least one")
        if self.division == "closed" and self.differences:
            raise ValueError("differences: a closed submission has none; set division to open")
        keys = [(row.task, row.solver) for row in self.rows]
        if len(set(keys)) < len(keys):
            raise ValueError("rows: a task and solver is there twice")
        for row in self.rows:
            if row.seeds != list(range(len(row.seeds))):
                raise ValueError(
                    f"rows: seeds of {row.solver} on {row.task} are {row.seeds[:10]}, expected 0, "
                    f"1, ... without a gap"
                )
        return self


def read_submission(folder: Path) -> Submission:
    """Read the submission.toml of a folder.

    Raises:
        ValueError: missing, too large, not TOML, not of the schema, or its name is not that of the
            folder; the message names file and field.
    """
    path = folder / SUBMISSION_FILE
    text = read_text(path, MAX_TOML_BYTES)
    _check_keys(text, path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    check_texts(document, str(path))
    submission = validated(Submission, document, path)
    name = folder.resolve().name
    if submission.name != name:
        raise ValueError(f"{path}: name is {submission.name!r}, expected the folder's, {name!r}")
    return submission


def _check_keys(text: str, path: Path) -> None:
    """Refuse long dotted keys and deep arrays before they are parsed, which takes its time.

    A key may stand anywhere in a line, in an inline table for example, and only a line feed ends
    one.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if _LONG_KEY.search(line) or "[[[[" in line.replace(" ", ""):
            raise ValueError(
                f"{path}, line {number}: nested too deeply; keys have at most {MAX_DEPTH} parts"
            )


def validated(model: type[Model], document: Any, path: Path) -> Model:
    """A document as a model.

    Raises:
        ValueError: names the file, the field and what is wrong, for the first error.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise ValueError(f"{path} is not valid: {field[:200]}: {first['msg']}") from error


def submission_to_toml(submission: Submission) -> str:
    """The text of a submission.toml."""
    fields = submission.model_dump(mode="json", exclude={"rows"})
    lines = [f"{name} = {_value(value)}" for name, value in fields.items() if value is not None]
    for row in submission.rows:
        lines += ["", "[[rows]]"]
        lines += [f"{name} = {_value(getattr(row, name))}" for name in ("task", "solver", "seeds")]
        lines += [f"settings = {_value(row.settings)}"]
    return "\n".join(lines) + "\n"


def without_nulls(value: Any) -> Any:
    """Settings as TOML holds them: entries of dicts that are None left out, in lists refused.

    Raises:
        ValueError: a list holds None.
    """
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        if any(part is None for part in value):
            raise ValueError("a list in the settings holds None, which TOML does not have")
        return [without_nulls(part) for part in value]
    return value


def _value(value: Any) -> str:
    """A value of JSON in TOML."""
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)} = {_value(part)}" for key, part in value.items()]
        return "{ " + ", ".join(parts) + " }" if parts else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(part) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
