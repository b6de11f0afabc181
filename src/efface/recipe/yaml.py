"""Plain data in YAML."""

from typing import Any

import yaml


def load_yaml(text: str) -> Any:
    """Plain data in YAML. Raises ValueError in one line."""
    try:
        return yaml.safe_load(text)
    except Exception as error:  # a date that there is not, a number of too many digits, too many brackets
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
