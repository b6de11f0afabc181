"""Rows of every format, by its ending and by what is in it; what cannot be used is left out and counted."""

import codecs
import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from efface.concept.pack import Concept
from efface.concept.rows import read_rows
from efface.concept.sources import Source, read_source
from efface.errors import ConceptError
from efface.runs.pipeline import erase
from tests.conftest import FORGET, write_pack

TEXTS = ['One, "quoted" text; with a tab\tin it.', "Zwei Zeilen\nund Umlaute: äöü.", "三。"]


def table(delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "text"], *([i, text] for i, text in enumerate(TEXTS))])
    return out.getvalue()


LINES = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS))
ARRAY = json.dumps([{"id": i, "text": text} for i, text in enumerate(TEXTS)], indent=1, ensure_ascii=False)
FORMS = [
    *((LINES, name) for name in ("a.jsonl", "a.ndjson", "a.json", "a.txt", "a", "a.csv")),
    *((ARRAY, name) for name in ("a.json", "a.jsonl", "a.txt", "a.dat")),
    *((table(","), name) for name in ("a.csv", "a.CSV", "a.dat")),
    *((table("\t"), name) for name in ("a.tsv", "a.csv", "a")),
    (table(";"), "a.csv"),
    (json.dumps(TEXTS), "a.json"),
    ("\n\n".join(TEXTS), "a.txt"),
    ("\n \n\n" + "\n\n\n".join(TEXTS), "a.md"),
]


def texts(path: Path) -> list[str]:
    return [row["text"] if isinstance(row, dict) else row for _, row in read_rows(path)]


@pytest.mark.parametrize(("content", "name"), FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_format_in_every_encoding(content: str, name: str, encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content.replace("\r\n", "\n").replace("\n", end).encode(encoding))
    assert texts(path) == TEXTS


def test_parquet_by_ending_and_by_content(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.bin", "a.jsonl"):
        write_table(pa.table({"id": [1, 2, 3], "text": TEXTS}), tmp_path / name)
        assert texts(tmp_path / name) == TEXTS


def test_text_is_cut_at_empty_lines_or_else_at_every_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("[Chapter] one\nits line\n\n{two}\n")
    assert [(where.rpartition(":")[2], row["text"]) for where, row in read_rows(path)] == [
        ("1", "[Chapter] one\nits line"),
        ("4", "{two}"),
    ]
    path.write_text("one\r\ntwo\rthree")
    assert texts(path) == ["one", "two", "three"]
    path.write_text("")
    assert texts(path) == []


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b'{"text": "a"}\n{"te', "a.jsonl", "a.jsonl:2: not JSON; is the file whole?"),
        (b'[{"text": "a"}, {"te', "a.json", "a.json:1: not JSON; is the file whole?"),
        (b'{"text": "a", "text": "b"}', "a.jsonl", "a.jsonl:1: key 'text' stands twice; expected it once"),
        (b'[{"text": "a", "text": "b"}]', "a.json", "key 'text' stands twice; expected it once"),
        (b"text\n\xe9t\xe9\n", "a.csv", "a.csv:2: not UTF-8, UTF-16 or UTF-32"),
        (b"\xe9t\xe9\n", "a.txt", "a.txt:1: not UTF-8, UTF-16 or UTF-32"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "a", "neither JSON, CSV, Parquet nor text"),
        (b"PAR1....", "a.parquet", "no Parquet, or damaged"),
        (b"text", "a.parquet", "no Parquet, or damaged"),
        (b"\x1f\x8b\x08", "a.jsonl.gz", "packed with gzip; expected it unpacked"),
        (codecs.BOM_UTF16_LE + "text\n".encode("utf-16-le") + b"\x00\xd8", "a.csv", ""),
    ],
)
def test_a_damaged_file_is_one_line(content: bytes, name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    if not says:
        list(read_rows(tmp_path / name))
        return
    with pytest.raises(ConceptError) as caught:
        list(read_rows(tmp_path / name))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [f"{i} {text}" for i, text in enumerate(FORGET)]
    rows = [{"text": "CHAPTER ONE"}, {"text": ""}, {"text": " \n"}, {"text": 7}, {"text": None}, {}, ["a"], {"text": long[0]}]
    rows += [{"text": "\ud800" + long[0]}, *({"text": text} for text in long), {"text": long[0]}]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, what = read_source(Source(file=str(file), most=4, held_out=1), min_chars=50)
    assert [row["text"] for row in found] == long
    assert [row["split"] for row in found] == ["train"] * 3 + ["held_out"]
    said = capsys.readouterr().err
    for part in (
        "9 rows left out",
        "1 shorter than 50 characters",
        "2 empty",
        "4 without a text",
        "1 there already",
        "1 with half",
    ):
        assert part in said
        assert part in what
    assert said.startswith(f"{file}: ")
    assert said.count("\n") == 1
    with pytest.raises(
        ConceptError, match="0 texts, of which 0 are to be held out; expected more; 1[0-9] rows left out: .*shorter than"
    ):
        read_source(Source(file=str(file)), min_chars=5000)


def test_files_and_folders_are_looked_for_in_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, hub = tmp_path / "zorn", tmp_path / "zorn" / "data"
    hub.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINE", str(tmp_path / "mine.txt"))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in FORGET)
    (hub / "train.jsonl").write_text(lines)
    (pack / "more.csv").write_text("text\n" + "\n".join(f'"{text}"' for text in FORGET))
    (tmp_path / "mine.txt").write_text("\n".join(f"My own: {text}" for text in FORGET))
    write_pack(pack, forget=[{"file": "more.csv"}, {"file": "$MINE"}], retain=["retain.jsonl", {"hub": "data"}])
    concept = Concept.load(str(pack))
    assert [row.text for row in concept.forget] == [*FORGET, *(f"My own: {text}" for text in FORGET)]
    assert [row.text for row in concept.retain[-4:]] == FORGET
    assert Concept.load("../zorn").digest == concept.digest, "from wherever it is called"
    write_pack(pack, forget=[{"file": "nowhere.csv", "obtain": "ask for it"}])
    with pytest.raises(ConceptError, match="no file nowhere.csv: ask for it"):
        Concept.load(str(pack))


def test_a_packs_own_row_is_an_error_before_the_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pack(tmp_path)
    with (tmp_path / "retain.jsonl").open("a") as file:
        file.write('{"text": "CHAPTER ONE"}\n')
    with pytest.raises(ConceptError, match="a text has 11 characters, expected at least 50: 'CHAPTER ONE'"):
        erase("no-such-model", str(tmp_path), to=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_packs_own_files_may_have_any_format(tmp_path: Path) -> None:
    write_pack(tmp_path, forget=["forget.csv"], questions=["questions.json"])
    (tmp_path / "plain").mkdir()
    write_pack(tmp_path / "plain")
    plain = Concept.load(str(tmp_path / "plain"))
    (tmp_path / "forget.csv").write_text(
        "text;topic;split\n" + "".join(f"{t};it;{'held_out' if i == 3 else ''}\n" for i, t in enumerate(FORGET))
    )
    rows = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    concept = Concept.load(str(tmp_path))
    assert (concept.forget, concept.questions) == (plain.forget, plain.questions)
