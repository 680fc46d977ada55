"""Write the JSON Schemas of what a submission holds: `python -m scripts.write_schemas`.

They are for other tools, and made from the models that the suite itself reads with. A test checks
that the files are those that this script writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rmdp_bench.files import write_json
from rmdp_bench.runs import Result
from rmdp_bench.submission import Manifest, Marks, Submission, Suite
from rmdp_bench.submission.rows import Records

FOLDER = Path(__file__).resolve().parent.parent / "leaderboards" / "schema"
MODELS: dict[str, type[BaseModel]] = {
    "submission-v2": Submission,
    "manifest-v2": Manifest,
    "records-v2": Records,
    "marks-v1": Marks,
    "suite-v1": Suite,
    "result-v1": Result,
}
"""Name with the version of the schema -> model."""


def make_schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON Schema (2020-12)."""
    schemas = {}
    for name, model in MODELS.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        schemas[f"{name}.json"] = schema | model.model_json_schema()
    return schemas


def main() -> None:
    """Write all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, schema in make_schemas().items():
        write_json(FOLDER / name, schema)


if __name__ == "__main__":
    main()
