"""``make ablation``: the default recipe with one part taken away or as published, one run each.

Prints the table of docs/recipe.md. Runs are made once, in ``runs/ablation``; ``--print`` only shows those that are there.
"""

import sys
from pathlib import Path
from typing import Any

from efface.cli.compare import markdown
from efface.errors import EffaceError, InputError
from efface.methods import complete_recipe
from efface.pipeline import Run, run_recipe
from efface.report.table import spread
from efface.results import is_run

MODEL, CONCEPT = "smollm2-135m", "ancient-egypt"
FOLDER = Path("runs/ablation")
#: what is changed, by the name of its run
CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "published-target": {"erase": {"marginal": 0.0}},
    "plain-sampling": {"fluency": {"temperature": 1.0, "min_p": 0.0, "no_repeat": 0, "keyness": 0.0}},
    "no-keyness": {"fluency": {"keyness": 0.0}},
    "no-fluency": {"fluency": {"weight": 0.0}},
    "no-retain": {"retain": {"weight": 0.0}},
    "no-erase": {"erase": {"weight": 0.0}},
}


def make() -> None:
    """The runs that are missing; one that was killed goes on."""
    for name, change in CHANGES.items():
        recipe, folder = complete_recipe({"model": MODEL, "concept": CONCEPT, **change}), FOLDER / name
        if not is_run(folder):
            print(f"== {name}", file=sys.stderr, flush=True)
            run_recipe(recipe, folder)
        elif Run(folder).record.recipe != recipe:
            raise InputError(f"{folder} was made with another recipe; remove it")


if __name__ == "__main__":
    try:
        if "--print" not in sys.argv:
            make()
        done = {name: [Run(FOLDER / name).audit] for name in CHANGES if is_run(FOLDER / name)}
        print(markdown({name: spread(audits) for name, audits in done.items()}, dict.fromkeys(done, 1)))
    except EffaceError as error:
        sys.exit(f"ablation: {error}")
