"""A run that is made again is the same; where it is not, what differs is told by how much it can matter."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from efface.cli import main
from efface.errors import InputError
from efface.files import write_json
from efface.recipe.record import Machine, RunRecord
from efface.recipe.resolve import resolve
from efface.runs import reproduce as making
from efface.runs.reproduce import Difference, Figure, Reproduction, compare, differences, original, recipe_again
from efface.runs.run import Run

MACHINE = Machine(device="cpu", dtype="float32", processor="one", threads=2, switches={"mkldnn": "True"})
RECORD = RunRecord(
    recipe=resolve({"model": "m", "concept": "c"}),
    versions={"efface": "1", "torch": "2", "python": "3"},
    hashes={"model": "a", "concept": "b", "adapter": "c"},
    tokens={},
    seconds={},
    losses=[],
    machine=MACHINE,
    sources={"books": "1"},
)


def changed(folder: Path, to: Path, **settings: Any) -> Path:
    """The record of a run, copied, with other settings."""
    content = json.loads((folder / "run.json").read_text())
    content["recipe"] = {**content["recipe"], **settings}
    write_json(to, content)
    return to


def test_it_is_made_again_and_is_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "first")
    assert main(["reproduce", str(folder)]) == 0
    says = capsys.readouterr().out
    assert f"adapter: the same, bit for bit ({run.record.hashes['adapter']})" in says
    assert "NO" not in says
    weights = "adapter/adapter_model.safetensors"
    assert (tmp_path / "first-again" / weights).read_bytes() == (folder / weights).read_bytes()
    monkeypatch.setattr(making, "run_recipe", None)  # what is there is not made again
    assert main(["reproduce", str(folder / "run.json"), "--to", str(tmp_path / "first-again")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "first-again"]


def test_other_inputs_are_not_the_same_run(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever their figures are."""
    again = shutil.copytree(run.folder, tmp_path / "again")
    hashes = {**run.record.hashes, "concept": "another", "adapter": "another"}
    write_json(again / "run.json", run.record.model_copy(update={"hashes": hashes}))
    assert main(["reproduce", str(run.folder), "--to", str(again)]) == 1
    says = capsys.readouterr().out
    assert f"other inputs: it is not the same run\n  concept (hash): {run.record.hashes['concept']} then, another now" in says
    assert "it says nothing of this run" in says


def test_a_record_says_what_computed(run: Run) -> None:
    machine = run.record.machine
    assert machine is not None
    assert (machine.device, machine.dtype, machine.threads) == ("cpu", "float32", torch.get_num_threads())
    assert torch.backends.cpu.get_cpu_capability() in machine.processor
    assert machine.switches["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
    assert Run(run.folder).record.machine == machine
    old = RECORD.model_dump(exclude={"machine"})
    assert RunRecord.model_validate(old).machine is None


@pytest.mark.parametrize(
    ("change", "what", "grade"),
    [
        ({"hashes": {**RECORD.hashes, "model": "z"}}, "model (hash)", "inputs"),
        ({"hashes": {**RECORD.hashes, "concept": "z"}}, "concept (hash)", "inputs"),
        ({"sources": {"books": "2"}}, "corpus books", "inputs"),
        ({"sources": {}}, "corpus books", "inputs"),
        ({"versions": {**RECORD.versions, "efface": "2"}}, "efface", "program"),
        ({"versions": {**RECORD.versions, "torch": "3"}}, "torch", "arithmetic"),
        ({"versions": {**RECORD.versions, "python": "4"}}, "python", "measuring"),
        ({"processes": 2}, "processes", "arithmetic"),
        ({"machine": None}, "machine", "arithmetic"),
        ({"machine": MACHINE.model_copy(update={"threads": 1})}, "threads", "arithmetic"),
        ({"machine": MACHINE.model_copy(update={"switches": {"mkldnn": "False"}})}, "mkldnn", "arithmetic"),
    ],
)
def test_what_differs_is_graded(change: dict[str, Any], what: str, grade: str) -> None:
    assert differences(RECORD, RECORD) == []
    (found,) = differences(RECORD, RECORD.model_copy(update=change))
    assert (found.what, found.grade) == (what, grade)
    assert found.then != found.now


def test_another_precision_is_no_other_model() -> None:
    """Where ``auto`` means another one, the hash of the same weights is another."""
    now = RECORD.model_copy(
        update={
            "hashes": {**RECORD.hashes, "model": "z", "concept": "y"},
            "machine": MACHINE.model_copy(update={"dtype": "bfloat16"}),
        }
    )
    found = {of.what.split()[0]: of.grade for of in differences(RECORD, now)}
    assert found == {"concept": "inputs", "model,": "arithmetic", "dtype": "arithmetic"}
    assert next(iter(found)) == "concept", "what can matter most comes first"


@pytest.mark.parametrize(
    ("adapters", "grade", "now", "holds"),
    [
        ("aa", "inputs", 0.9, True),
        ("ab", "arithmetic", 0.59, True),
        ("ab", "arithmetic", 0.61, False),
        ("ab", "arithmetic", None, False),
        ("ab", "inputs", 0.5, False),
    ],
)
def test_it_holds_by_the_hash_or_by_every_interval(adapters: str, grade: Any, now: float | None, holds: bool) -> None:
    figures = (Figure("gone", 0.5, (0.4, 0.6), now), Figure("leak", 0.5, None, 0.7))
    assert Reproduction(Run(Path()), tuple(adapters), (Difference("x", "1", "2", grade),), figures).holds is holds  # type: ignore[arg-type]


def test_without_figures_only_the_hash_tells(run: Run, tmp_path: Path) -> None:
    alone = original(changed(run.folder, tmp_path / "run.json"))
    assert alone.audit is None
    assert compare(alone, run).holds
    other = run.record.model_copy(update={"hashes": {**run.record.hashes, "adapter": "another"}})
    assert not compare(making.Original(tmp_path, other, None), run).holds


def test_code_that_a_record_names_is_run_only_if_it_is_named(run: Run, tmp_path: Path) -> None:
    reaching = {"method": "evil.py", "trust_remote_code": True, "audit": {"endpoint": "http://x", "attacks": ["evil.py"]}}
    of = original(changed(run.folder, tmp_path / "run.json", **reaching))
    with pytest.raises(
        InputError, match=r"its method is a file and would be run, evil.py; if you trust it, say so with --method"
    ):
        recipe_again(of, {})
    recipe, left_out = recipe_again(of, {"method": "mine.py"})
    assert recipe.method == "mine.py"
    assert (recipe.trust_remote_code, recipe.audit.endpoint, recipe.audit.attacks) == (False, None, ())
    assert set(left_out) == {"trust_remote_code", "audit.endpoint", "audit.attacks"}
    with pytest.raises(InputError, match="was made with elm, which is no file; drop it"):
        recipe_again(original(run.folder), {"method": "mine.py"})


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere"], "nowhere is no finished run; expected a run folder or its run.json"),
        (["begun"], "begun is no finished run; expected a run folder or its run.json; begun.partial is unfinished: give its"),
        (["text"], "text: expected a JSON object"),
        (["{run}", "--to", "{run}"], "expected another folder than that of the run itself"),
        (["{run}", "--to", "begun.partial"], "begun.partial is there and is no run; name another folder with --to"),
        (["{run}", "--to", "other"], "other holds a run of another recipe; name another folder with --to"),
        (["{run}", "--concept", "atlantis"], "no concept pack 'atlantis'"),
        (["{run}", "--model", "./nowhere", "--to", "out"], "no model './nowhere'; say where it is with --model"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    args: list[str], says: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun.partial").mkdir()
    (tmp_path / "begun.partial" / "file").touch()
    (tmp_path / "text").write_text("[]")
    (tmp_path / "other").mkdir()
    changed(run.folder, tmp_path / "other" / "run.json", seed=7)
    before = sorted(tmp_path.rglob("*"))
    assert main(["reproduce", *(arg.format(run=run.folder) for arg in args)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert sorted(tmp_path.rglob("*")) == before
