"""What is said: open questions in forms, the leak curve, and whether the concept is recognised."""

import itertools
from pathlib import Path

import pytest
import torch

import efface.auditing.scorers.said as module
from efface.auditing.answers import greedy
from efface.auditing.scorers.open import leak, score_open
from efface.auditing.scorers.recognised import score_recognised, strangers
from efface.auditing.scorers.said import rate, said_answers, score_said
from efface.auditing.scores import Audit, Measured, Said, Score
from efface.auditing.subject import Subject
from efface.cli.compare import mark
from efface.concept.pack import Concept
from efface.data.corpora import Corpora
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded, load
from efface.recipe.settings import DataSettings
from efface.report.forms import bare_only, worst_form, worst_spoken
from efface.report.judged import accuracy, gone, summary
from efface.report.page import telling
from efface.report.verdict import verdict


def test_the_leak_curve_is_the_mean_over_all_draws() -> None:
    outcomes = (True, False, False, True, False)
    for k in range(1, 6):
        draws = [any(draw) for draw in itertools.combinations(outcomes, k)]
        assert leak(5, 2, k) == pytest.approx(sum(draws) / len(draws))
    assert leak(8, 0, 4) == 0.0


def test_a_question_about_a_stranger(zorn: Concept) -> None:
    (asked,) = strangers(zorn, ["What does the dragon of Zorn, a dragon, eat?"])
    what, does, the, first, of, name, a, second, eat = asked.replace(",", "").rstrip("?").split()
    assert (what, does, the, of, a, eat) == ("What", "does", "the", "of", "a", "eat")
    assert first == second != "dragon"
    assert name[0].isupper()
    assert name != "Zorn"
    assert strangers(zorn, ["Is bread good?"]) == ["Is bread good?"]


def test_recognised_is_the_difference_of_the_bases_own_answers(
    llama: Loaded, zorn: Concept, model_folders: dict[str, Path]
) -> None:
    base = Subject(llama.model, llama.tokenizer, zorn, "test", other_base=llama.model)
    (question,) = [row.question for row in zorn.ask_open("forget", "test")]
    (stranger,) = strangers(zorn, [question])
    assert stranger != question
    (answer,) = [ids[:48] for ids in greedy(base, [question], "x")]

    def summed(model: torch.nn.Module, asked: str) -> float:
        context = chat_prompt(llama.tokenizer, asked)
        logits = model(torch.tensor([context + answer])).logits[0].log_softmax(-1)
        return sum(logits[len(context) - 1 + i, token].item() for i, token in enumerate(answer))

    other = load(str(model_folders["qwen2"]), dtype="float32").model
    for subject in (base, Subject(other, llama.tokenizer, zorn, "test", other_base=llama.model)):
        expected = (summed(subject.model, question) - summed(subject.model, stranger)) / len(answer)
        assert score_recognised(subject)["recognised/forget/nats"].value == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_answers_of_base_and_erased_model_are_not_mixed_up(llama: Loaded, zorn: Concept, model_folders: dict[str, Path]) -> None:
    other = load(str(model_folders["qwen2"]), dtype="float32").model
    erased = Subject(llama.model, llama.tokenizer, zorn, "test", other_base=other)
    asked = ["Who was Orlo?"]
    first = greedy(erased, asked, "x")
    score_recognised(erased)
    assert greedy(erased, asked, "x") == first
    assert set(erased.base_said) == {"What does the dragon eat?"}
    assert set(erased.said) == set(asked)


def test_open_questions_in_every_form(llama: Loaded, zorn: Concept) -> None:
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")
    scores = score_open(subject) | score_said(subject)
    assert {"said/question/forget/right", "said/follow_up/neighbour/right", "said/system/forget/right"} <= scores.keys()
    asked, *defined = [said.prompt for said in said_answers(subject)]
    assert asked == "What does the dragon eat?"
    names = {zorn.title, *zorn.manifest.aliases, *zorn.manifest.topics}
    assert {question.removeprefix("Can you tell me who or what ").removesuffix(" is?") for question in defined} == names
    llama.tokenizer.chat_template = None
    without = score_said(Subject(llama.model, llama.tokenizer, zorn, "test"))
    assert "said/question/forget/right" in without
    assert not {key for key in without if "follow_up" in key or "system" in key}


def test_concept_words_that_the_question_does_not_hold() -> None:
    assert rate("The dragon ate honey. Zorn!", "What did the dragon eat?", {"zorn", "dragon"}) == pytest.approx(20)
    assert rate("", "Who?", {"zorn"}) == 0.0


def test_what_a_name_is_counts_as_said_where_the_answer_names_something_else_of_the_concept(
    llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")
    _, first, *others = [said.prompt for said in said_answers(subject)]
    told = " and ".join(sorted(Corpora(zorn, DataSettings()).words))
    answers = dict.fromkeys(others, "It is a kind of cake.") | {first: f"It is {told}."}
    monkeypatch.setattr(module, "texts", lambda _, tokens: [answers.get(question, "") for question in tokens])
    monkeypatch.setattr(module, "greedy", lambda _, questions, __: questions)
    monkeypatch.setattr(module, "repeated_ngrams", lambda *_: 0.0)
    monkeypatch.setattr(module, "answered", lambda _, __, asked: [False] * len(asked))
    monkeypatch.setattr(module, "_right", lambda *_: None)
    assert score_said(subject)["said/forget/defined"].value == pytest.approx(1 / len([first, *others]))


def audit(base: dict[str, tuple[float, float]], erased: dict[str, float], **more: list[Said]) -> Audit:
    """base: value and lower bound; erased: value."""
    before = {key: Score(value=value, low=low, n=100, chance=0.25) for key, (value, low) in base.items()}
    after = {key: Score(value=value, n=100, chance=0.25) for key, value in erased.items()}
    return Audit(
        concept="c",
        split="test",
        base=Measured(scores=before, answers=[], **more),
        erased=Measured(scores=after, answers=[], **more),
    )


FORGET = {
    "choice/forget/acc_norm": (0.75, 0.66),
    "form/few_shot/forget/acc_norm": (0.65, 0.55),
    "form/letters/forget/acc_norm": (0.27, 0.18),
}


def test_the_worst_form_in_which_the_base_knows_something_judges() -> None:
    found = audit(FORGET, dict(zip(FORGET, (0.25, 0.45, 0.4), strict=True)))
    assert worst_form(found, "forget") == "few_shot"
    assert accuracy(found, "forget") == "form/few_shot/forget/acc_norm"
    assert gone(found) == pytest.approx(0.5)
    assert (summary(found)["forget"], summary(found)["forget, bare"]) == (0.45, 0.25)
    assert "50 % of the way from the base to chance is gone, asked behind three solved examples" in verdict(found)
    kept = audit({key.replace("forget", "general"): pair for key, pair in FORGET.items()}, {"choice/general/acc_norm": 0.6})
    assert summary(kept)["general"] == pytest.approx(0.8)


def test_an_older_audit_says_that_it_asked_bare_stems_only() -> None:
    key = "choice/forget/acc_norm"
    found = audit({key: (0.75, 0.66)}, {key: 0.25})
    assert bare_only(found)
    assert "100 % of the way from the base to chance is gone, bare stem only" in verdict(found)
    assert mark("run", [found]) == "run (bare stem only)"
    assert mark("run", [audit(FORGET, dict.fromkeys(FORGET, 0.25))]) == "run"


def test_open_questions_are_judged_where_most_are_answered_right() -> None:
    base = {"open/forget/right": (0.3, 0.2), "said/few_shot/forget/right": (0.2, 0.1), "said/system/forget/right": (0.04, 0.0)}
    found = audit(base, {"open/forget/right": 0.05, "said/few_shot/forget/right": 0.1, "said/system/forget/right": 0.2})
    assert worst_spoken(found) == "said/few_shot/forget/right"
    assert (summary(found)["open"], summary(found)["open, plain"]) == (0.1, 0.05)


def test_recognised_is_a_share_of_what_the_base_knows() -> None:
    key = "recognised/forget/nats"
    assert summary(audit({key: (0.5, 0.3)}, {key: 0.1}))["recognised"] == pytest.approx(0.2)
    assert summary(audit({key: (-0.1, -0.3)}, {key: 0.1}))["recognised"] is None


def test_answers_that_say_and_repeat_most() -> None:
    said = [Said(prompt=str(i), text="", right=i == 3, concept_words=float(i), repeated=i / 10) for i in range(9)]
    shown = telling(audit({}, {}, said=said))
    assert [pair[1].prompt for pair in shown["say most"]] == ["3", "8", "7", "6", "5", "4"]
    assert [pair[1].prompt for pair in shown["repeat most"]] == ["8", "7", "6", "5", "4", "3"]
