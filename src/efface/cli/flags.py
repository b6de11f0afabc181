"""Settings as flags: a class of settings becomes one of tyro's structures, of which only what was given comes back."""

from collections.abc import Iterator
from dataclasses import field, make_dataclass
from typing import Annotated, Any, TypedDict, get_type_hints, is_typeddict

import tyro

from efface.recipe.settings import Settings


def flags(kind: type[Settings], shown: Settings | None = None, skip: frozenset[str] = frozenset()) -> Any:
    """A structure with a flag for every setting, section by section (``--erase.weight``); parsed, a mapping of those given.

    shown: whose values the help gives as defaults; None: those of the class. skip: names without a flag.
    """
    fields: dict[str, Any] = {}
    for name, setting in kind.model_fields.items():
        if name in skip:
            continue
        wanted, value = setting.annotation, setting.default if shown is None else getattr(shown, name)
        if isinstance(wanted, type) and issubclass(wanted, Settings):
            fields[name] = flags(wanted, value)
            continue
        if name == "options":  # tyro cannot leave a mapping out
            wanted, value = tuple[tuple[str, str], ...], "none"
        fields[name] = Annotated[wanted, tyro.conf.arg(help=setting.description, help_behavior_hint=f"(default: {value})")]  # type: ignore[valid-type]
    return TypedDict(kind.__name__, fields, total=False)  # type: ignore[operator]


def named(kind: Any, prefix: str = "") -> Iterator[str]:
    """The name of every flag of a structure of arguments: ``audit.scorers``."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        called = next((mark.name for mark in marks if getattr(mark, "name", None) is not None), name)
        if is_typeddict(inner := getattr(hint, "__origin__", hint)):
            yield from named(inner, f"{prefix}{called}." if called else prefix)
        else:
            yield prefix + called


def showing(arguments: type, name: str, kind: Any) -> type:
    """The same arguments, with another structure of flags in one of their fields."""
    annotation = Annotated[kind, tyro.conf.arg(name="")]
    made = make_dataclass(arguments.__name__, [(name, annotation, field(default_factory=dict))], bases=(arguments,), frozen=True)
    made.__doc__ = arguments.__doc__
    return made
