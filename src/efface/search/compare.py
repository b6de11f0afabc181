"""Every method on one model and one concept, each with the same number of trained tokens, over several seeds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from efface.errors import InputError, RunError, TrainingError, UnfinishedRunError
from efface.files import make_folder, read_object, write_json
from efface.methods import NAMES, complete_recipe, find_method
from efface.processes import require_one_process
from efface.recipe.presets import PRESETS
from efface.recipe.recipe import Recipe, merge
from efface.runs.folder import is_run
from efface.runs.inputs import input_hashes, load_concept
from efface.runs.pipeline import run_recipe
from efface.runs.run import Run
from efface.shown import complain

#: presets of ELM that take part besides the methods
PUBLISHED = tuple(preset for preset in PRESETS if preset != "default")


def contenders(names: Sequence[str]) -> list[str]:
    """Methods by name, files of your own, presets of ELM, or ``all``: ELM first. Raises InputError."""
    everything = ["elm", *PUBLISHED, *(name for name in NAMES if name != "elm")]
    wanted = list(names)
    if "all" in names:
        wanted = list(dict.fromkeys(each for name in names for each in (everything if name == "all" else [name])))
    for name in wanted:
        if name not in PUBLISHED:
            find_method(name)
    if len({short(name) for name in wanted}) < len(wanted):
        raise InputError(f"--methods {','.join(names)}: a method is named twice")
    return wanted


def short(name: str) -> str:
    """A method's name in tables and folders: a file's without path and ending."""
    return Path(name).stem


def contest(
    model: str,
    concept: str,
    names: Sequence[str],
    folder: Path,
    *,
    seeds: int = 1,
    budget: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, Run | TrainingError]]:
    """Make the runs that ``folder`` does not hold yet, and yield all of them: every method with the first seed, then the next.

    budget: target tokens of each run (default: what the first method trains on in its own steps). settings: of all recipes.
    A run that was killed goes on where it was; in the place of one whose loss is not finite stands its error, which is kept
    beside the runs. An old run of another recipe, concept or method file is an InputError.
    """
    require_one_process("compare --methods")
    common = {"model": model, "concept": concept, **(settings or {})}
    read, known = load_concept(contender(names[0], 0, budget, common)), budget
    for seed in range(seeds):
        tokens = budget
        for place, name in enumerate(names, start=1):
            tokens = tokens or (known if place > 1 else None)  # the first method was left out: as with the seed before
            if place > 1 and not tokens:
                raise InputError(f"{short(names[0])} was left out, so that nothing says how long to train; give a --budget")
            recipe = contender(name, seed, tokens, common)
            run = Run(folder / f"{short(name)}-{seed}")
            made_from = input_hashes(recipe, read)
            if not is_run(run.folder) and (error := _left_out(run.folder, recipe, made_from)) is not None:
                yield name, error
                continue
            if not is_run(run.folder):
                number = f"run {seed * len(names) + place} of {seeds * len(names)}"
                complain(f"== {short(name)}, seed {seed}: {number}")
                why = ""
                try:
                    run_recipe(recipe, run.folder)
                except TrainingError as error:  # some methods do not survive some settings; the others go on
                    why = str(error)
                except UnfinishedRunError as error:
                    raise InputError(str(error).replace("or drop it with --overwrite", "or remove it")) from None
                if why:  # said here, for the error itself holds on to the model
                    complain(f"{short(name)}, seed {seed}, is left out: {why}")
                    make_folder(folder)
                    about = {"recipe": recipe.model_dump(mode="json"), "made_from": made_from}
                    write_json(_marker(run.folder), {"error": why, **about})
                    yield name, TrainingError(why)
                    continue
            elif run.record.recipe != recipe or not made_from.items() <= run.record.hashes.items():
                what = "recipe, budget, model, concept or method file"
                raise InputError(f"{run.folder} was made with another {what}; name another folder with --to")
            tokens = known = tokens or sum(run.record.tokens.values())
            yield name, run


def _marker(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.left-out.json")


def _left_out(folder: Path, recipe: Recipe, made_from: Mapping[str, str]) -> TrainingError | None:
    """Why this run was given up when it was tried."""
    try:
        found = read_object(_marker(folder))
        same = (found["recipe"], found["made_from"]) == (recipe.model_dump(mode="json"), made_from)
        return TrainingError(f"{found['error']}; to try again remove {_marker(folder)}") if same else None
    except (RunError, KeyError, TypeError):
        return None


def contender(name: str, seed: int, budget: int | None, settings: Mapping[str, Any]) -> Recipe:
    """What one method or preset is trained with: its own loss and weights, everybody's precision, batches and budget.

    budget: target tokens (None: its own steps). settings: of all recipes, model and concept among them. Raises InputError.
    """
    train = {"tokens": budget} if budget else {}
    common = merge(settings, {"seed": seed, "data": {"seed": seed}, "train": train})
    if name not in PUBLISHED:
        return complete_recipe({**common, "method": name}, strict=False)
    default = complete_recipe(common, strict=False)
    alike = default.train.model_dump(include={"batch_size", "accumulation"})
    return complete_recipe(merge(common, {"preset": name, "dtype": default.dtype, "train": alike}), strict=False)
