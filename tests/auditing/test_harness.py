"""Tasks of the harness, and a pack's questions as such."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from efface.auditing.scorers import harness
from efface.auditing.scorers.choice import score_choices
from efface.auditing.scorers.harness import export_tasks, score_tasks
from efface.auditing.subject import Subject
from efface.cli import main
from efface.concept.pack import Concept
from efface.concept.sources import Source, read_source
from efface.errors import ConceptError, InputError
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings


def test_the_packs_accuracies_are_those_of_lm_eval_itself(
    model_folders: dict[str, Path], llama: Loaded, zorn: Concept, tmp_path: Path
) -> None:
    names = export_tasks(zorn, tmp_path / "tasks")
    assert names == [f"zorn_{kind}_{split}" for kind in ("forget", "general", "neighbour") for split in ("test", "tune")]
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--tasks", "zorn_forget_test"]
    command += ["--model_args", f"pretrained={model_folders['llama']},dtype=float32", "--include_path", str(tmp_path / "tasks")]
    command += ["--log_samples", "--output_path", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("samples_*.jsonl")
    theirs = sorted(map(json.loads, file.read_text().splitlines()), key=lambda sample: sample["doc_id"])
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")
    ours = score_choices(subject)
    settings = AuditSettings(tasks=("zorn_forget_test",), task_folder=str(tmp_path / "tasks"))
    by_name = score_tasks(Subject(llama.model, llama.tokenizer, zorn, "test", settings))
    for metric in ("acc", "acc_norm"):
        expected = tuple(float(sample[metric]) for sample in theirs)
        assert ours[f"choice/forget/{metric}"].items == expected
        assert by_name[f"task/zorn_forget_test/{metric}"].items == expected


def test_no_batch_of_the_harness_holds_more_logits_than_it_may(
    llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, forward, seen = Subject(llama.model, llama.tokenizer, zorn, "test"), type(llama.model).forward, list[int]()

    def counted(self: object, *args: object, **kwargs: object) -> object:
        out = forward(self, *args, **kwargs)
        seen.append(out.logits.numel())
        return out

    monkeypatch.setattr(type(llama.model), "forward", counted)
    whole = score_choices(subject)
    assert max(seen) > 2**15
    seen.clear()
    monkeypatch.setattr(harness, "LOGITS", 2**15)
    assert score_choices(subject) == whole
    assert max(seen) <= 2**15


def test_few_shots_and_chat_format_reach_the_harness(llama: Loaded, zorn: Concept, tmp_path: Path) -> None:
    export_tasks(zorn, tmp_path)
    common = {"tasks": ("zorn_general_test",), "task_folder": str(tmp_path)}
    plain, limited, chat = (
        score_tasks(Subject(llama.model, llama.tokenizer, zorn, "test", AuditSettings(**common, **more)))
        for more in ({}, {"limit": 1}, {"chat": True, "fewshot": 1})
    )
    assert plain["task/zorn_general_test/acc"].n == 2
    assert limited["task/zorn_general_test/acc"].n == 1
    assert chat["task/zorn_general_test/acc"].n == 2


def test_the_harness_asks_nothing_about_its_surroundings(
    llama: Loaded, zorn: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho 'fatal: not a git repository' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    assert score_choices(Subject(llama.model, llama.tokenizer, zorn, "test"))
    assert "fatal" not in capfd.readouterr().err


def test_an_unknown_task_is_one_line(llama: Loaded, zorn: Concept, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the harness has no task 'wmdp_chemistry'"):
        score_tasks(Subject(llama.model, llama.tokenizer, zorn, "test", AuditSettings(tasks=("wmdp_chemistry",))))
    with pytest.raises(InputError, match="no folder"):
        score_tasks(
            Subject(llama.model, llama.tokenizer, zorn, "test", AuditSettings(tasks=("x",), task_folder=str(tmp_path / "no")))
        )


def test_a_data_set_that_cannot_be_built_is_one_line(llama: Loaded, zorn: Concept, tmp_path: Path) -> None:
    export_tasks(zorn, tmp_path)
    (tmp_path / "zorn_general_test.jsonl").write_text('{"stem": "a"}\n{"stem"')
    settings = AuditSettings(tasks=("zorn_general_test",), task_folder=str(tmp_path))
    with pytest.raises(InputError, match="'zorn_general_test' cannot be run: ") as caught:
        score_tasks(Subject(llama.model, llama.tokenizer, zorn, "test", settings))
    assert "\n" not in str(caught.value)


def test_downloads_are_not_counted(llama: Loaded, zorn: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    score_choices(Subject(llama.model, llama.tokenizer, zorn, "test"))
    assert not datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    with pytest.raises(ConceptError):
        read_source(Source(hub=str(tmp_path)))
    assert not datasets.config.HF_UPDATE_DOWNLOAD_COUNTS


def test_a_pack_without_questions_names_its_public_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["concept", "tasks", "wmdp-bio"]) == 2
    assert "wmdp-bio has no choice questions of its own; its public tasks: " in capsys.readouterr().err
