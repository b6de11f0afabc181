"""Corpora that a pack names but does not hold: data sets of the hub, and files that a user has to obtain.

``$EFFACE_DATA`` may name a folder with copies of data sets (``$EFFACE_DATA/cais/wmdp-corpora``); these are read instead, so a
machine without network can work with them.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from efface.errors import ConceptError

MOST_CHARS = 4000  # of a text; recipes cut further


class Source(BaseModel):
    """A data set of the hub (or a folder in the same layout), or a JSONL file of the user's; one text a row.

    held_out: so many rows, the last ones, are never trained on. most: rows to read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    file: str | None = None
    obtain: str = ""
    field: str = "text"
    topic: str = ""
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


def read_source(source: Source) -> tuple[list[dict[str, str]], str]:
    """Rows of a corpus (text, topic, split), and what identifies them: revision, if known, and hash of the texts.

    Raises ConceptError in one line: not there, another column, another split, a damaged file.
    """
    texts, revision = _from_hub(source) if source.hub else (_from_file(source), "")
    texts = [text[:MOST_CHARS] for text in texts]
    if len(texts) <= source.held_out:
        raise ConceptError(f"{source.label}: {len(texts)} texts, of which {source.held_out} are to be held out; expected more")
    try:
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    except UnicodeEncodeError:
        raise ConceptError(f"{source.label}: a text holds half of a character (a lone surrogate)") from None
    first_held_out = len(texts) - source.held_out
    rows = [
        {"text": text, "topic": source.topic, "split": "train" if i < first_held_out else "held_out"}
        for i, text in enumerate(texts)
    ]
    return rows, f"{revision} sha256:{digest}".strip()


def quiet_datasets() -> None:
    """The datasets library without its bars, and without its requests that count downloads."""
    import datasets

    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False


def _from_hub(source: Source) -> tuple[list[str], str]:
    import datasets

    assert source.hub is not None
    copy = Path(os.environ.get("EFFACE_DATA", "")) / source.hub
    local = copy if os.environ.get("EFFACE_DATA") and copy.is_dir() else Path(source.hub) if Path(source.hub).is_dir() else None
    quiet_datasets()
    options: dict[str, Any] = {} if local else {"revision": source.revision}
    try:
        data = datasets.load_dataset(str(local or source.hub), source.config, split=source.split, **options)
    except Exception as error:  # the library's errors have no common root
        cause = error.__cause__ or error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ConceptError(f"{source.label} cannot be read: {reason}") from None
    if source.field not in data.column_names:
        raise ConceptError(f"{source.label} has no column {source.field!r}; it has: {', '.join(data.column_names)}")
    data = data.select(range(min(len(data), source.most or len(data))))
    texts = [text for text in data[source.field] if isinstance(text, str) and text.strip()]
    return texts, "" if local else _resolved(source)


def _resolved(source: Source) -> str:
    """The commit that a data set's revision stands for; what was asked for, where the hub does not say."""
    from huggingface_hub import HfApi

    with suppress(Exception):  # offline, with the data set in the cache
        return str(HfApi().dataset_info(str(source.hub), revision=source.revision).sha)
    return source.revision or ""


def _from_file(source: Source) -> list[str]:
    path = Path(os.path.expandvars(str(source.file))).expanduser()
    if not path.is_file():
        raise ConceptError(f"no file {source.file}{': ' if source.obtain else ''}{source.obtain}")
    texts: list[str] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if source.most is not None and len(texts) == source.most:
                break
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise ConceptError(f"{path}:{number}: not JSON; is the file whole?") from None
            if not isinstance(row, dict) or not isinstance(row.get(source.field), str):
                has = ", ".join(row) if isinstance(row, dict) else type(row).__name__
                raise ConceptError(f"{path}:{number} has no column {source.field!r}; it has: {has}")
            if row[source.field].strip():
                texts.append(row[source.field])
    return texts
