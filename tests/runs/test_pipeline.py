import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import efface
from efface.runs import inputs, pipeline
from efface.data import store
from efface.errors import ConceptError, InputError, ModelError, RunError, TrainingError
from efface.lm.load import resolve_dtype
from efface.lm.layers import teacher
from efface.runs.run import Run
from efface.runs.pipeline import erase, prepare
from efface.runs.inputs import load_model
from tests.conftest import write_pack

SMALL: dict[str, Any] = {
    "dtype": "float32",
    "data": {"max_tokens": 24, "kept": 6, "neighbours": 4},
    "erase": {"target": "mixed"},  # so that both kinds of target are made
    "fluency": {"texts": 4, "tokens": 8},
    "lora": {"layers": "1-2", "rank": 2},
    "train": {"steps": 4, "batch_size": 2, "checkpoint_steps": 2},
}
FILES = {"adapter", "run.json", "audit.json", "report.html", "README.md"}


@pytest.fixture(scope="module")
def run(model_folders: dict[str, Path], pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    to = tmp_path_factory.mktemp("runs") / "run"
    return erase(str(model_folders["llama"]), str(pack_folder), to=to, **SMALL)


@pytest.fixture
def job(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {"model": str(model_folders["llama"]), "concept": str(pack_folder), "to": tmp_path / "runs" / "run", **SMALL}


def test_a_run_folder_holds_all_and_nothing_else(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} == FILES
    assert {path.name for path in run.folder.parent.iterdir()} == {"run"}
    record, audit = run.record, run.audit
    assert len(record.losses) == 4
    assert set(record.hashes) == {"model", "concept", "adapter"}
    assert all(count > 0 for count in record.tokens.values())
    assert record.versions["torch"] == torch.__version__
    for kind in ("forget", "neighbour", "general"):
        for metric in ("acc", "acc_norm", "acc_mutual_info"):
            score = audit.base.scores[f"choice/{kind}/{metric}"]
            assert score.n == 2
            assert score.low is score.high is None, "no interval from two questions"
    for key in ("open/forget/right", "perplexity/retain/held_out", "perplexity/forget/held_out", "answers/forget/perplexity"):
        assert key in audit.erased.scores
    assert [answer.prompt for answer in audit.base.answers] == ["Who was Orlo?", "What is bread?"]


def test_the_public_names_work(run: Run) -> None:
    assert efface.erase is erase
    assert efface.audit(run.folder, split="test").erased.scores == run.audit.erased.scores
    assert set(efface.__all__) <= set(dir(efface))
    with pytest.raises(AttributeError):
        efface.nothing  # noqa: B018


def test_the_adapter_works_from_plain_transformers_and_peft(run: Run, model_folders: dict[str, Path]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folders["llama"], dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, run.folder / "adapter").eval()
    ours = run.load().model
    ids = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(plain(ids).logits, ours(ids).logits)
    with teacher(ours) as before:
        assert (before(ids).logits - plain(ids).logits).abs().max() > 1e-4


def test_a_finished_run_is_never_replaced_unasked(run: Run, model_folders: dict[str, Path], pack_folder: Path) -> None:
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(RunError, match="already holds a run; name another folder with --to, or replace it with --overwrite"):
        erase(str(model_folders["llama"]), str(pack_folder), to=run.folder, **SMALL)
    assert (run.folder / "run.json").read_bytes() == before


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


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_a_run_is_ever_replaced(job: dict[str, Any], overwrite: bool) -> None:
    job["to"].mkdir(parents=True)
    (job["to"] / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="is there and is no run"):
        erase(**{**job, "overwrite": overwrite})
    for nameless in (".", "/", ".."):
        with pytest.raises(RunError, match="expected the name of a new folder"):
            erase(**{**job, "to": nameless, "overwrite": overwrite})
    assert (job["to"] / "thesis.txt").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_one_line(job: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        erase(**{**job, "to": tmp_path / "file" / "run"})


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"model": "./nowhere/at all"}, ModelError, "no model"),
        ({"concept": "atlantis"}, ConceptError, "no concept pack"),
        ({"lora": {"layers": "4-7"}}, ModelError, "out of range; this model has layers 0 to 2"),
        ({"lora": {"layers": "0", "modules": "c_fc"}}, ModelError, "no linear module 'c_fc'"),
        ({"data": {"min_chars": 5000}}, ConceptError, "characters, expected at least 5000"),
        ({"audit": {"judge": "nowhere/at/all"}}, ModelError, "no model 'nowhere/at/all'"),
        ({"audit": {"judge": "."}}, ModelError, "cannot find model '.'"),
    ],
)
def test_wrong_input_writes_nothing(changes: dict[str, Any], error: type[Exception], says: str, job: dict[str, Any]) -> None:
    with pytest.raises(error) as caught:
        erase(**{**job, **changes})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not job["to"].parent.exists() or not list(job["to"].parent.iterdir())


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


def test_weights_that_are_not_the_runs_are_refused(job: dict[str, Any], tmp_path: Path) -> None:
    """And code that comes with a model is not run because a run folder says so."""
    model = shutil.copytree(job["model"], tmp_path / "model")
    run = erase(**{**job, "model": str(model), "dtype": "auto"})
    record = json.loads((run.folder / "run.json").read_text())
    record["recipe"]["trust_remote_code"] = True
    (run.folder / "run.json").write_text(json.dumps(record))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        load = inputs.load
        patch.setattr(
            inputs, "load", lambda *args, **options: seen.append(options["trust_remote_code"]) or load(*args, **options)
        )
        loaded = run.load()
        run.load(trust_remote_code=True)
        patch.setattr(inputs, "load", lambda *args, **options: load(*args, **{**options, "dtype": other(options["dtype"])}))
        there, hashes = run.load_hashed()  # as on a machine where auto means another precision
    assert seen == [False, True]
    assert there.model.dtype != loaded.model.dtype
    assert hashes["model"] != run.record.hashes["model"]
    other_model = load_model(run.record.recipe)
    other_model.model.lm_head.weight.data += 1.0
    other_model.model.save_pretrained(model)
    with pytest.raises(RunError, match=r"the weights of .* are not those that the run was made from"):
        run.load()
    shutil.copytree(job["model"], model, dirs_exist_ok=True)
    file = run.folder / "adapter" / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}, file)
    with pytest.raises(RunError, match="its adapter is not the one whose hash is in run.json"):
        run.load()


def other(dtype: str) -> str:
    """The precision that ``auto`` does not mean here."""
    here = "bfloat16" if resolve_dtype("auto") == torch.bfloat16 else "float32"
    return {"auto": {"bfloat16": "float32", "float32": "bfloat16"}[here]}.get(dtype, dtype)


def test_several_processes_do_not_relearn(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="audit.relearn_steps: one process relearns"):
        erase(**{**job, "audit": {"relearn_steps": 2}})
    with pytest.raises(InputError, match="audit runs in one process"):
        efface.audit("run")


def test_a_pack_without_questions_is_measured_on_its_texts(job: dict[str, Any], tmp_path: Path) -> None:
    pack = tmp_path / "bare"
    pack.mkdir()
    write_pack(pack, questions=[], open_questions=[])
    scores = erase(**{**job, "concept": str(pack)}).audit.erased.scores
    assert set(scores) == {"perplexity/forget/held_out", "perplexity/retain/held_out", "drift/retain/kl", "drift/forget/kl"}


def test_a_held_out_text_that_is_too_short_is_said_before_any_work(job: dict[str, Any], tmp_path: Path) -> None:
    write_pack(tmp_path)
    with (tmp_path / "retain.jsonl").open("a") as file:
        file.write('{"text": "a", "topic": "it", "split": "held_out"}\n')
    with pytest.raises(ConceptError, match="fewer than two tokens"):
        erase(**{**job, "concept": str(tmp_path)})
    assert not job["to"].parent.exists()


def test_experts_that_stay_as_they_are_are_named(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inputs, "reached", lambda *_: 0.14)
    monkeypatch.setattr(pipeline, "run_stages", lambda *_, **__: (_ for _ in ()).throw(TrainingError("enough")))
    with pytest.raises(TrainingError, match="enough"):
        erase(**job)
    assert "reaches 14% of these layers' weights" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_leaves_nothing(job: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="the loss is "):
        erase(**{**job, "train": {**SMALL["train"], "lr": 1e30, "warmup_steps": 0, "clip": 0.0, "steps": 6}})
    assert list(job["to"].parent.iterdir()) == []


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


def test_what_a_model_wrote_is_escaped(run: Run) -> None:
    from efface.report.page import write_report
    from efface.auditing.scores import Answer

    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    erased = run.audit.erased.model_copy(update={"answers": [Answer(prompt=evil, text=evil)]})
    base = run.audit.base.model_copy(update={"answers": [Answer(prompt=evil, text="fine")]})
    audit = run.audit.model_copy(update={"base": base, "erased": erased})
    write_report(run.folder, audit, run.record)
    page = (run.folder / "report.html").read_text()
    assert evil not in page
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    write_report(run.folder, run.audit, run.record)


def test_results_are_plain_json(run: Run) -> None:
    assert json.loads((run.folder / "audit.json").read_text())["split"] == "test"
    assert json.loads((run.folder / "run.json").read_text())["recipe"]["train"]["steps"] == 4
