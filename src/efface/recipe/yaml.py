"""Plain data in YAML, every key of it once."""

from collections import defaultdict
from typing import Any

import yaml


class _Once(yaml.SafeLoader):
    """A loader that refuses a mapping in which a key stands twice: of two blocks the first would be lost without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As it is written, before merge keys are filled in (what they bring may be overridden)."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        lines: dict[Any, list[int]] = defaultdict(list)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                lines[_value(self, key)].append(key.start_mark.line + 1)
        for name, at in lines.items():
            if len(at) > 1:
                raise ValueError(f"key {name!r} stands {len(at)} times, in lines {' and '.join(map(str, at))}; expected it once")
        return node


def _value(loader: _Once, key: yaml.ScalarNode) -> Any:
    return "<<" if key.tag.endswith(":merge") else loader.construct_object(key)  # type: ignore[no-untyped-call]


def load_yaml(text: str) -> Any:
    """Plain data in YAML. Raises ValueError in one line."""
    try:
        return yaml.load(text, _Once)  # noqa: S506  (a SafeLoader)
    except Exception as error:  # a date that there is not, a number of too many digits, too many brackets
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
