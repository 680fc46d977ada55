"""Links of a built site, on one of two pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_site import BOARD, main


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "the site"
    (folder / "below").mkdir(parents=True)
    (folder / "a b.png").write_bytes(b"")
    (folder / "index.html").write_text(
        '<link rel="canonical" href="https://example.org"><img src="a%20b.png">'
        '<a href="below/page.html#here">1</a><a href="#there">2</a><p id="there"></p>'
        f'<a href="https://example.org/a">3</a><a href="{BOARD}#task">4</a><a href="below/">5</a>'
    )
    for name in ("below/page.html", "below/index.html"):
        (folder / name).write_text('<p id="here"></p><a href="../index.html">1</a>')
    (folder / BOARD).parent.mkdir(parents=True)
    (folder / BOARD).write_text("")
    return folder


def test_a_whole_site_is_whole(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(site)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ('<a href="no.html">1</a>', "below/page.html: no.html leads nowhere"),
        ('<a href="../../outside.html">1</a>', "below/page.html: ../../outside.html leads nowhere"),
        ('<img src="no.png">', "below/page.html: no.png leads nowhere"),
        (
            '<a href="../index.html#no">1</a>',
            "below/page.html: ../index.html#no leads to no place in that page",
        ),
        ('<a href="#no">1</a>', "below/page.html: #no leads to no place in that page"),
        (
            '<script src="https://example.org/x.js"></script>',
            "below/page.html: loads https://example.org/x.js",
        ),
        (
            '<link rel="stylesheet" href="//example.org/x.css">',
            "below/page.html: loads //example.org/x.css",
        ),
    ],
)
def test_what_leads_nowhere_is_named_once(
    markup: str, found: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.parent / "outside.html").write_text("")
    with (site / "below" / "page.html").open("a") as page:
        page.write(markup * 2)
    assert main([str(site)]) == 1
    assert capsys.readouterr().out == f"{found}\n"


def test_a_folder_without_a_site_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path)])
    assert stopped.value.code == 2
    assert "has no index.html: build it with `make docs`" in capsys.readouterr().err
