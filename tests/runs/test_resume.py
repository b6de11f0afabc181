"""What was killed, or failed, goes on with what it has, in a folder of its own until it is whole."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from efface.data import store
from efface.errors import InputError, RunError, TrainingError
from efface.runs import pipeline
from efface.runs.pipeline import erase, prepare
from efface.runs.run import Run
from tests.conftest import write_pack
from tests.runs.conftest import FILES, SMALL


@pytest.mark.parametrize("stage", ["train", "audit_pair", "write_report"])
def test_killed_at_any_stage_it_goes_on_to_the_same_adapter(
    stage: str, run: Run, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(pipeline, stage)

    def killed(*arguments: Any, **options: Any) -> None:
        if stage == "train":
            original(*arguments, **options)  # trained, but not yet saved
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, stage, killed)
    with pytest.raises(KeyboardInterrupt):
        erase(**job)
    assert not job["to"].exists()
    monkeypatch.undo()
    again = erase(**job)
    assert {path.name for path in again.folder.parent.iterdir()} == {"run"}
    assert again.record.hashes == run.record.hashes
    assert again.audit == run.audit


def test_killed_while_preparing_it_goes_on_with_what_the_store_has(
    run: Run, job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache"))
    write, written = store.write, list[str]()

    def killed_after_two(path: Path, *arguments: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *arguments)

    monkeypatch.setattr(store, "write", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        prepare(**{name: value for name, value in job.items() if name != "to"})
    monkeypatch.setattr(store, "write", lambda path, *arguments: (written.append(path.name), write(path, *arguments)))
    prepared = prepare(**{name: value for name, value in job.items() if name != "to"})
    assert prepared.keys() == {"erase", "retain", "fluency"}
    assert len(set(written)) == len(written) > 2, "nothing twice"
    everything = len(written)
    assert erase(**job).record.hashes == run.record.hashes
    assert len(written) == everything


def test_an_unfinished_run_of_another_recipe_is_not_mixed_in(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "audit_pair", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        erase(**job)
    monkeypatch.undo()
    with pytest.raises(RunError, match="holds an unfinished run of another recipe, model, pack or method file"):
        erase(**{**job, "seed": 1})
    assert erase(**{**job, "seed": 1, "overwrite": True}).record.recipe.seed == 1


def test_what_is_replaced_is_whole_until_the_new_run_is(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    folder = erase(**job).folder
    again = {**job, "seed": 1, "overwrite": True}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(**again)
    assert Run(folder).record.recipe.seed == 0
    rename = Path.rename
    with monkeypatch.context() as patch:  # the old one is out of the way, the new one has no name yet
        patch.setattr(Path, "rename", lambda path, to: rename(path, to) if path == folder else killed())
        with pytest.raises(KeyboardInterrupt):
            erase(**again)
    assert not folder.exists()
    assert erase(**again).record.recipe.seed == 1
    assert sorted(path.name for path in folder.parent.iterdir() if folder.name in path.name) == [folder.name]


def test_a_pack_that_changed_meanwhile_is_another_run(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path / "zorn"
    pack.mkdir()
    write_pack(pack)
    job = {**job, "concept": str(pack)}
    monkeypatch.setattr(pipeline, "train", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        erase(**job)
    monkeypatch.undo()
    (pack / "open.jsonl").write_text("")
    with pytest.raises(RunError, match="another recipe, model, pack or method file"):
        erase(**job)


def test_killed_just_before_the_end_it_only_gets_its_name(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        erase(**job)
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "audit_pair", None)
    monkeypatch.setattr(pipeline, "train", None)  # nothing is done again
    assert {path.name for path in erase(**job).folder.iterdir()} == FILES


def test_a_full_disk_is_one_line_and_the_work_goes_on(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="is full; free some space and give the same command again to go on"):
        erase(**job)
    assert not job["to"].exists()
    monkeypatch.undo()
    assert erase(**job).record.losses


def test_what_fails_after_the_training_does_not_cost_the_training(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise InputError("the judge cannot be reached")

    monkeypatch.setattr(pipeline, "audit_pair", fails)
    with pytest.raises(InputError, match="the judge cannot be reached"):
        erase(**job)
    monkeypatch.undo()
    partial = job["to"].with_name("run.partial")
    assert (partial / "adapter" / "adapter_model.safetensors").is_file()
    trained = json.loads((partial / "seconds.json").read_text())["train"]
    monkeypatch.setattr(pipeline, "train", None)  # it is not trained again, and another audit is no other training
    record = erase(**{**job, "audit": {"samples": 1}}).record
    assert record.recipe.audit.samples == 1
    assert record.seconds["train"] >= trained
    assert {path.name for path in job["to"].iterdir()} == FILES


def test_a_run_that_was_measured_in_another_way_is_measured_again(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            erase(**job)
    finished = erase(**{**job, "audit": {"samples": 0}})
    assert finished.record.recipe.audit.samples == 0
    assert "open/forget/leak" not in finished.audit.erased.scores


def test_two_commands_do_not_work_in_one_folder(job: dict[str, Any]) -> None:
    with pipeline.alone(job["to"].with_name("run.partial")), pytest.raises(RunError, match="another command is working in"):
        erase(**job)
    assert erase(**job).record.losses


def test_an_error_removes_only_what_its_call_began(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    partial = job["to"].with_name("run.partial")
    steps = {"train": {**SMALL["train"], "steps": 6, "checkpoint_steps": 2}}

    def diverges(*given: Any) -> Any:
        losses = train(*given)
        raise TrainingError(f"the loss is nan after {len(losses)}")

    train = pipeline.train
    monkeypatch.setattr(pipeline, "train", diverges)
    with pytest.raises(TrainingError, match="the loss is nan"):
        erase(**{**job, **steps})
    kept = sorted(path.name for path in (partial / "checkpoints").glob("checkpoint-*"))
    assert kept, "a training on its way"
    monkeypatch.setenv("EFFACE_STORE_GB", "lots")
    with pytest.raises(InputError, match="EFFACE_STORE_GB"):
        erase(**{**job, **steps})
    assert sorted(path.name for path in (partial / "checkpoints").glob("checkpoint-*")) == kept
    monkeypatch.delenv("EFFACE_STORE_GB")
    monkeypatch.undo()
    assert erase(**{**job, **steps}).record.losses
    assert not partial.exists()
