"""Results as files: written whole or not at all, read with one line for what is wrong."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from efface.errors import RunError, one_line

_Read = TypeVar("_Read", bound=BaseModel)


def write_json(path: Path, value: Any) -> None:
    """Write a result or plain JSON data, atomically."""
    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else json.dumps(value, indent=2)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either whole or not there."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path, model: type[_Read]) -> _Read:
    """Read a result. Raises RunError when the file is missing or of another shape."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError:
        raise RunError(f"{path} is not there; expected a finished run folder") from None
    except ValidationError as error:
        raise RunError(f"{path}: {one_line(error)}") from None
