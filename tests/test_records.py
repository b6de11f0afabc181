"""Scores of finished runs in the repository."""

import shutil
from pathlib import Path

import pytest
from benchmarks import names, records, tables

from efface.auditing.scores import Answer, Audit, Measured, Score
from efface.errors import InputError
from efface.files import write_json
from efface.recipe.record import RunRecord
from efface.recipe.resolve import resolve
from efface.runs.run import Run


def test_a_kept_run_gives_the_same_scores_and_only_to_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    folder, recipe = tmp_path / "runs" / "packs" / "one", resolve({"model": "m", "concept": "c", "preset": "paper"})
    score = Score(value=0.5, n=2, low=0.1, high=0.9, chance=0.25, items=(0.0, 1.0), groups=(0, 0))
    scores = {"choice/forget/acc_norm": score, "choice/forget/acc": score}
    measured = Measured(scores=scores, answers=[Answer(prompt="Who?", text="Nobody.")])
    folder.mkdir(parents=True)
    write_json(folder / "audit.json", Audit(concept="c", split="test", base=measured, erased=measured))
    losses = [{"loss": 1.0}]
    write_json(folder / "run.json", RunRecord(recipe=recipe, versions={}, hashes={}, tokens={}, seconds={}, losses=losses))
    records.keep(Run(folder))
    other = resolve({"model": "m", "concept": "c", "seed": 1})
    with pytest.raises(InputError, match="another recipe"):
        records.find(folder, other)
    shutil.rmtree(folder)
    found = records.find(folder, recipe)
    assert found is not None
    bare = score.model_copy(update={"items": None, "groups": None})
    assert found.audit.erased.scores == {"choice/forget/acc_norm": score, "choice/forget/acc": bare}, "no interval needs acc"
    assert found.audit.erased.answers == []
    assert records.find(folder, other) is None
    unlike = recipe.model_copy(update={"fluency": recipe.fluency.model_copy(update={"weight": 9.0})})
    assert records.find(folder, unlike) is not None, "it has no fluency term"


def test_every_record_in_the_repository_can_be_read() -> None:
    folders = [path.parent for path in records.RECORDS.rglob("run.json")]
    assert folders
    recipes = {of.relative_to(records.RUNS): recipe for table in tables.TABLES.values() for _, of, recipe in table()}
    recipes |= {job.folder.relative_to(records.RUNS): job.recipe for job in names.jobs()}
    for folder in folders:
        recipe = recipes[folder.relative_to(records.RECORDS)]
        assert records.made_from(Run(folder), recipe), f"{folder} was made with another recipe; remove it"
        assert Run(folder).audit.split == "test"
