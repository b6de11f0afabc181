"""A pack without questions, as those of the hub are: what can be measured is, and what cannot is refused."""

from pathlib import Path

import pytest

from efface.auditing.measurable import require_measurable
from efface.auditing.pair import Pair, audit_pair
from efface.auditing.scorers.judge import score_judged
from efface.auditing.scores import Audit
from efface.auditing.subject import ASK, Subject
from efface.cli import main
from efface.cli.recipe import audit_settings
from efface.concept.pack import Concept
from efface.errors import InputError
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings
from efface.runs.pipeline import erase
from tests.conftest import write_pack


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """The pack about Zorn, with prompts but without questions."""
    folder = tmp_path / "silent"
    folder.mkdir()
    write_pack(folder, name="silent", questions=[], open_questions=[])
    return folder


def test_topics_and_prompts_serve_where_there_are_no_open_questions(silent: Path, zorn: Concept, llama: Loaded) -> None:
    subject = Subject(llama.model, llama.tokenizer, Concept.load(str(silent)), "test")
    topics = [ASK.format(topic) for topic in ("the dragon", "the tower of Zorn")]
    assert subject.questions == [*topics, "Who was Orlo?"], "bread is nothing of Zorn's"
    assert Subject(llama.model, llama.tokenizer, zorn, "test").questions == ["What does the dragon eat?"]


def test_seamlessness_of_such_a_pack_is_measured_and_its_judge_read(
    silent: Path, llama: Loaded, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    concept, other = Concept.load(str(silent)), str(model_folders["qwen2"])

    def measured(**settings: object) -> Audit:
        return audit_pair(Pair(llama, llama.model), concept, settings=AuditSettings.model_validate(settings))

    plain, judged = measured(), measured(judge=other)
    scores = plain.erased.scores
    assert {"repeated_4grams", "distinct_2grams", "entropy", "ends", "perplexity"} <= {
        key.rpartition("/")[2] for key in scores if key.startswith("answers/forget/")
    }
    assert scores["answers/forget/perplexity"].n == scores["said/forget/concept_words"].n == 3
    assert scores["recognised/forget/nats"].n == 3
    assert judged.erased.scores["answers/forget/perplexity"].value != pytest.approx(scores["answers/forget/perplexity"].value)
    monkeypatch.setattr("efface.lm.endpoint.Endpoint.ask", lambda *_, **__: "Score: 7")
    subject = Subject(llama.model, llama.tokenizer, concept, "test", AuditSettings(endpoint="http://judge"))
    assert score_judged(subject)["judge/forget/fluency"].n == 3


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"samples": 4}, "audit.samples can measure nothing about the dragon of Zorn: silent has no open test questions on it"),
        ({"depth": True}, "audit.depth can measure nothing about the dragon of Zorn: silent has fewer than five sets of choices"),
        (
            {"fewshot": 5},
            "audit.fewshot can measure nothing about the dragon of Zorn: neither audit.tasks nor silent names",
        ),
        ({"chat": True}, "audit.chat can measure nothing"),
        ({"limit": 5}, "audit.limit can measure nothing"),
        ({"task_folder": "tasks"}, "audit.task_folder can measure nothing"),
        (
            {"relearn_lr": 1e-4},
            "audit.relearn_lr can measure nothing about the dragon of Zorn: audit.attacks names no",
        ),
        (
            {"suffix_questions": 4, "attacks": ("fast",)},
            "audit.suffix_questions can measure nothing about the dragon of Zorn: audit.attacks names none of beast, gcg, all;",
        ),
        ({"endpoint_model": "m"}, "audit.endpoint_model can measure nothing"),
    ],
)
def test_what_can_measure_nothing_is_refused(said: dict[str, object], says: str, silent: Path) -> None:
    concept = Concept.load(str(silent))
    for settings in (AuditSettings.model_validate(said), audit_settings(said, AuditSettings())):
        with pytest.raises(InputError) as caught:
            require_measurable(settings, concept, "test")
        assert says in str(caught.value)
    whole = AuditSettings.model_validate({**AuditSettings().model_dump(), **said})
    require_measurable(whole, concept, "test")  # as in the record of a run


def test_what_is_measured_or_was_not_said_is_not_refused(silent: Path, zorn: Concept) -> None:
    concept = Concept.load(str(silent))
    for said in ({}, {"samples": 0}, {"depth": False}, {"judge": "m"}, {"endpoint": "http://j"}, {"tasks": ["a"], "limit": 5}):
        require_measurable(AuditSettings.model_validate(said), concept, "test")
    require_measurable(AuditSettings(samples=4, attacks=("relearn",), relearn_lr=1e-4), zorn, "test")
    tasks = concept.manifest.model_copy(update={"tasks": {"forget": ("wmdp_bio",)}})
    require_measurable(AuditSettings(limit=5), concept.model_copy(update={"manifest": tasks}), "test")


def test_it_is_one_line_before_a_model_is_loaded(silent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says = "audit.samples can measure nothing"
    with pytest.raises(InputError, match=says):
        erase("no-such-model", str(silent), to=tmp_path / "run", audit={"samples": 2})
    assert not list(tmp_path.glob("run*"))
    assert main(["audit", "no-such-model", "--base", "no-such-base", "--concept", str(silent), "--samples", "2"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
