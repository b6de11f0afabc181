"""Texts that a user brings: in any usual format and encoding, cut into passages where a sentence ends."""

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from efface.concept.files import open_file
from efface.concept.rows import PACKED, read_rows
from efface.errors import ConceptError, first_line
from efface.writing import joined, sentences, width

#: characters of a passage
SHORTEST, LONGEST = 160, 600
TEXT, MARKDOWN, HTML, PDF = (".txt", ".text"), (".md", ".markdown"), (".html", ".htm", ".xhtml"), (".pdf",)
TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".parquet", ".pq")
SUFFIXES = (*TEXT, *MARKDOWN, *HTML, *PDF, *TABLES)
#: parts of a page that are not its text
ASIDE = ("script", "style", "nav", "header", "footer", "aside", "noscript", "template", "sup")


def read_articles(named: Sequence[Path]) -> list[str]:
    """The passages of files, and of all files in folders. Raises ConceptError in one line where there is no text."""
    files = [file for path in named for file in _files(path)]
    passages = list(dict.fromkeys(passage for file in files for text in _texts(file) for passage in cut(text)))
    if not passages:
        raise ConceptError(f"--articles {', '.join(map(str, named))}: no text of at least {SHORTEST} characters")
    return passages


def cut(text: str) -> Iterator[str]:
    """A text as passages of whole sentences; paragraphs are kept together where they are short."""
    held: list[str] = []
    for sentence in (sentence for paragraph in re.split(r"\n\s*\n", text) for sentence in sentences(" ".join(paragraph.split()))):
        if held and width(joined([*held, sentence])) > LONGEST:
            yield from _passage(held)
            held = []
        held.append(sentence)
    yield from _passage(held)


def _passage(of: Sequence[str]) -> Iterator[str]:
    text = joined(list(of)).strip()
    if width(text) >= SHORTEST:
        yield text[: 4 * LONGEST]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not found:
            raise ConceptError(f"--articles {path}: no file in it ends with {', '.join(SUFFIXES)}")
        return found
    return [path]


def _texts(file: Path) -> Iterator[str]:
    suffix = file.suffix.lower()
    if suffix in TABLES:
        for where, row in read_rows(file):
            yield _field(row, where)
        return
    with open_file(file) as stream:
        content = stream.read()
    if kind := next((kind for magic, kind in PACKED.items() if content.startswith(magic)), None):
        raise ConceptError(f"{file}: packed with {kind}; expected it unpacked")
    if suffix in PDF or content.startswith(b"%PDF"):
        yield _pdf(file)
        return
    text = _decoded(file, content)
    yield _html(text) if suffix in HTML or re.match(r"\s*(?:<!doctype html|<html)", text, re.I) else _markdown(text, suffix)


def _field(row: Any, where: str) -> str:
    text = row.get("text") if isinstance(row, dict) else row
    if not isinstance(text, str):
        raise ConceptError(f"{where}: expected a row with a field 'text'")
    return text


def _decoded(file: Path, content: bytes) -> str:
    found = _library("charset_normalizer").from_bytes(content).best() if content.strip() else None
    if content.strip() and (found is None or "\0" in str(found)):
        raise ConceptError(f"{file}: no text in any encoding that is known")
    return str(found or "")


def _markdown(text: str, suffix: str) -> str:
    """The words of a Markdown text; of others the text itself."""
    if suffix not in MARKDOWN:
        return text
    inline = [token for token in _library("markdown_it").MarkdownIt().parse(text) if token.type == "inline"]
    shown = ("text", "code_inline", "softbreak")
    return "\n\n".join("".join(of.content or "\n" for of in token.children if of.type in shown) for token in inline)


def _html(text: str) -> str:
    soup = _library("bs4").BeautifulSoup(text, "html.parser")
    for part in soup(list(ASIDE)):
        part.decompose()
    blocks = soup(["p", "li", "h1", "h2", "h3", "td", "blockquote"])
    return "\n\n".join(of.get_text(" ") for of in blocks) if blocks else str(soup.get_text("\n\n"))


def _pdf(file: Path) -> str:
    library = _library("pypdf")
    try:
        return "\n\n".join(page.extract_text() for page in library.PdfReader(file).pages)
    except Exception as error:  # whatever a damaged file does to its reader
        raise ConceptError(f"{file}: not a readable PDF ({first_line(error)})") from None


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise ConceptError(f"--articles: {name} is not installed; expected it from: pip install 'efface[articles]'") from None
