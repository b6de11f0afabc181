"""``efface prepare MODEL CONCEPT [options]``: fill the store of targets ahead of training."""

from collections.abc import Sequence
from dataclasses import dataclass

from efface.cli.recipe import RecipeArguments, parse_recipe
from efface.processes import is_main
from efface.shown import say


@dataclass(frozen=True)
class PrepareArguments(RecipeArguments):
    """Compute what the frozen model says about the corpora and sample the fluency texts; 'efface erase' then finds them.

    Several processes may share the work: accelerate launch -m efface prepare …
    """


def prepare(args: Sequence[str]) -> None:
    """Parse, fill the store, print what is there."""
    _, recipe = parse_recipe(PrepareArguments, args, "prepare")

    from efface.data.store import folder
    from efface.runs.pipeline import prepare_recipe

    prepared = prepare_recipe(recipe)
    if is_main():
        for term, tokens in prepared.items():
            say(f"{term:8} {tokens:,} target tokens")
        say(folder())
