"""Corpora that a pack names but does not hold: data sets of the hub, and files that a user has to obtain.

``$EFFACE_DATA`` may name a folder with copies of data sets (``$EFFACE_DATA/cais/wmdp-corpora``); these are read instead, so a
machine without network can work with them.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from efface.concept.rows import read_rows
from efface.errors import ConceptError, first_line
from efface.shown import Line, complain

MOST_CHARS = 4000  # of a text; recipes cut further
HALF = re.compile("[\ud800-\udfff]")


def _nameable(name: str) -> str:
    if not name.strip():
        raise ValueError("expected the name of a file or data set")
    return name


FileName = Annotated[Line, AfterValidator(_nameable)]


class Source(BaseModel):
    """A data set of the hub (or a folder in the same layout), or a file of the user's; one text a row.

    held_out: so many texts, the last ones, are never trained on. most: texts to take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: FileName | None = None
    config: Line | None = None
    split: Line = "train"
    revision: Line | None = None
    file: FileName | None = None
    obtain: str = ""
    field: Line = "text"
    topic: Line = ""
    most: int | None = Field(None, gt=0)
    held_out: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> "Source":
        if (self.hub is None) == (self.file is None):
            raise ValueError("a source is either 'hub' or 'file'")
        return self

    @property
    def label(self) -> str:
        """What stands for it in run.json and in messages."""
        return " ".join(part for part in (self.hub, self.config, self.split) if part) if self.hub else str(self.file)


#: what a corpus is made of: a file of the pack, or a source
Named = Annotated[
    Annotated[FileName, Tag("file")] | Annotated[Source, Tag("source")],
    Discriminator(lambda named: "file" if isinstance(named, str) else "source"),
]


def read_source(
    source: Source, folder: Path = Path(), min_chars: int = 0, seen: Iterable[str] = ()
) -> tuple[list[dict[str, str]], str]:
    """Rows of a corpus (text, topic, split), and what identifies them: revision, if known, and hash of the texts.

    folder: of the pack, which relative paths start from. What is no text, is shorter than ``min_chars`` or was ``seen`` is left
    out; how much is said on stderr and stands in what identifies them. Raises ConceptError in one line: not there, another
    column, another split, a damaged file.
    """
    values, revision = _from_hub(source, folder) if source.hub else (_from_file(source, folder), "")
    texts, left_out = _usable(values, source.most, min_chars, seen)
    aside = _told(left_out)
    if len(texts) <= source.held_out:
        least = f"{len(texts)} texts, of which {source.held_out} are to be held out; expected more"
        raise ConceptError(f"{source.label}: {least}{'; ' if aside else ''}{aside}")
    if aside:
        complain(f"{source.label}: {aside}")
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    first_held_out = len(texts) - source.held_out
    rows = [
        {"text": text, "topic": source.topic, "split": "train" if i < first_held_out else "held_out"}
        for i, text in enumerate(texts)
    ]
    return rows, f"{revision} sha256:{digest}{f' ({aside})' if aside else ''}".strip()


def _usable(values: Iterable[Any], most: int | None, min_chars: int, seen: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """The texts that can be used, at most so many, and why how many others before them cannot."""
    texts, left_out = dict[str, None](), Counter[str]()
    known = set(seen)
    for value in values:
        if why := _unusable(value, min_chars):
            left_out[why] += 1
        elif (text := value[:MOST_CHARS]) in texts or text in known:
            left_out["there already"] += 1
        else:
            texts[text] = None
        if len(texts) == most:
            break
    return list(texts), left_out


def _unusable(value: Any, min_chars: int) -> str:
    """Why a row cannot be used."""
    if not isinstance(value, str):
        return "without a text"
    if not value.strip():
        return "empty"
    if len(value) < min_chars:
        return f"shorter than {min_chars} characters"
    return "with half of a character (a lone surrogate)" if HALF.search(value) else ""


def _told(left_out: Counter[str]) -> str:
    rows = "1 row" if left_out.total() == 1 else f"{left_out.total()} rows"
    return f"{rows} left out: {', '.join(f'{n} {why}' for why, n in left_out.items())}" if left_out else ""


def quiet_datasets() -> None:
    """The datasets library without its bars, and without its requests that count downloads."""
    import datasets

    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False


def _from_hub(source: Source, folder: Path) -> tuple[Iterable[Any], str]:
    import datasets

    assert source.hub is not None
    copy, named = Path(os.path.expanduser(os.environ.get("EFFACE_DATA", ""))) / source.hub, _expanded(source.hub, folder)
    local = copy if os.environ.get("EFFACE_DATA") and os.path.isdir(copy) else named if os.path.isdir(named) else None
    quiet_datasets()
    options: dict[str, Any] = {} if local else {"revision": source.revision}
    try:
        data = datasets.load_dataset(str(local or source.hub), source.config, split=source.split, **options)
    except Exception as error:  # the library's errors have no common root
        raise ConceptError(f"{source.label} cannot be read: {first_line(error.__cause__ or error)}") from None
    if source.field not in data.column_names:
        raise ConceptError(f"{source.label} has no column {source.field!r}; it has: {', '.join(data.column_names)}")
    return data[source.field], "" if local else _resolved(source)


def _resolved(source: Source) -> str:
    """The commit that a data set's revision stands for; what was asked for, where the hub does not say."""
    from huggingface_hub import HfApi

    with suppress(Exception):  # offline, with the data set in the cache
        return str(HfApi().dataset_info(str(source.hub), revision=source.revision).sha)
    return source.revision or ""


def _from_file(source: Source, folder: Path) -> Iterator[Any]:
    path = _expanded(str(source.file), folder)
    if not os.path.lexists(path):
        raise ConceptError(f"no file {source.file}{': ' if source.obtain else ''}{source.obtain}")
    first, has_column = None, False
    for where, row in read_rows(path, source.field):
        value = row.get(source.field) if isinstance(row, dict) else row if isinstance(row, str) else None
        has_column = has_column or isinstance(row, str) or (isinstance(row, dict) and source.field in row)
        first = first or (where, ", ".join(row) if isinstance(row, dict) else type(row).__name__)
        yield value
    if first and not has_column:
        raise ConceptError(f"{first[0]} has no column {source.field!r}; it has: {first[1]}")


def _expanded(name: str, folder: Path) -> Path:
    """A path that a pack names, from its folder on; variables and ``~`` are the user's."""
    path = os.path.expandvars(name)
    with suppress(RuntimeError):  # no home
        path = str(Path(path).expanduser())
    return folder / path
