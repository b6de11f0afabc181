"""The tables of docs/results.md and docs/recipe.md, printed and drawn.

``make packs``: the default recipe on three packs with three seeds. ``make methods``: every method and preset on the first pack,
as many trained tokens as the default has. ``make strangers``: preset ``strangers`` beside the default, on the packs and on one of
foreign making. ``make ablation``: the default with one part changed at a time. ``make recovery``: what it takes to get the
knowledge back after the default, on the packs with the seeds, and after other methods.
Runs are made once, in ``runs/`` and the name of the table, and are judged on the test questions. With ``--print`` only those are
shown that are there, or whose scores are in ``benchmarks/records``; ``--keep`` puts them there.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.records import find, keep
from benchmarks.recovery import attacked, recovery_table
from efface.auditing.scores import Audit
from efface.cli.compare import mark, markdown
from efface.errors import EffaceError, TrainingError
from efface.methods import complete_recipe
from efface.recipe.recipe import Recipe, merge
from efface.report.forms import Cell, table
from efface.report.judged import gone, kept
from efface.report.page import comparison_plane
from efface.report.table import spread
from efface.runs.audit import audit
from efface.runs.folder import is_run
from efface.runs.pipeline import run_recipe
from efface.runs.run import Run
from efface.search.compare import contender, contenders, short

MODEL, PACKS, SEEDS = "smollm2-135m", ("ancient-egypt", "solar-system", "japanese-culture"), 3
#: what an outsider would bring: encyclopaedia paragraphs, unrelated sentences to keep; no recipe was tuned on it
FOREIGN = "benchmarks/foreign/american-civil-war"
#: target tokens of every other method's run, by seed: what the default recipe had when the first of them were made
TOKENS = (111_824, 110_674, 110_989)
#: whose runs are attacked too
ATTACKED = ("npo", "rmu", "simnpo", "repnoise", "circuit_breakers", "cir", "paper")
#: what is changed, by the name of its run
CHANGES: dict[str, dict[str, Any]] = {
    "tilted-target": {"erase": {"target": "tilted", "marginal": 0.0}},
    "no-erase": {"erase": {"weight": 0.0}},
    "no-retain": {"retain": {"weight": 0.0}},
    "no-fluency": {"fluency": {"weight": 0.0}},
    "tokens-alike": {"erase": {"keyness": 0.0}},
    "cut-anywhere": {"fluency": {"cloze": 0.0}},
    "long-answers": {"fluency": {"brief": 0}},
    "tokens-only": {"fluency": {"target": "hard"}},
    "words-free": {"fluency": {"keyness": 0.0}},
    "plain-sampling": {"fluency": {"temperature": 1.0, "min_p": 0.0, "no_repeat": 0}},
}


def packs() -> Iterator[tuple[str, Path, Recipe]]:
    """Row, folder and recipe of every run: all packs with the first seed, then with the next."""
    for seed in range(SEEDS):
        for pack in PACKS:
            settings = {"model": MODEL, "concept": pack, "seed": seed, "data": {"seed": seed}}
            yield pack, Path("runs/packs") / f"{Path(pack).name}-{seed}", complete_recipe(settings)


def strangers() -> Iterator[tuple[str, Path, Recipe]]:
    """Row, folder and recipe of every run: preset strangers; in many forms, then with the stranger as erase target; the default.

    What only plain passages have is switched off in the rows with forms, and does nothing there.
    """
    forms: dict[str, Any] = {"preset": "strangers", "retain": {"ratio": 2}, "data": {"forms": 2, "mentioned": 0.0}}
    stranger = {"erase": {"target": "stranger", "weight": 2.0}}
    for row, settings in {
        "strangers": {"preset": "strangers"},
        "forms-stranger": {**forms, **stranger},
        "forms-marginal": merge(forms, {"data": {"quiz": 0.5}, "train": {"batch_size": 6}}),
        "default": {},
    }.items():
        for pack in (*PACKS, FOREIGN):
            name = Path(pack).name
            recipe = complete_recipe({"model": MODEL, "concept": pack, **settings}, strict=False)
            yield f"{name}, {row}", Path("runs/strangers") / f"{name}-{row}", recipe


def ablation() -> Iterator[tuple[str, Path, Recipe]]:
    """Row, folder and recipe of every run; the first is the one of :func:`packs`."""
    yield "default", *next(packs())[1:]
    for name, change in CHANGES.items():
        yield name, Path("runs/ablation") / name, complete_recipe({"model": MODEL, "concept": PACKS[0], **change}, strict=False)


def methods() -> Iterator[tuple[str, Path, Recipe]]:
    """Row, folder and recipe of every run: all methods with the first seed, then with the next; first those of :func:`packs`."""
    first, *others = contenders(["all"])
    common = {"model": MODEL, "concept": PACKS[0]}
    for seed in range(SEEDS):
        yield first, Path("runs/packs") / f"{Path(PACKS[0]).name}-{seed}", contender(first, seed, None, common)
        for name in others:
            yield name, Path("runs/methods") / f"{short(name)}-{seed}", contender(name, seed, TOKENS[seed], common)


def recovery() -> Iterator[tuple[str, Path, Recipe]]:
    """Row, folder and recipe of every run: those of :func:`packs`, and methods with the first seed; relearning in their audits.

    Of the methods little else is measured: :func:`methods` does.
    """
    for pack, folder, recipe in packs():
        yield pack, folder, _with(recipe, attacks=("relearn",))
    for name, folder, recipe in methods():
        if folder.name.endswith("-0") and name in ATTACKED:
            row = f"{PACKS[0]}, {name}"
            yield row, Path("runs/recovery") / folder.name, _with(recipe, attacks=("relearn",), samples=0, depth=False)


def _with(recipe: Recipe, **settings: Any) -> Recipe:
    return recipe.model_copy(update={"audit": recipe.audit.model_copy(update=settings)})


def audits(runs: Iterator[tuple[str, Path, Recipe]], make: bool, put_away: bool = False) -> dict[str, list[Audit]]:
    """The audits of the runs that are there, by row; the others are made first, or left out. put_away: keep their scores."""
    found: dict[str, list[Audit]] = {}
    for row, folder, recipe in runs:
        if make and _measured(folder, recipe) is None:
            print(f"== {folder.name}", file=sys.stderr, flush=True)
            try:
                _measure(folder, recipe)
            except TrainingError as error:  # some methods do not survive some settings
                print(f"{folder.name} is left out: {error}", file=sys.stderr, flush=True)
        if (run := _measured(folder, recipe)) is not None:
            if put_away and run.folder == folder:
                keep(run)
            found.setdefault(row, []).append(run.audit)
    return found


def _measured(folder: Path, recipe: Recipe) -> Run | None:
    """The run, or what was kept of it, if it was attacked where the recipe says so."""
    run = find(folder, recipe)
    return run if run is not None and (attacked(run.audit) or not recipe.audit.attacks) else None


def _measure(folder: Path, recipe: Recipe) -> None:
    if is_run(folder) and find(folder, recipe) is not None:
        audit(folder, settings=recipe.audit, to=folder)
    else:
        run_recipe(recipe, folder)


def bases(found: dict[str, list[Audit]]) -> str:
    """What the table has no column for: the base models' own figures, and the choice questions by other metrics than acc_norm."""
    wanted = {"acc_norm": "choice/forget/acc_norm", "open": "open/forget/right", "leak": "open/forget/leak"}
    wanted |= {"repeated": "answers/forget/repeated_4grams", "open, neighbours": "open/neighbour/right"}
    lines = ["", "| base | " + " | ".join(wanted) + " |", "|---" * (len(wanted) + 1) + "|"]
    for row, audits in found.items():
        means = (fmean(audit.base.scores[key].value for audit in audits) for key in wanted.values())
        lines.append(f"| {row} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    lines += ["", "| choice questions, by | forget, base | forget | gone | neighbours | general |", "|---" * 6 + "|"]
    for row, audits in found.items():
        for metric in ("acc", "acc_norm", "acc_mutual_info"):
            base, erased = (
                fmean(getattr(audit, who).scores[f"choice/forget/{metric}"].value for audit in audits)
                for who in ("base", "erased")
            )
            shares = (
                [gone(audit, metric) for audit in audits],
                *([kept(audit, f"choice/{kind}/{metric}") for audit in audits] for kind in ("neighbour", "general")),
            )
            cells = (f"{base:.3f}", f"{erased:.3f}", *map(_mean, shares))
            lines.append(f"| {row}, {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_forms(found: dict[str, list[Audit]]) -> str:
    """Per cent right in every form, base and erased; means over the runs of a row."""
    lines = ["", "| asked | concept | neighbours | general | open |", "|---" * 5 + "|"]
    for row, audits in found.items():
        tables = [table(audit) for audit in audits]
        for asked in zip(*tables, strict=True):
            how, cells = asked[0][0], zip(*(cells for _, cells in asked), strict=True)
            lines.append(f"| {row}: {how} | " + " | ".join(f"{_percent(of, 0)} → {_percent(of, 1)}" for of in cells) + " |")
    return "\n".join(lines)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.2f}" if len(known) == len(values) else "–"


def _percent(cells: Sequence[Cell], side: int) -> str:
    scores = [cell[:2][side] for cell in cells]
    values = [100 * score.value for score in scores if score is not None]
    return f"{fmean(values):.0f}" if values else "–"


TABLES = {"packs": packs, "strangers": strangers, "methods": methods, "ablation": ablation, "recovery": recovery}


def show(name: str, found: dict[str, list[Audit]]) -> None:
    """Print a table, and draw its plane into runs/."""
    if name == "recovery":
        print(recovery_table(found))
        return
    together = found | ({"all": [audit for of in found.values() for audit in of]} if name == "packs" else {})
    shown = {row: spread(of) for row, of in together.items()}
    marked = {row: mark(row, of) for row, of in together.items()}
    counts = {marked[row]: len(of) for row, of in together.items()}
    print(markdown({marked[row]: of for row, of in shown.items()}, counts))
    if name in ("packs", "strangers"):
        print(bases(together))
    if name == "strangers":
        print(in_forms(found))
    if (plane := comparison_plane({row: shown[row] for row in found})) is not None:
        Path("runs").mkdir(exist_ok=True)
        Path("runs", f"{name}.svg").write_text(plane, encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Make the runs that are not there, print their table. Exit code: 0; 1: a run cannot be made; 2: wrong arguments."""
    asked = [argument for argument in arguments if argument not in ("--print", "--keep")]
    if len(asked) != 1 or asked[0] not in TABLES:
        print(f"tables: expected one of {', '.join(TABLES)}, with --print or --keep or without, got {asked}", file=sys.stderr)
        return 2
    try:
        found = audits(TABLES[asked[0]](), "--print" not in arguments, "--keep" in arguments)
    except EffaceError as error:
        print(f"{asked[0]}: {error}", file=sys.stderr)
        return 1
    if found:
        show(asked[0], found)
    else:
        print("no runs yet")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
