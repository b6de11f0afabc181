"""How a pack came about that a model wrote: ``how.json`` beside its other files."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from efface.errors import ConceptError, RunError
from efface.files import read_json
from efface.shown import Line

HOW = "how.json"
Count = Annotated[int, Field(ge=0)]


class Written(BaseModel):
    """Who wrote, how much each filter dropped of every part, and how much is left of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    writer: Line
    model: Line
    dropped: dict[Line, dict[Line, Count]] = {}
    kept: dict[Line, Count] = {}


def read_written(folder: Path) -> Written | None:
    """What a pack says of it; None where it says nothing. Raises ConceptError for a damaged file."""
    if not (folder / HOW).is_file():
        return None
    try:
        return read_json(folder / HOW, Written)
    except RunError as error:
        raise ConceptError(f"{error}; the pack can be used without this file") from None
