"""The default recipe: ``make packs``, on three packs with three seeds; ``make ablation``, with one part changed at a time.

Prints the table of docs/results.md or docs/recipe.md, and draws it beside the runs. Runs are made once, in ``runs/packs`` and
``runs/ablation`` (whose first row is the first run of the packs), and are judged on the test questions; with ``--print`` only
those are shown that are there, or whose scores are in ``benchmarks/records``; ``--keep`` puts them there.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.records import keep, kept
from efface.cli.compare import markdown
from efface.errors import EffaceError, InputError
from efface.methods import complete_recipe
from efface.pipeline import Run, run_recipe
from efface.recipe import Recipe
from efface.report.page import comparison_plane
from efface.report.table import spread
from efface.results import Audit, is_run

MODEL, PACKS, SEEDS = "smollm2-135m", ("ancient-egypt", "solar-system", "japanese-culture"), 3
#: what is changed, by the name of its run
CHANGES: dict[str, dict[str, Any]] = {
    "tilted-target": {"erase": {"marginal": 0.0}},
    "no-erase": {"erase": {"weight": 0.0}},
    "no-retain": {"retain": {"weight": 0.0}},
    "no-fluency": {"fluency": {"weight": 0.0}},
    "tokens-alike": {"erase": {"keyness": 0.0}},
    "cut-anywhere": {"fluency": {"cloze": 0.0}},
    "long-answers": {"fluency": {"brief": 0}},
    "resist": {"erase": {"resist": 0.001}, "audit": {"relearn_steps": 25}},
    "tokens-only": {"fluency": {"target": "hard"}},
    "words-free": {"fluency": {"keyness": 0.0}},
    "plain-sampling": {"fluency": {"temperature": 1.0, "min_p": 0.0, "no_repeat": 0}},
}


def packs() -> Iterator[tuple[str, Path, Recipe]]:
    """Row, folder and recipe of every run: all packs with the first seed, then with the next."""
    for seed in range(SEEDS):
        for pack in PACKS:
            settings = {"model": MODEL, "concept": pack, "seed": seed, "data": {"seed": seed}}
            yield pack, Path("runs/packs") / f"{pack}-{seed}", complete_recipe(settings)


def ablation() -> Iterator[tuple[str, Path, Recipe]]:
    """Row, folder and recipe of every run; the first is the one of :func:`packs`."""
    yield "default", *next(packs())[1:]
    for name, change in CHANGES.items():
        yield name, Path("runs/ablation") / name, complete_recipe({"model": MODEL, "concept": PACKS[0], **change})


def audits(runs: Iterator[tuple[str, Path, Recipe]], make: bool, put_away: bool = False) -> dict[str, list[Audit]]:
    """The audits of the runs that are there, by row; the others are made first, or left out. put_away: keep their scores."""
    found: dict[str, list[Audit]] = {}
    for row, folder, recipe in runs:
        if make and not is_run(folder):
            print(f"== {folder.name}", file=sys.stderr, flush=True)
            run_recipe(recipe, folder)
        if is_run(folder):
            if Run(folder).record.recipe != recipe:
                raise InputError(f"{folder} was made with another recipe; remove it")
            if put_away:
                keep(Run(folder))
            found.setdefault(row, []).append(Run(folder).audit)
        elif (audit := kept(folder, recipe)) is not None:
            found.setdefault(row, []).append(audit)
    return found


TABLES = {"packs": packs, "ablation": ablation}

if __name__ == "__main__":
    asked = [argument for argument in sys.argv[1:] if argument not in ("--print", "--keep")]
    if len(asked) != 1 or asked[0] not in TABLES:
        print(f"default: expected one of {', '.join(TABLES)}, with --print or --keep or without, got {asked}", file=sys.stderr)
        sys.exit(2)
    try:
        done = audits(TABLES[asked[0]](), "--print" not in sys.argv, "--keep" in sys.argv)
        if not done:
            print("no runs yet")
        else:
            figures = {row: spread(of) for row, of in done.items()}
            together = {"all": [audit for of in done.values() for audit in of]} if asked == ["packs"] else {}
            shown = done | together
            print(markdown({row: spread(of) for row, of in shown.items()}, {row: len(of) for row, of in shown.items()}))
            if (plane := comparison_plane(figures)) is not None:
                Path("runs").mkdir(exist_ok=True)
                Path("runs", f"{asked[0]}.svg").write_text(plane, encoding="utf-8")
    except EffaceError as error:
        sys.exit(f"{asked[0]}: {error}")
