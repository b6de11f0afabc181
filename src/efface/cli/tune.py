"""``efface tune MODEL CONCEPT --trials N``: search for a recipe on a pack's tune questions."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from efface.cli.parse import require_extra
from efface.cli.recipe import RecipeArguments, parse_recipe, study_folder
from efface.concept.find import split_names
from efface.errors import InputError
from efface.shown import say

if TYPE_CHECKING:
    from efface.search.tune import Found


@dataclass(frozen=True)
class TuneArguments(RecipeArguments):
    """Search for a recipe: innocence, seamlessness and specificity on the pack's tune questions. Goes on where it was stopped.

    Needs the extra: pip install 'efface[tune]'.
    """

    trials: int = 20
    """Trials in all; those that a stopped search has made count."""
    vary: tuple[str, ...] = ()
    """Settings to vary (default: the weights and train.lr): erase.weight fluency.eta lora.rank …"""
    to: Path | None = None
    """Folder of the search (default: runs/tune-CONCEPT-MODEL)."""


def tune(args: Sequence[str]) -> None:
    """Parse, search, print the Pareto front."""
    given, recipe = parse_recipe(TuneArguments, args, "tune")
    if given.trials < 1:
        raise InputError(f"--trials: expected a number from 1 on, got {given.trials}")
    folder = given.to or study_folder(recipe.model, recipe.concept)
    require_extra("tune", "optuna", "tune")

    from efface.search.tune import Study

    study = Study(folder, recipe, given.vary)
    found = study.run(given.trials)
    _print(found, study.given_up())
    again = [] if given.to is None else ["--study", str(folder)]
    command = ["efface", "erase", recipe.model, *split_names(recipe.concept), "--from-trial", "K", *again]
    say(f"erase with one of them: {shlex.join(command)}")


def _print(found: Sequence["Found"], given_up: int) -> None:
    front = sorted((of for of in found if of.best), key=lambda of: -of.goals["innocence"])
    others = f"{len(found) - len(front)} trials are worse in every way, {given_up} were given up early"
    table = Table(title="Pareto front: 1 is a perfect erasure", caption=others, box=box.SIMPLE_HEAD, caption_justify="left")
    for column in ("trial", *(front[0].goals if front else ()), "settings"):
        table.add_column(column, justify="left" if column == "settings" else "right")
    for of in front:
        settings = ", ".join(f"{name} {value:.3g}" for name, value in of.settings.items())
        table.add_row(str(of.number), *(f"{value:.2f}" for value in of.goals.values()), settings)
    Console().print(table)
