"""A job from end to end: what is in the run folder, what is never replaced, what is refused before any work."""

from pathlib import Path
from typing import Any

import pytest
import torch

import efface
from efface.errors import ConceptError, InputError, ModelError, RunError, TrainingError
from efface.runs import inputs, pipeline
from efface.runs.pipeline import erase
from efface.runs.run import Run
from tests.conftest import write_pack
from tests.runs.conftest import FILES, SMALL


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


def test_a_finished_run_is_never_replaced_unasked(run: Run, model_folders: dict[str, Path], pack_folder: Path) -> None:
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(RunError, match="already holds a run; name another folder with --to, or replace it with --overwrite"):
        erase(str(model_folders["llama"]), str(pack_folder), to=run.folder, **SMALL)
    assert (run.folder / "run.json").read_bytes() == before


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


def test_several_processes_do_not_attack(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="audit.attacks: one process attacks"):
        erase(**{**job, "audit": {"attacks": ["relearn"]}})
    with pytest.raises(InputError, match="audit runs in one process"):
        efface.audit("run")


def test_a_pack_without_questions_is_measured_on_its_texts_topics_and_prompts(job: dict[str, Any], tmp_path: Path) -> None:
    pack = tmp_path / "bare"
    pack.mkdir()
    write_pack(pack, questions=[], open_questions=[])
    scores = erase(**{**job, "concept": str(pack)}).audit.erased.scores
    assert {"perplexity/forget/held_out", "perplexity/retain/held_out", "drift/retain/kl", "drift/forget/kl"} <= set(scores)
    assert {key.split("/")[0] for key in scores} == {"perplexity", "drift", "answers", "said", "recognised"}
    assert {"answers/forget/repeated_4grams", "said/forget/defined"} <= set(scores)
    assert not [key for key in scores if key.endswith("/right")], "nothing says what is right"


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
