"""``efface erase MODEL CONCEPT|NAME [options]`` and ``efface erase recipe.yaml [options]``."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.cli.recipe import RecipeArguments, parse_recipe, to_write
from efface.cli.write import write_missing
from efface.errors import InputError
from efface.processes import is_main
from efface.shown import say


@dataclass(frozen=True)
class EraseArguments(RecipeArguments):
    """Erase a concept from a model. A recipe file comes first, flags override it."""

    to: Path | None = None
    """Run folder to write (default: runs/CONCEPT-MODEL-PRESET-SEED)."""
    from_trial: int | None = None
    """Start from the settings of this trial of a search that 'efface tune' made."""
    study: Path | None = None
    """Folder of the search (default: runs/tune-CONCEPT-MODEL)."""
    overwrite: bool = False
    """Replace what is in that folder."""


def erase(args: Sequence[str]) -> None:
    """Parse, run, print the table."""
    given, recipe = parse_recipe(EraseArguments, args, "erase")
    if given.study is not None and given.from_trial is None:
        raise InputError("erase: --study goes with --from-trial K; the trials are in its tune.json")

    from efface.report.terminal import print_audit
    from efface.runs.folder import find_place
    from efface.runs.pipeline import default_folder, run_recipe

    if names := to_write(given):
        find_place(given.to or default_folder(recipe), given.overwrite)  # before the pack is written, not after
        write_missing(recipe, names)
    run = run_recipe(recipe, given.to, overwrite=given.overwrite)
    if not is_main():
        return
    print_audit(run.audit, f"{recipe.concept} erased from {recipe.model}")
    folder = shlex.quote(str(run.folder))
    say(f"report: {run.folder / 'report.html'}")
    say(f"chat:   efface chat {folder}")
    say(f"play:   efface play {folder}")
    say(f"export: efface export {folder} --to {shlex.quote(f'{run.folder}-merged')}")
