"""What honest people write, and files that their machines leave."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from rmdp_bench.submission import read_submission
from rmdp_bench.submission.packing import pack
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.schema import check_name, check_text
from tests.helpers.hostile_toys import toml
from tests.helpers.submission_toys import ABOUT, ROW, copy_of

HONEST = {
    "Persian": "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
    "Persian with a vowel": "\u0639\u0644\u06cc\u064e\u200c\u0631\u0636\u0627",
    "Sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
    "Malayalam": "\u0d05\u0d35\u0d28\u0d4d\u200d",
    "Hindi": "\u0915\u094d\u200c\u0937",
    "heart": "\u2764\ufe0f",
    "scientist": "\U0001f469\U0001f3fd\u200d\U0001f52c",
    "flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
}
HIDDEN = {
    "non-joiner in Latin": "ad\u200cam",
    "joiner in Latin": "ad\u200dam",
    "non-joiner at the end": "\u0639\u0644\u06cc\u200c",
    "non-joiner at the beginning": "\u200c\u0639",
    "two non-joiners": "\u0639\u200c\u200c\u0639",
    "non-joiner between scripts": "a\u200c\u0639",
    "selector after a letter": "a\ufe0f",
    "two selectors": "\u2764\ufe0f\ufe0f",
    "joiner after an emoji": "\U0001f469\u200da",
    "space of no width": "a\u200bb",
    "another selector": "\u2764\ufe0e",
}


@pytest.mark.parametrize("kind", [kind for kind in HONEST if kind != "Malayalam"])
def test_honest_texts(kind: str) -> None:
    assert check_text(HONEST[kind]) == HONEST[kind]


def test_malayalam_in_a_sentence() -> None:
    assert check_text(HONEST["Malayalam"] + " \u0d15")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Ada \u00c5ngstr\u00f6m",
            "\u674e\u56db",
            "\u0391\u03b4\u03b1 Name",
            "Jos\u00e9 M\u00aa Sanz",
        ),
        *(
            "\u5c71\u7530 Taro",
            "\u30bf\u30ed\u30fc\u3055\u3093",
            "A. Name\u2020",
            "O\u2019Hara",
            "\ufb01n",
        ),
        *("\u0410\u0434\u0430 (Ada)", "\U0001f600", "\u0639\u0644\u06cc", "Nguy\u1ec5n"),
    ],
)
def test_names_of_authors(name: str, honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    toml(f'authors = ["{name}"]')(folder)
    assert read_submission(folder).authors == [name]


@pytest.mark.parametrize("name", ["unverified", "verify", "em", "certified"])
def test_names_of_solvers(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("kind", HIDDEN)
def test_hidden_characters(kind: str) -> None:
    with pytest.raises(ValueError, match=r"U\+(200|FE0)"):
        check_text(HIDDEN[kind])


def test_texts_are_normalised_when_packed(honest_submission: Path, tmp_path: Path) -> None:
    runs = honest_submission.parent.parent / "runs"
    about = ABOUT | {
        "authors": [unicodedata.normalize("NFD", "Ada \u00c5ngstr\u00f6m")],
        "description": "It climbs.\nThen it rests.",
    }
    submission = read_submission(pack([runs], "decomposed", tmp_path, about))
    assert submission.authors == ["Ada \u00c5ngstr\u00f6m"]
    assert submission.description == "It climbs. Then it rests."


@pytest.mark.parametrize("place", ["", ROW.partition("/")[0], ROW])
def test_stray_files(place: str, honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    (folder / place / ".DS_Store").write_bytes(b"Bud1")
    check_submission(folder)
    (folder / place / ".DS_Store").unlink()
    (folder / place / ".DS_Store").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="not a plain file"):
        check_submission(folder)
