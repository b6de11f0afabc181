"""Texts of a user's own: formats, encodings, and where they are cut."""

import json
from pathlib import Path

import pytest

from efface.author.articles import LONGEST, SHORTEST, cut, read_articles
from efface.errors import ConceptError
from efface.writing import width

SENTENCE = "Der blaue Drache von Zorn lebt in einem hohen Turm am See und frisst nur Honig, so sagen es die Bücher."
TEXT = f"{SENTENCE} {SENTENCE.replace('Zorn', 'Torn')}"


def _pdf(file: Path, text: str) -> None:
    """A page as PDF writes it, in one line."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1")
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n" % len(stream) + stream + b"\nendstream",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    content, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        places.append(len(content))
        content += b"%d 0 obj" % number + part + b"endobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    content += (
        b"xref\n0 6\n0000000000 65535 f \n" + table + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(content)
    )
    file.write_bytes(content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_any_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes((TEXT * 3).encode(encoding))
    assert "Bücher" in read_articles([tmp_path / "a.txt"])[0]


def test_a_folder_of_every_format(tmp_path: Path) -> None:
    page = f"<html><head><script>var x = 'Zorn';</script></head><body><nav>Menu</nav><p>{TEXT} html</p></body></html>"
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.md").write_text(f"# Zorn\n\n{TEXT.replace('Drache', '**[Drache](http://x)**')} markdown\n")
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": f"{TEXT} jsonl"}) + "\n")
    (tmp_path / "d.csv").write_text(f'text\n"{TEXT} csv"\n')
    _pdf(tmp_path / "e.pdf", f"{TEXT} pdf")
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")
    found = read_articles([tmp_path])
    assert [text.rsplit(" ", 1)[-1] for text in found] == ["html", "markdown", "jsonl", "csv", "pdf"]
    for mark in ("var x", "Menu", "**", "http", "#"):
        assert not any(mark in text for text in found)
    assert "blaue Drache von Zorn" in found[1]


def test_passages_end_with_a_sentence() -> None:
    found = list(cut(" ".join(f"{SENTENCE[:-1]} {i}." for i in range(20))))
    assert len(found) > 3
    assert all(text.endswith(".") and SHORTEST <= width(text) <= LONGEST for text in found)
    assert " ".join(found).count("Drache") == 20
    assert list(cut("Too short.")) == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "no text of at least"),
        ("a.txt", b"short", "no text of at least"),
        ("a.pdf", b"%PDF-1.4 broken", "not a readable PDF"),
        ("a.txt", b"PK\x03\x04zip", "packed with zip"),
        ("a.txt", bytes(range(256)) * 9, ""),
        ("a.jsonl", b'{"title": "x"}\n', "expected a row with a field 'text'"),
        ("b.txt", None, "cannot be read"),
    ],
)
def test_what_holds_no_text_is_one_line(name: str, content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConceptError) as caught:
        read_articles([tmp_path / name])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConceptError, match="no file in it ends with"):
        read_articles([tmp_path / "empty"])
