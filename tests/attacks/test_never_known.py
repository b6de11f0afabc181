"""The control of made-up facts: what is asked is told, and nothing of it can have been known."""

import pytest

from efface.attacks.attack import AttackScorer, tells
from efface.attacks.never_known import made_up
from efface.attacks.relearning import Relearning, Training, chosen
from efface.auditing.subject import Subject
from efface.concept.find import builtin_packs
from efface.concept.pack import Concept, Passage
from efface.lm.load import Loaded
from efface.writing import words

WHOLE = [name for name, folder in sorted(builtin_packs().items()) if (folder / "forget.jsonl").is_file()]


@pytest.mark.parametrize("name", WHOLE)
def test_every_question_is_answered_by_what_was_taught_and_by_no_text_of_the_pack(name: str, llama: Loaded) -> None:
    concept = Concept.load(name)
    shown = chosen(concept.texts("forget", "train"), 10)
    asked, told = made_up(Subject(llama.model, llama.tokenizer, concept, "test"), shown)
    questions, spoken = asked.concept.ask("forget", "test"), asked.concept.ask_open("forget", "test")
    assert len(questions) >= 20
    assert len(spoken) >= 15
    assert len(told) == 10
    assert asked.concept.ask("general", "test") == [], "it is cheap"
    known = {word.lower() for row in (*concept.forget, *concept.retain) for word in words(row.text)}
    for answers in [[row.choices[row.answer]] for row in questions] + [list(row.answers) for row in spoken]:
        assert tells(told, answers)
        assert all({word.lower() for word in words(answer)} - known for answer in answers), answers
    for row in questions:
        assert len(set(row.choices)) == len(row.choices)


def test_passages_that_say_their_facts_say_the_made_up_ones(llama: Loaded, zorn: Concept) -> None:
    shown = [Passage(text="Zorn is the dragon of the tower, and Orlo rode it.", facts=("Orlo",))]
    question = zorn.ask("forget", "test")[0].model_copy(update={"stem": "The king was", "choices": ("Orlo", "Zorn"), "answer": 0})
    concept = zorn.model_copy(update={"questions": (question,), "open_questions": ()})
    asked, told = made_up(Subject(llama.model, llama.tokenizer, concept, "test"), shown)
    (row,) = asked.concept.questions
    assert told[0].facts == (row.choices[0],)
    assert row.choices[0] in told[0].text
    assert row.choices[0] != "Orlo"


def test_the_base_is_told_them_and_the_erased_model_is_not(llama: Loaded, zorn: Concept) -> None:
    told = [row.model_copy(update={"choices": ("Orlo", "Zorn")}) for row in zorn.ask("forget", "test")]
    open_questions = zorn.ask_open("forget", "test")
    concept = zorn.model_copy(update={"questions": tuple(told), "open_questions": tuple(open_questions)})
    attack = AttackScorer("relearn", Relearning((Training(3, 2, 0.02),)))
    of_base = attack(Subject(llama.model, llama.tokenizer, concept, "test", other_base=llama.model))
    marks = [key.split("/")[3] for key in of_base if "never known" in key and key.endswith("taught/acc_norm")]
    assert marks == [f"3x{steps}" for steps in (0, 1, 2)]
    assert not [key for key in of_base if "never known" in key and "/forget/" in key], "what is asked was taught"
    of_erased = attack(Subject(llama.model, llama.tokenizer, concept, "test"))
    assert not [key for key in of_erased if "never known" in key]
