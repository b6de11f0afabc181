"""MODEL CONCEPT and every setting of a recipe: the arguments that several verbs share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from pydantic import ValidationError

from efface.author.name import Name
from efface.cli.flags import flags, showing
from efface.cli.parse import parse, wants_help
from efface.cli.write import as_packs
from efface.concept.find import concept_names, find_packs
from efface.errors import ConceptError, InputError, RunError, one_line
from efface.files import read_object
from efface.methods import complete_recipe
from efface.processes import is_main
from efface.recipe.foreign import METHOD, harmless
from efface.recipe.own import is_file
from efface.recipe.recipe import Recipe, RecipeSettings, merge, nested, read_recipe, recorded
from efface.recipe.resolve import require_effect, require_present
from efface.recipe.settings import AuditSettings
from efface.recipe.yaml import load_yaml
from efface.shown import complain

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
    """Name or folder of a concept pack, or of several with weights: wmdp-bio:2 wmdp-cyber:1 (not with a recipe.yaml);
    or a name of which there is no pack, as 'The Beatles'."""
    recipe: Annotated[RecipeFlags, tyro.conf.arg(name="")] = field(default_factory=dict)


_A = TypeVar("_A", bound=RecipeArguments)


def parse_recipe(kind: type[_A], args: Sequence[str], verb: str) -> tuple[_A, Recipe]:
    """The arguments of ``efface VERB`` and the recipe they make. Raises InputError in one line."""
    if wants_help(args):
        parse(_with_defaults(kind, args, verb), args, verb)
    require_present(nested({arg.lstrip("-").split("=")[0].replace("-", "_"): True for arg in args if arg.startswith("--")}))
    given: _A = parse(kind, args, verb)
    names, file = _named(given, verb)
    said = _said(given)
    trial = _trial(given, names, merge(file, said))
    if isinstance(names["concept"], str) and not to_write(given):
        find_packs(names["concept"])
    recipe = complete_recipe({**merge(merge(file, trial), said), **names}, strict=not trial)
    if trial:
        require_effect(recipe, said)
    return given, recipe


def to_write(given: RecipeArguments) -> dict[Path, Name]:
    """The names among the concepts, by the folder of the pack that they stand for."""
    return as_packs(given.concepts)[1] if given.concepts else {}


def _with_defaults(kind: type[_A], args: Sequence[str], verb: str) -> type:
    """The arguments with the defaults that file, preset and method among them leave, for the help; else as they are."""
    others = [arg for arg in args if arg not in ("-h", "--help")]
    try:
        given: _A = parse(kind, others, verb)
        _, file = _named(given, verb) if given.model.endswith((".yaml", ".yml")) else ({}, {})
        said = merge(file, {name: value for name, value in _said(given).items() if name in ("preset", "method")})
        if is_file(said.get("method")):  # it is not run to be told about
            said = {name: value for name, value in said.items() if name not in ("method", "options")}
        recipe = complete_recipe({**said, "model": "-", "concept": "-"})
    except InputError:
        return kind
    return showing(kind, "recipe", flags(RecipeSettings, recipe))


def _named(given: RecipeArguments, verb: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Model and concept, and the settings of a recipe file (as they stand there)."""
    if given.model.endswith((".yaml", ".yml")):
        file = read_recipe(Path(given.model))
        if not {"model", "concept"} <= file.keys():
            raise InputError(f"{given.model}: expected at least 'model' and 'concept'")
        if given.concepts:
            raise InputError(f"{verb}: {given.model} names the concept already; drop {' '.join(given.concepts)!r}")
        return {name: file[name] for name in ("model", "concept")}, file
    if not given.concepts:
        raise InputError(f"{verb}: expected MODEL and CONCEPT, or a recipe.yaml; see: efface {verb} --help")
    concept, names = as_packs(given.concepts)
    if verb != "erase" and (missing := [name.name for folder, name in names.items() if not folder.exists()]):
        raise ConceptError(f"there is no pack on {missing[0]!r} yet; write it: efface concept write {given.model} {missing[0]!r}")
    return {"model": given.model, "concept": concept}, {}


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
        settings = AuditSettings.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise InputError(f"--{prefix}{one_line(error)}") from None
    object.__setattr__(settings, "__pydantic_fields_set__", set(given))  # what is said, of what is so
    return settings


def complain_of(what: str | Path, left_out: Mapping[str, Any], said: Mapping[str, Any], prefix: str = "") -> None:
    """Tell which settings that came with a folder are not taken over, unless the user gave them. prefix: of the verb's flags."""
    for name, value in left_out.items() if is_main() else ():
        section, _, setting = name.rpartition(".")
        if setting not in (said.get(section, {}) if section else said):
            shown = " ".join(value) if isinstance(value, list | tuple) else value
            flag = f"--{name.removeprefix(prefix).replace('_', '-')}"
            complain(f"{what}: {name} {shown} is left out, for it runs code or sends something; to take it over say {flag}")


def study_folder(model: str, concept: str) -> Path:
    """Where ``efface tune`` puts its search."""
    return Path("runs") / f"tune-{concept_names(concept)}-{Path(model).name}"


def _trial(given: RecipeArguments, names: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the trial of ``efface tune`` that is named, without those of model and concept. Raises InputError.

    said: what the user gave; what runs code or sends something is not taken over, and a method that is a file must be said.
    """
    number, study = getattr(given, "from_trial", None), getattr(given, "study", None)
    if number is None:
        return {}
    file = (study or study_folder(str(names["model"]), str(names["concept"]))) / "tune.json"
    try:
        found = read_object(file)
        settings = found["said"] if "said" in found else recorded(found["recipe"])
        chosen = {trial["number"]: merge(settings, nested(trial["settings"])) for trial in found["trials"]}
    except (RunError, ValueError, KeyError, TypeError, AttributeError):
        if not file.is_file():
            raise InputError(f"no search in {file.parent}; expected a folder that 'efface tune' wrote (--study)") from None
        raise InputError(f"{file} is damaged; give the same 'efface tune' command again") from None
    if number not in chosen:
        known = ", ".join(map(str, chosen)) or "none"
        raise InputError(f"--from-trial {number}: {file} has no such finished trial; there are: {known}")
    taken, left_out = harmless(chosen[number])
    if METHOD in left_out and METHOD not in said:
        raise InputError(
            f"--from-trial {number}: {file} names a method that is a file and would be run, {left_out[METHOD]}; "
            "if you trust it, say so with --method"
        )
    complain_of(file, {name: value for name, value in left_out.items() if name != METHOD}, said)
    return {name: value for name, value in taken.items() if name not in ("model", "concept")}
