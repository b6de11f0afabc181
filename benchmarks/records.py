"""Finished runs without weights, losses and texts, in benchmarks/records: a fresh clone prints their tables again."""

from pathlib import Path

from efface.errors import InputError
from efface.pipeline import Run
from efface.recipe import Recipe
from efface.results import Measured, is_run

RUNS, RECORDS = Path("runs"), Path(__file__).parent / "records"


def keep(run: Run) -> None:
    """Write what the tables need of a run: its record, and the scores of its audit."""

    def slim(measured: Measured) -> Measured:
        scores = {name: score.model_copy(update={"items": None}) for name, score in measured.scores.items()}
        return Measured(scores=scores, answers=[])

    audit = run.audit.model_copy(update={"base": slim(run.audit.base), "erased": slim(run.audit.erased)})
    folder = RECORDS / run.folder.resolve().relative_to(RUNS.resolve())
    folder.mkdir(parents=True, exist_ok=True)
    record = run.record.model_copy(update={"losses": []})
    (folder / "audit.json").write_text(audit.model_dump_json(exclude_none=True) + "\n", encoding="utf-8")
    (folder / "run.json").write_text(record.model_dump_json() + "\n", encoding="utf-8")  # None may differ from a default


def find(folder: Path, recipe: Recipe) -> Run | None:
    """The run in this folder, or what was kept of it. Raises InputError for a run that was made from another recipe."""
    if is_run(folder):
        if not made_from(Run(folder), recipe):
            raise InputError(f"{folder} was made with another recipe; remove it")
        return Run(folder)
    kept = Run(RECORDS / folder.relative_to(RUNS))
    return kept if is_run(kept.folder) and made_from(kept, recipe) else None


def made_from(run: Run, recipe: Recipe) -> bool:
    """Whether this is the run's recipe, apart from settings of a fluency term that the run does not have."""
    unused = {"fluency"} - set(run.record.tokens)
    return run.record.recipe.model_dump(exclude=unused) == recipe.model_dump(exclude=unused)
