"""MODEL CONCEPT and every setting of a recipe: the arguments that several verbs share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from pydantic import ValidationError

from efface.cli.flags import flags, showing
from efface.cli.parse import parse, wants_help
from efface.concept.find import concept_names, find_packs
from efface.errors import InputError, RunError, one_line
from efface.files import read_object
from efface.methods import complete_recipe
from efface.recipe.recipe import Recipe, RecipeSettings, merge, nested, read_recipe, recorded
from efface.recipe.resolve import require_effect, require_present
from efface.recipe.settings import AuditSettings
from efface.recipe.yaml import load_yaml

if TYPE_CHECKING:
    RecipeFlags = dict[str, Any]
    AuditFlags = dict[str, Any]
else:
    RecipeFlags, AuditFlags = flags(RecipeSettings), flags(AuditSettings)


@dataclass(frozen=True)
class RecipeArguments:
    """A recipe file comes first, flags override it."""

    model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL|RECIPE.yaml", help_behavior_hint="")]] = ""
    """Hub id, folder, GGUF file or alias of a model; or a recipe.yaml."""
    concepts: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[CONCEPT …]", help_behavior_hint="")]] = ()
    """Name or folder of a concept pack, or of several with weights: wmdp-bio:2 wmdp-cyber:1 (not with a recipe.yaml)."""
    recipe: Annotated[RecipeFlags, tyro.conf.arg(name="")] = field(default_factory=dict)


_A = TypeVar("_A", bound=RecipeArguments)


def parse_recipe(kind: type[_A], args: Sequence[str], verb: str) -> tuple[_A, Recipe]:
    """The arguments of ``efface VERB`` and the recipe they make. Raises InputError in one line."""
    if wants_help(args):
        parse(_with_defaults(kind, args, verb), args, verb)
    require_present(nested({arg.lstrip("-").split("=")[0].replace("-", "_"): True for arg in args if arg.startswith("--")}))
    given: _A = parse(kind, args, verb)
    names, file = _named(given, verb)
    trial = _trial(given)
    said = _said(given)
    recipe = complete_recipe({**merge(merge(file, trial), said), **names}, strict=not trial)
    if trial:
        require_effect(recipe, said)
    find_packs(recipe.concept)
    return given, recipe


def _with_defaults(kind: type[_A], args: Sequence[str], verb: str) -> type:
    """The arguments with the defaults that file, preset and method among them leave, for the help; else as they are."""
    others = [arg for arg in args if arg not in ("-h", "--help")]
    try:
        given: _A = parse(kind, others, verb)
        _, file = _named(given, verb) if given.model.endswith((".yaml", ".yml")) else ({}, {})
        said = merge(file, {name: value for name, value in _said(given).items() if name in ("preset", "method")})
        recipe = complete_recipe({**said, "model": "-", "concept": "-"})
    except InputError:
        return kind
    return showing(kind, "recipe", flags(RecipeSettings, recipe))


def _named(given: RecipeArguments, verb: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Model and concept, and the settings of a recipe file."""
    if given.model.endswith((".yaml", ".yml")):
        file = read_recipe(Path(given.model))
        if not {"model", "concept"} <= file.keys():
            raise InputError(f"{given.model}: expected at least 'model' and 'concept'")
        if given.concepts:
            raise InputError(f"{verb}: {given.model} names the concept already; drop {' '.join(given.concepts)!r}")
        return {name: file[name] for name in ("model", "concept")}, file
    if not given.concepts:
        raise InputError(f"{verb}: expected MODEL and CONCEPT, or a recipe.yaml; see: efface {verb} --help")
    return {"model": given.model, "concept": " ".join(given.concepts)}, {}


def _said(given: RecipeArguments) -> dict[str, Any]:
    """The settings among the flags, without empty sections."""
    said = {name: value for name, value in given.recipe.items() if value != {}}
    if "options" in said:
        names = [name for name, _ in said["options"]]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"--options {twice[0]}: stands {names.count(twice[0])} times; expected it once")
        said["options"] = {name: _plain(value) for name, value in said["options"]}
    return said


def _plain(value: str) -> Any:
    """A number where it is one."""
    try:
        number = load_yaml(value)
    except ValueError:
        return value
    return number if isinstance(number, int | float) and not isinstance(number, bool) else value


def audit_settings(given: Mapping[str, Any], base: AuditSettings, prefix: str = "") -> AuditSettings:
    """What is given on top of other settings. prefix: of the flags, for the message. Raises InputError."""
    try:
        return AuditSettings.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise InputError(f"--{prefix}{one_line(error)}") from None


def study_folder(model: str, concept: str) -> Path:
    """Where ``efface tune`` puts its search."""
    return Path("runs") / f"tune-{concept_names(concept)}-{Path(model).name}"


def _trial(given: RecipeArguments) -> dict[str, Any]:
    """The settings of the trial of ``efface tune`` that is named, without those of model and concept. Raises InputError."""
    number, study = getattr(given, "from_trial", None), getattr(given, "study", None)
    if number is None:
        return {}
    file = (study or study_folder(given.model, " ".join(given.concepts))) / "tune.json"
    try:
        found = read_object(file)
        settings = found["said"] if "said" in found else recorded(found["recipe"])
        chosen = {trial["number"]: nested(trial["settings"]) for trial in found["trials"]}
    except (RunError, ValueError, KeyError, TypeError, AttributeError):
        if not file.is_file():
            raise InputError(f"no search in {file.parent}; expected a folder that 'efface tune' wrote (--study)") from None
        raise InputError(f"{file} is damaged; give the same 'efface tune' command again") from None
    if number not in chosen:
        known = ", ".join(map(str, chosen)) or "none"
        raise InputError(f"--from-trial {number}: {file} has no such finished trial; there are: {known}")
    return {name: value for name, value in merge(settings, chosen[number]).items() if name not in ("model", "concept")}
