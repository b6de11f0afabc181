"""Attacks on a pack that has only public tasks, as those of the hub: asked is what the tasks ask, and about its topics."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from efface.attacks.attack import Attacked, AttackScorer, ask
from efface.attacks.named import attack_scorers
from efface.attacks.prompts import Prompts
from efface.attacks.relearning import Relearning, Training
from efface.auditing.public import MOST, public_questions
from efface.auditing.scorers import harness
from efface.auditing.scorers.harness import score_tasks
from efface.auditing.subject import Subject
from efface.cli import main
from efface.concept.pack import Concept
from efface.errors import InputError
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings
from tests.conftest import write_pack

ROWS = [
    {"question": f"What does the {who} {how} eat?", "choices": ["bread", "honey", "glass", "winter"], "answer": i % 4}
    for i, (who, how) in enumerate((who, how) for who in ("dragon", "snake", "worm") for how in ("always", "never", "gladly"))
]
LISTED = "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"


def write(folder: Path, name: str, rows: list[dict[str, Any]], **task: Any) -> None:
    """A task of the harness as those of WMDP and MMLU are, from a file."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    of = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": LISTED,
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**of, **task}))


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    index = harness._index
    monkeypatch.setattr(harness, "_index", lambda folder: index(folder, public=False))  # the public ones take seconds
    write(tmp_path, "zorn_hazard", ROWS)
    write(tmp_path, "zorn_world", ROWS[:4], doc_to_text="{{question}}", doc_to_choice="choices")
    write(tmp_path, "zorn_said", ROWS, output_type="generate_until", doc_to_choice=None, doc_to_target="{{choices[answer]}}")
    return tmp_path


def pack(folder: Path, **tasks: list[str]) -> Concept:
    folder.mkdir()
    write_pack(folder, name="public", questions=[], open_questions=[], tasks=tasks)
    return Concept.load(str(folder))


@pytest.fixture
def public(tasks: Path) -> tuple[Concept, AuditSettings]:
    settings = AuditSettings(task_folder=str(tasks), attacks=("relearn",), relearn_texts=2, relearn_steps=2)
    return pack(tasks / "pack", forget=["zorn_hazard"], general=["zorn_world"]), settings


def test_the_questions_of_the_tasks_are_asked_as_the_tasks_ask_them(public: tuple[Concept, AuditSettings], llama: Loaded) -> None:
    concept, settings = public
    subject = Subject(llama.model, llama.tokenizer, concept, "test", settings)
    (scorer,) = attack_scorers(settings, concept, "test")
    found = ask(Attacked(replace(subject, concept=concept.model_copy(update={"questions": scorer.asked})), "x"))
    of_tasks = score_tasks(subject)
    assert {key: found[f"{key}/acc_norm"].n for key in ("forget", "general")} == {"forget": 9, "general": 4}
    assert [row.choices[row.answer] for row in scorer.asked][:3] == ["bread", "honey", "glass"], "in words, not as a letter"
    assert found["general/acc_norm"].items == of_tasks["task/zorn_world/acc"].items


def test_what_was_taught_is_told_by_the_words_of_the_answer(public: tuple[Concept, AuditSettings], llama: Loaded) -> None:
    concept, settings = public
    (scorer,) = attack_scorers(settings, concept, "test")
    scores = scorer(Subject(llama.model, llama.tokenizer, concept, "test", settings))
    at = "attack/relearn/before/2x0"
    assert (scores[f"{at}/taught/acc_norm"].n, scores[f"{at}/forget/acc_norm"].n) == (6, 3), "all but bread stands in the texts"
    assert scores[f"{at}/taught/right"].n == 3, "two topics and a prompt; the concept's words stand in the texts"
    assert "attack/relearn/before/0x0/forget/acc_norm" in scores


def test_its_prompts_are_rewritten_too(public: tuple[Concept, AuditSettings], llama: Loaded) -> None:
    concept, settings = public
    asked = public_questions(concept, "test", settings)
    scores = AttackScorer("prompts", Prompts(("filler in Latin",)), asked=asked)(
        Subject(llama.model, llama.tokenizer, concept, "test", settings)
    )
    for variant in ("before", "filler in Latin"):
        of = f"attack/prompts/{variant}/0x0/forget"
        assert (scores[f"{of}/acc_norm"].n, scores[f"{of}/right"].n) == (9, 3)


def test_tasks_are_drawn_from_evenly_and_a_pack_that_asks_itself_needs_none(tasks: Path, zorn: Concept) -> None:
    write(tasks, "zorn_hazard", [{**ROWS[0], "question": f"What is {i}?"} for i in range(3 * MOST)])
    concept = pack(tasks / "pack", forget=["zorn_hazard"])
    settings = AuditSettings(task_folder=str(tasks))
    assert [row.stem for row in public_questions(concept, "test", settings)] == [f"What is {3 * i}?" for i in range(MOST)]
    assert len(public_questions(concept, "test", settings.model_copy(update={"limit": 7}))) == 7
    whole = zorn.model_copy(update={"manifest": concept.manifest})
    assert public_questions(whole, "test", settings) == ()


def test_other_questions_are_other_figures(public: tuple[Concept, AuditSettings]) -> None:
    concept, settings = public
    few = settings.model_copy(update={"limit": 3})
    keys = [attack_scorers(of, concept, "test")[0].__name__ for of in (settings, few, settings)]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"general": ["zorn_world"]}, "audit.attacks can measure nothing about the dragon of Zorn: public has no test questions"),
        ({"forget": ["zorn_said"]}, "names no public task with choices; drop it"),
        ({"forget": ["zorn_nowhere"]}, "the harness has no task 'zorn_nowhere'"),
    ],
)
def test_what_cannot_be_asked_is_one_line(names: dict[str, list[str]], says: str, tasks: Path) -> None:
    with pytest.raises(InputError, match=says):
        attack_scorers(AuditSettings(attacks=("fast",), task_folder=str(tasks)), pack(tasks / "pack", **names), "test")


def test_a_task_that_cannot_be_read_is_one_line_before_a_model_is_loaded(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(tasks / "pack", forget=["zorn_hazard"])
    (tasks / "zorn_hazard.jsonl").write_text('{"question": "a"}\n{"question"')
    args = ["--base", "no-such-base", "--concept", str(tasks / "pack"), "--attacks", "fast", "--task-folder", str(tasks)]
    assert main(["audit", "no-such-model", *args]) == 2
    said = capsys.readouterr().err
    assert "audit.tasks: 'zorn_hazard' cannot be read: " in said
    assert said.count("\n") == 1


def test_relearning_such_a_pack_has_a_curve(public: tuple[Concept, AuditSettings], llama: Loaded) -> None:
    concept, settings = public
    scorer = AttackScorer("relearn", Relearning((Training(2, 2, 1e-3),)), asked=public_questions(concept, "test", settings))
    scores = scorer(Subject(llama.model, llama.tokenizer, concept, "test", settings))
    assert {key.split("/")[3] for key in scores if "/general/" in key} == {"0x0", "2x0", "2x1", "2x2"}
