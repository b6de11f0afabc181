"""What a user wrote, read so that whatever is wrong with it is told in one line."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

SHOWN = 80  # characters of what came, in a message


def load_yaml(text: str) -> Any:
    """Plain data in YAML. Raises ValueError in one line."""
    try:
        return yaml.safe_load(text)
    except Exception as error:  # a date that there is not, a number of too many digits, too many brackets
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def one_line(error: ValidationError) -> str:
    """The first complaint of a pydantic error: where, what, and what came (of which our own messages say what is needed)."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = "no such setting" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    silent = first["type"] in ("missing", "json_invalid", "value_error")
    came = "" if silent else f", got {shortened(first['input'])}"
    return f"{where}{': ' if where else ''}{message}{came}{more}"


def shortened(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def nested(settings: Mapping[str, float]) -> dict[str, Any]:
    """``{"train.lr": 1}`` as ``{"train": {"lr": 1}}``."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        group, _, leaf = name.partition(".")
        tree.setdefault(group, {})[leaf] = value
    return tree
