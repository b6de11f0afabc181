"""Finished runs without weights, losses and texts, in benchmarks/records: a fresh clone prints their tables again."""

from pathlib import Path
from typing import Any

from efface.auditing.scores import Audit, Measured
from efface.errors import InputError
from efface.recipe.recipe import Recipe
from efface.recipe.settings import AuditSettings
from efface.report.intervals import used
from efface.report.judged import JUDGED, judged
from efface.runs.folder import is_run
from efface.runs.run import Run

RUNS, RECORDS = Path("runs"), Path(__file__).parent / "records"


def keep(run: Run, answers: int = 0) -> None:
    """Write what the tables need of a run: its record, and of its audit what :func:`keep_audit` keeps."""
    keep_audit(run.folder, run.audit, answers)
    record = run.record.model_copy(update={"losses": []})
    (kept_of(run.folder) / "run.json").write_text(
        record.model_dump_json() + "\n", encoding="utf-8"
    )  # None may differ from a default


def keep_audit(folder: Path, whole: Audit, answers: int = 0) -> None:
    """Write the scores of an audit, the items from which intervals are drawn, and so many answers to the pack's prompts."""
    reads = [used(whole, figure.of, judged(whole)) for figure in JUDGED.values()]

    def slim(measured: Measured, needed: set[str]) -> Measured:
        bare = dict.fromkeys(("items", "groups", "tokens"))
        scores = measured.scores.items()
        kept = {name: score if name in needed else score.model_copy(update=bare) for name, score in scores}
        said = [answer.model_copy(update={"pieces": ()}) for answer in measured.answers[:answers]]
        return Measured(scores=kept, answers=said)

    base, erased = ({key for read in reads for key in read[side]} for side in (0, 1))
    audit = whole.model_copy(update={"base": slim(whole.base, base), "erased": slim(whole.erased, erased)})
    kept_of(folder).mkdir(parents=True, exist_ok=True)
    (kept_of(folder) / "audit.json").write_text(audit.model_dump_json(exclude_none=True) + "\n", encoding="utf-8")


def kept_of(folder: Path) -> Path:
    """Where a folder of runs is kept."""
    return RECORDS / folder.resolve().relative_to(RUNS.resolve())


def find(folder: Path, recipe: Recipe) -> Run | None:
    """The run in this folder, or what was kept of it. Raises InputError for a run that was made from another recipe."""
    if is_run(folder):
        if not made_from(Run(folder), recipe):
            raise InputError(f"{folder} was made with another recipe; remove it")
        return Run(folder)
    kept = Run(RECORDS / folder.relative_to(RUNS))
    return kept if is_run(kept.folder) and made_from(kept, recipe) else None


#: attacks are made on what is there, whenever
ATTACKS = {"attacks", *(name for name in AuditSettings.model_fields if name.startswith("relearn_"))}


def made_from(run: Run, recipe: Recipe) -> bool:
    """Whether this is the run's recipe, apart from attacks, and from settings of a fluency term that the run does not have."""
    unused: dict[str, Any] = {"audit": ATTACKS} | ({} if "fluency" in run.record.tokens else {"fluency": True})
    return run.record.recipe.model_dump(exclude=unused) == recipe.model_dump(exclude=unused)
