"""From what the user says to a recipe: preset, then method, then file and flags, the later on top of the earlier.

No setting switches another. What the user gave stays known (``model_fields_set`` of the recipe and of its sections), and a
setting that would do nothing is refused in one line.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pydantic import ValidationError

from efface.errors import InputError, one_line
from efface.recipe.own import is_file
from efface.recipe.presets import PRESETS
from efface.recipe.recipe import GONE, MOVED, Recipe, merge
from efface.recipe.settings import SIZES, TILT, EraseSettings, FluencySettings, PublishedSettings, Settings


def resolve(
    said: Mapping[str, Any],
    method: Mapping[str, Any] | None = None,
    under: Mapping[str, Any] | None = None,
    *,
    strict: bool = True,
) -> Recipe:
    """Make a recipe from the nested settings of file and flags, on top of the preset that they name.

    method: what the method asks for; it overrides the preset, and what is said overrides it. under: what the preset overrides.
    strict: refuse what would do nothing. Raises InputError in one line for a setting that is unknown, wrong, or without effect.
    """
    preset = said.get("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InputError(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    require_present(said)
    try:
        recipe = Recipe.model_validate(merge(merge(merge(under or {}, PRESETS[preset]), method or {}), said))
    except ValidationError as error:
        raise InputError(f"recipe: {one_line(error)}") from None
    if strict:
        require_effect(recipe, said)
    return _remembering(recipe, said)


def require_known(said: Mapping[str, Any]) -> None:
    """Raises InputError for what no method could make right: an unknown setting, a wrong value. Rules over several are left."""
    try:
        Recipe.model_validate(merge({"model": "-", "concept": "-"}, said))
    except ValidationError as error:
        if any(of["type"] != "value_error" for of in error.errors()):
            raise InputError(f"recipe: {one_line(error)}") from None


def require_effect(recipe: Recipe, said: Mapping[str, Any]) -> None:
    """Raises InputError for the first of these settings that does nothing in this recipe.

    A section that is written out whole, as in the record of a run, says what would be so without it and is left alone.
    """
    whole = {name for name in type(recipe).model_fields if isinstance(getattr(recipe, name), Settings)}
    whole = {name for name in whole if set(type(getattr(recipe, name)).model_fields) <= set(said.get(name) or ())}
    names = {name for name in _names(said) if name.split(".")[0] not in whole}
    for rule in INERT:
        if (idle := [name for name in rule.names if name in names]) and rule.applies(recipe):
            raise InputError(f"recipe: {idle[0]} does nothing {rule.why.format(recipe=recipe)}, or drop it")


@dataclass(frozen=True)
class Inert:
    """Settings that do nothing where ``applies``; why: how the message goes on, and how to mend it."""

    names: tuple[str, ...]
    applies: Callable[[Recipe], bool]
    why: str


def _of(section: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names)


def _elm(recipe: Recipe) -> bool:
    """Whether the method may be a form of elm: a file of the user's own may extend it."""
    return recipe.method == "elm" or is_file(recipe.method)


def _samples(recipe: Recipe) -> bool:
    """Whether fluency texts are sampled from the tilted teacher, as they always are for other actions than erasing."""
    return recipe.fluency.source == "tilted" or recipe.erase.action != "erase"


#: what only method elm reads of these sections
_ELM = (
    *_of("erase", *(name for name in EraseSettings.model_fields if name != "weight")),
    *_of("fluency", *FluencySettings.model_fields),
    *_of("published", *PublishedSettings.model_fields),
)
_TILTED = "with erase.target {recipe.erase.target}; say erase.target tilted"
_STRANGERS = "with fluency.source strangers; say fluency.source tilted"
INERT = (
    Inert(_ELM, lambda recipe: not _elm(recipe), "with method {recipe.method}; say method elm"),
    Inert(_of("erase", *TILT[1:]), lambda recipe: recipe.erase.target in ("stranger", "marginal"), _TILTED),
    Inert(
        ("erase.eta",),  # the fluency texts may be sampled with it
        lambda recipe: recipe.erase.target in ("stranger", "marginal") and not (_samples(recipe) and recipe.fluency.eta is None),
        _TILTED,
    ),
    Inert(_of("erase", *TILT), lambda recipe: recipe.erase.action == "random", "with erase.action random; say another action"),
    Inert(("published.float64",), lambda recipe: recipe.erase.target in ("stranger", "marginal"), _TILTED),
    Inert(
        ("erase.marginal",),
        lambda recipe: recipe.erase.target != "mixed",
        "with erase.target {recipe.erase.target}; say erase.target mixed",
    ),
    Inert(
        (
            *_of("fluency", "target", "eta", "min_p", "no_repeat", "keyness", "questions", "cloze"),
            *_of("published", "sees_prompt", "deflection", "train_deflection"),
        ),
        lambda recipe: not _samples(recipe),
        _STRANGERS,
    ),
    Inert(
        ("published.train_deflection",),
        lambda recipe: not recipe.published.deflection,
        "without published.deflection; say that too",
    ),
    Inert(
        ("data.quiz",),
        lambda recipe: (_samples(recipe) or not _elm(recipe)) and not recipe.data.kept,
        "without fluency.source strangers or data.kept; say one of them",
    ),
    Inert(
        _of("data", "chat", "forget_chat", "max_chars", "mentioned"),
        lambda recipe: recipe.data.forms > 0,
        "with data.forms; say data.forms 0",
    ),
    Inert(("train.steps",), lambda recipe: recipe.train.tokens is not None, "with train.tokens; say one of them"),
    Inert(_of("lora", "alpha", "dropout"), lambda recipe: recipe.lora.rank == 0, "with lora.rank 0; say a rank"),
    Inert(
        _of("audit", *dict.fromkeys(chain.from_iterable(SIZES.values()))),
        lambda recipe: not recipe.audit.attacks,
        "without audit.attacks; say which, or all",
    ),
    Inert(("audit.endpoint_model",), lambda recipe: recipe.audit.endpoint is None, "without audit.endpoint; say it"),
)


def _names(said: Mapping[str, Any]) -> Iterator[str]:
    """``erase.eta`` for every setting of a section."""
    for section, of in said.items():
        if isinstance(of, Mapping):
            yield from (f"{section}.{name}" for name in of)


def require_present(said: Mapping[str, Any]) -> None:
    """Raises InputError for a setting that was, saying where it is now."""
    for name in _names(said):
        section, setting = name.split(".", 1)
        if setting in MOVED.get(section, ()):
            raise InputError(f"recipe: {name} is published.{setting} now")
        if setting in GONE.get(section, ()):
            raise InputError(f"recipe: {name} is no more, for it did not help; drop it")


def _remembering(recipe: Recipe, said: Mapping[str, Any]) -> Recipe:
    """The recipe, with what was said as its ``model_fields_set``, section by section."""
    for section in type(recipe).model_fields:
        of = getattr(recipe, section)
        if isinstance(of, Settings) and of.model_fields_set:  # made here, not a default that recipes share
            object.__setattr__(of, "__pydantic_fields_set__", set(said.get(section, ())))
    object.__setattr__(recipe, "__pydantic_fields_set__", set(said))
    return recipe
