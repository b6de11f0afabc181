"""The rows of a file: JSON Lines, a JSON array, CSV, TSV, Parquet or plain text, told by its ending and by what is in it."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from efface.concept.files import MOST_BYTES, head, open_file, read_lines, read_text
from efface.errors import ConceptError

#: where a row stands, and what it is
Row = tuple[str, Any]

TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
LINES, PARQUET, PLAIN = (".jsonl", ".ndjson", ".json"), (".parquet", ".pq"), (".txt", ".text", ".md")
DELIMITERS = ",\t;|"
#: how files begin that have to be unpacked first
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def read_rows(path: Path, field: str = "text") -> Iterator[Row]:
    """Every row of a file. field: the column of its text, which a table is recognised by and a plain text has.

    Raises ConceptError in one line for a file that cannot be read or is damaged.
    """
    begins, suffix = head(path), path.suffix.lower()
    if kind := next((kind for magic, kind in PACKED.items() if begins.startswith(magic)), None):
        raise ConceptError(f"{path}: packed with {kind}; expected it unpacked")
    if begins.startswith(b"PAR1") or suffix in PARQUET:
        yield from _parquet(path)
        return
    first = next((line.strip() for _, line in read_lines(path) if line.strip()), "")
    if first.startswith("[") and (rows := _array(path, lines=suffix in LINES[:2])) is not None:
        yield from rows
    elif suffix in LINES or (first.startswith("{") and (_is_object(first) or suffix not in (*TABLES, *PLAIN))):
        yield from _lines(path)
    elif suffix in TABLES or (suffix not in PLAIN and _delimiter(first, field) is not None):
        yield from _table(path, field, _delimiter(first, field) or TABLES.get(suffix, ","))
    elif "\0" in first:
        raise ConceptError(f"{path}: neither JSON, CSV, Parquet nor text; expected one of them")
    else:
        yield from _paragraphs(path, field)


def _lines(path: Path) -> Iterator[Row]:
    for number, line in read_lines(path):
        if line.strip():
            yield f"{path}:{number}", _json(line, f"{path}:{number}")


def _array(path: Path, *, lines: bool) -> list[Row] | None:
    """The rows of one JSON array; None where it is none. lines: the ending says that lines are meant, so its rows are objects."""
    try:
        rows = _json(read_text(path), str(path))
    except ConceptError as error:
        if str(error).endswith(TWICE):
            raise
        return None
    if not isinstance(rows, list) or (lines and not all(isinstance(row, dict) for row in rows)):
        return None
    return [(f"{path}: row {number}", row) for number, row in enumerate(rows, start=1)]


TWICE = "stands twice; expected it once"


def _json(text: str, where: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            raise ConceptError(f"{where}: key {next(name for name in names if names.count(name) > 1)!r} {TWICE}")
        return row

    try:
        return json.loads(text, object_pairs_hook=once)
    except ConceptError:
        raise
    except (ValueError, RecursionError):
        raise ConceptError(f"{where}: not JSON; is the file whole?") from None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _delimiter(header: str, field: str) -> str | None:
    """What separates the cells of a header that names the field."""
    cells = ((of, [cell.strip().strip('"') for cell in header.split(of)]) for of in DELIMITERS)
    return next((of for of, names in cells if field in names and len(names) > 1), "," if header.strip('"') == field else None)


def _table(path: Path, field: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(MOST_BYTES)
    rows = csv.DictReader((line for _, line in read_lines(path)), delimiter=delimiter)
    try:
        for row in rows:  # a cell without a name stands behind the last column, one without a text says nothing
            cells = {name: cell for name, cell in row.items() if name is not None and (cell or name == field)}
            yield f"{path}:{rows.line_num}", cells
    except csv.Error as error:
        raise ConceptError(f"{path}:{rows.line_num}: not CSV ({error})") from None


def _paragraphs(path: Path, field: str) -> Iterator[Row]:
    """What empty lines separate; where there are none, every line."""
    whole = any(not line.strip() for _, line in islice(read_lines(path), 1, None))
    begun, found = 1, list[str]()
    for number, line in read_lines(path):
        if line.strip():
            begun = number if not found else begun
            found.append(line.strip())
        if found and (not whole or not line.strip()):
            yield f"{path}:{begun}", {field: "\n".join(found)}
            found = []
    if found:
        yield f"{path}:{begun}", {field: "\n".join(found)}


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    with open_file(path) as file:
        try:
            for batch in ParquetFile(file).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise ConceptError(f"{path}: no Parquet, or damaged ({str(error).splitlines()[0]})") from None
