"""What a submission is: `submission.toml` and its schema.

The file says who did what.  What was measured is in the records beside it; `rows` lists them with
the settings of each solver, and the quick check compares the two.

Any letters are welcome in its texts; what makes text look like something else is not: control
characters, marks that turn the direction of writing, invisible characters.  Three of these are
needed to write well, and are allowed where they are: the non-joiner between Arabic letters and the
two joiners after a virama (RFC 5892, appendices A.1 and A.2), the joiner between emoji, and the
selector of an emoji's colours.  Signs that say that something was checked or has won are the
board's alone.  Markup is text like any other here; a page that shows it escapes it.  Names that
become folders are plain ASCII, so that no two look alike; those of authors have the letters that
people write.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rmdp_bench.runs.records import MAX_COUNT, exact, first_error
from rmdp_bench.submission.bounded import read_text

MAX_TEXT = 4000
"""Characters of one text."""
MAX_DEPTH = 16
"""Of dicts and lists inside each other."""
_REFUSED_CATEGORIES = {
    "Cc": "a control character",
    "Cf": "an invisible or direction-changing character",
    "Cs": "half of a surrogate pair",
    "Co": "a private character",
    "Cn": "an unassigned character",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_INVISIBLE = {
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}
"""Letters, marks and symbols that show nothing: fillers, blanks and selectors of variants."""
_SIGNS = re.compile(
    r"\b(?:CHECK MARK|WITH (?:BOLD )?CHECK|MEDAL|TROPHY|ROSETTE|BADGE|CLOCKWISE .*CIRCLE ARROWS?)\b"
)
"""In the Unicode name of what looks like the board's marks, or like a prize."""
_STYLES = ("<wide>", "<font>", "<circle>", "<square>")
"""Of letters that are other letters in another style, as Unicode's decompositions call them."""
_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC")
"""Whose letters look like each other's."""
_NON_JOINER, _JOINER, _EMOJI_SELECTOR = "\u200c", "\u200d", "\ufe0f"
_VIRAMA = 9
"""Class of combining marks that end a consonant without its vowel."""
_ARABIC_MARKS = "".join(map(chr, range(0x064B, 0x0660)))
_HIDDEN_KEY = "__proto__"
"""In JavaScript it is no key of an object but what the object inherits from."""
MAX_MARKS = 4
"""Accents on one letter; more of them run over the lines above and below."""


def check_text(text: str) -> str:
    """Give back a text of one line that shows what it holds.

    Raises:
        ValueError: it is too long, holds a refused character, has too many accents on one letter,
            or is not in normal form C.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text has {len(text)} characters, at most {MAX_TEXT} are allowed")
    if text.isascii() and text.isprintable():
        return text  # most texts, and nothing below refuses one
    n_marks = 0
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        kind = _REFUSED_CATEGORIES.get(category)
        if ord(character) in _INVISIBLE:
            kind = "an invisible character"
        if category[0] in "SP" and _SIGNS.search(unicodedata.name(character, "")):
            kind = "a sign that only the board gives"
        if kind is not None and _is_needed(character, text[:place], text[place + 1 :]):
            kind = None
        n_marks = n_marks + 1 if category in ("Mn", "Me") else 0
        if n_marks > MAX_MARKS:
            kind = f"one accent more than the {MAX_MARKS} that a letter may have"
        if category in ("Mn", "Me") and (place == 0 or text[place - 1].isspace()):
            kind = "an accent without a letter"
        if kind is not None:
            raise ValueError(f"U+{ord(character):04X} at place {place} of a text is {kind}")
    if not unicodedata.is_normalized("NFC", text):
        raise ValueError("a text is not in Unicode's normal form C; type its accents as one letter")
    return text


def _is_needed(character: str, before: str, after: str) -> bool:
    """Whether an invisible character has its meaning between these."""
    if not before:
        return False
    if character == _EMOJI_SELECTOR:
        return unicodedata.category(before[-1]) in ("So", "Sm")
    if character not in (_NON_JOINER, _JOINER) or not after:
        return False
    if unicodedata.combining(before[-1]) == _VIRAMA:
        return True
    if character == _NON_JOINER:
        return all(unicodedata.name(part, "").startswith("ARABIC LETTER")
                   for part in (before.rstrip(_ARABIC_MARKS)[-1:], after[0]))  # fmt: skip
    emoji = before.removesuffix(_EMOJI_SELECTOR)[-1:]
    return unicodedata.category(after[0]) == "So" and (
        bool(emoji) and unicodedata.category(emoji) in ("So", "Sk")
    )


def check_texts(document: Any, where: str) -> None:
    """Check every key and value of a document of dicts, lists and plain values.

    Raises:
        ValueError: a text is refused, a key is one that pages do not show, or the document is
            nested too deeply; the message begins with `where`.
    """
    pending = [(document, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{where}: nested more than {MAX_DEPTH} deep")
        if isinstance(value, str):
            try:
                check_text(value)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        elif isinstance(value, dict):
            if _HIDDEN_KEY in value:
                raise ValueError(f"{where}: pages do not show what is called {_HIDDEN_KEY}")
            pending += [(part, depth + 1) for part in (*value.keys(), *value.values())]
        elif isinstance(value, list):
            # Numbers hold no text, and there are long lists of them.
            parts = [part for part in value if isinstance(part, str | dict | list)]
            pending += [(part, depth + 1) for part in parts]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a text is blank")
    return text


def _check_author(name: str) -> str:
    """Letters as people write them: no style, and no word of letters that look like others'."""
    for word in name.split():
        styled = [c for c in word if unicodedata.decomposition(c).startswith(_STYLES)]
        if styled:
            raise ValueError(
                f"U+{ord(styled[0]):04X} in an author's name is a letter in another style; type "
                f"{unicodedata.normalize('NFKC', styled[0])!r}"
            )
        names = [unicodedata.name(c, "") for c in word]
        alphabets = [part for part in _ALPHABETS if any(own.startswith(part) for own in names)]
        if len(alphabets) > 1:
            raise ValueError(
                f"a word of an author's name has letters of {' and '.join(alphabets)}, which look "
                f"like each other"
            )
    return name


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(check_text)]
"""One line, any letters, possibly empty."""
Line = Annotated[
    str,
    Field(min_length=1, max_length=200),
    AfterValidator(check_text),
    AfterValidator(_not_blank),
]
"""A short text, not blank."""
Author = Annotated[Line, AfterValidator(_check_author)]
"""Somebody's name."""
_MARK = re.compile(r"(?<![a-z])[vu]er[il1]f[il1]ed(?![a-z])", re.IGNORECASE)
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)


def check_name(name: str) -> str:
    """Give back a name of a folder that is one everywhere and looks like what it is.

    Raises:
        ValueError: Windows keeps it for a device, it is the form in which browsers write names in
            other letters (xn--), or it says what only the board says of a row.
    """
    if _DEVICES.fullmatch(name):
        raise ValueError(f"{name!r} is the name of a device on Windows")
    if name.lower().startswith("xn--"):
        raise ValueError(f"{name!r} begins as names in other letters do (xn--)")
    if _MARK.search(name):
        raise ValueError(f"{name!r} says what only the board says of a row; choose another name")
    return name


def _check_link(link: str) -> str:
    try:
        address = urlsplit(link)
        host, _ = address.hostname, address.port
    except ValueError as error:
        raise ValueError(f"a link is not an address: {error}") from error
    if not host or "@" in address.netloc:
        raise ValueError("a link has no host, or somebody's name before it (https://NAME@HOST)")
    return link


def _shaped(pattern: str, words: str) -> tuple[Any, Any]:
    """What makes a text one of some form: a validator that says it in words, and the schema's."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            shown = text if len(text) <= 100 else f"{text[:100]}..."
            raise ValueError(f"{ascii(shown)} is not {words}")
        return text

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


SUBMISSION_NAME = r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"
Name = Annotated[
    str,
    *_shaped(
        SUBMISSION_NAME,
        "a name of a submission: a to z, 0 to 9 and hyphens between them, at most 64 characters, "
        "such as my-method-2",
    ),
    AfterValidator(check_name),
]
"""Lower-case ASCII letters, digits and hyphens."""
TaskName = Annotated[
    str,
    *_shaped(
        r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,79}$",
        "a name of a task: at most 80 of a to z, A to Z, 0 to 9, _ and, but not first, -, such as "
        "ResourceGathering-n25-k3-v0",
    ),
    AfterValidator(check_name),
]
SolverName = Annotated[
    str,
    *_shaped(
        r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$",
        "a name of a solver: at most 64 of a to z, A to Z, 0 to 9, _ and, but not first, -, such "
        "as my_solver",
    ),
    AfterValidator(check_name),
]
Link = Annotated[
    str,
    *_shaped(
        r"^https://[!#-;=?-Z_a-z~]{3,300}$",
        "a link: https:// and 3 to 300 of the characters that addresses have, such as "
        "https://example.org/code",
    ),
    AfterValidator(_check_link),
]
"""Web address, ASCII, without quotes, angle brackets, spaces or a user's name."""

SUBMISSION_FILE = "submission.toml"
MAX_TOML_BYTES = 256 * 2**10
_PART = r"""(?:(?<![\w-])[\w-]+|(?<!\\)"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?:{_PART}[ \t]*\.[ \t]*){{{MAX_DEPTH + 1}}}", re.ASCII)
"""A key of more parts than anything may be deep; wherever it stands, in a header for example, the
parser goes through all of them again for each key that follows."""
Model = TypeVar("Model", bound=BaseModel)
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
LayoutVersion: TypeAlias = Annotated[Literal[2], BeforeValidator(exact)]
"""Of a submission: 2 since a row is three files; before, it was a folder for each seed."""


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

    schema_version: LayoutVersion
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


def read_submission(folder: Path, *, of_old_layout: bool = False) -> Submission:
    """Read the submission.toml of a folder.

    Args:
        folder: the submission.
        of_old_layout: whether it may be of schema 1, whose fields are the same.

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
    version = document.get("schema_version")
    if type(version) is int and version == 1:
        if not of_old_layout:
            raise ValueError(f"{path} is of schema 1; {how_to_convert(folder)}")
        document["schema_version"] = 2
    submission = validated(Submission, document, path)
    name = folder.resolve().name
    if submission.name != name:
        raise ValueError(f"{path}: name is {submission.name!r}, expected the folder's, {name!r}")
    return submission


def how_to_convert(folder: Path) -> str:
    """What to do with a submission of schema 1, which has a folder for each seed."""
    own = Path(os.path.abspath(folder))
    command = ["rmdp-bench", "submit", str(folder), "--name", own.name, "--out", str(own.parent)]
    return f"pack it anew: {shlex.join([*command, '--replace'])}"


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
        raise ValueError(f"{path} is not valid: {first_error(error, 'document')}") from error


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
