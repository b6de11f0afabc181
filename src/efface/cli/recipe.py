"""MODEL CONCEPT and every setting of a recipe: the arguments that several verbs share."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from efface.cli.parse import parse
from efface.concept.find import concept_names, find_packs
from efface.errors import InputError
from efface.methods import complete_recipe
from efface.recipe.presets import PRESETS
from efface.recipe.recipe import Recipe, RecipeSettings, merge, nested, read_recipe, recorded
from efface.recipe.settings import TILT, implied_target


@dataclass(frozen=True)
class RecipeArguments:
    """A recipe file comes first, flags override it."""

    model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL|RECIPE.yaml", help_behavior_hint="")]]
    """Hub id, folder, GGUF file or alias of a model; or a recipe.yaml."""
    concepts: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[CONCEPT …]", help_behavior_hint="")]] = ()
    """Name or folder of a concept pack, or of several with weights: wmdp-bio:2 wmdp-cyber:1 (not with a recipe.yaml)."""
    recipe: Annotated[RecipeSettings, tyro.conf.arg(name="")] = field(default_factory=RecipeSettings)


_A = TypeVar("_A", bound=RecipeArguments)


def parse_recipe(kind: type[_A], args: Sequence[str], verb: str) -> tuple[_A, Recipe]:
    """The arguments of ``efface VERB`` and the recipe they make. Raises InputError in one line."""
    start = starting_point(args)
    defaults = complete_recipe({"model": "-", "concept": "-", **start})
    given: _A = parse(kind, args, verb, default=kind("-", recipe=_settings(defaults)))
    if "model" in start:
        if given.concepts:
            raise InputError(f"{verb}: {given.model} names the concept already; drop {' '.join(given.concepts)!r}")
        model, concept = defaults.model, defaults.concept
    elif not given.concepts:
        raise InputError(f"{verb}: expected MODEL and CONCEPT, or a recipe.yaml; see: efface {verb} --help")
    else:
        model, concept = given.model, " ".join(given.concepts)
    recipe = complete_recipe({"model": model, "concept": concept, **given.recipe.model_dump()})
    find_packs(recipe.concept)
    return given, recipe


def starting_point(args: Sequence[str]) -> dict[str, Any]:
    """What the flags override: the settings of a recipe file among the arguments, and the preset they name."""
    files = [arg for arg in args if arg.endswith((".yaml", ".yml"))]
    settings = read_recipe(Path(files[0])) if files else {}
    if files and not {"model", "concept"} <= settings.keys():
        raise InputError(f"{files[0]}: expected at least 'model' and 'concept'")
    if trial := _flag("from-trial", args):
        settings |= _trial(trial, args)
    for name in ("preset", "method"):
        given = _flag(name, args)
        if given and (name != "preset" or given in PRESETS):
            settings[name] = given
    return _with_target(settings, args)


def _with_target(settings: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """With the erase target that settings and flags imply, if none of them names one: flags alone would leave the default."""
    erase = settings.get("erase", {})
    if not isinstance(erase, Mapping) or "target" in erase or _flag("erase.target", args) is not None:
        return settings
    given: dict[str, Any] = {}
    for name in ("action", "marginal", *TILT):
        spelled = f"erase.{name.replace('_', '-')}"
        said = "" if f"erase.{name}" in args or f"--{spelled}" in args else None  # after --vary, or a flag without a value
        if (value := _flag(spelled, args) or said) is not None:
            given[name] = value
    with suppress(KeyError, ValueError):  # what is no number is refused with the other flags
        given["marginal"] = float(given["marginal"])
    target = implied_target({**erase, **given})
    return merge(settings, {"erase": {"target": target}}) if target else settings


def study_folder(model: str, concept: str) -> Path:
    """Where ``efface tune`` puts its search."""
    return Path("runs") / f"tune-{concept_names(concept)}-{Path(model).name}"


def _flag(name: str, args: Sequence[str]) -> str | None:
    spelled = name.replace("-", "[-_]")
    found = re.search(rf"(?:^|\0)--{spelled}[=\0]([^\0]*)", "\0".join(args))
    return found[1] if found else None


def _trial(number: str, args: Sequence[str]) -> dict[str, Any]:
    """The recipe of a trial of ``efface tune``, without the names of model and concept. Raises InputError."""
    named = list(takewhile(lambda arg: not arg.startswith("-"), args))
    study = _flag("study", args)
    if study is None and len(named) < 2:
        raise InputError("--from-trial: expected MODEL CONCEPT before it, or the folder of a search with --study")
    file = (Path(study) if study else study_folder(named[0], " ".join(named[1:]))) / "tune.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        recipe = recorded(found["recipe"])
        chosen = {str(trial["number"]): nested(trial["settings"]) for trial in found["trials"]}
    except OSError:
        raise InputError(f"no search in {file.parent}; expected a folder that 'efface tune' wrote (--study)") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{file} is damaged; give the same 'efface tune' command again") from None
    if number not in chosen:
        raise InputError(f"--from-trial {number}: {file} has no such finished trial; there are: {', '.join(chosen) or 'none'}")
    return {name: value for name, value in merge(recipe, chosen[number]).items() if name not in ("model", "concept")}


def _settings(recipe: RecipeSettings) -> RecipeSettings:
    return RecipeSettings.model_validate(recipe.model_dump(exclude={"model", "concept"}))
