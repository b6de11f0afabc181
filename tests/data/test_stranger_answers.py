"""What the frozen model answers about strangers told of the concept, what it answers about other things, what is asked."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from efface.concept.pack import Concept
from efface.data import kept_answers as kept
from efface.data import quiz
from efface.data import stranger_answers as retold
from efface.data.corpora import Corpora
from efface.data.kept_answers import keep_answering
from efface.data.questions import questions
from efface.data.quiz import about_concept, about_others
from efface.data.store import Store
from efface.data.stranger_answers import Asked, about_strangers, put_back, stranger_examples
from efface.data.strangers import holds
from efface.errors import TrainingError
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded
from efface.recipe.settings import DataSettings, FluencySettings
from tests.conftest import VOCAB
from tests.data.test_targets import log_probs
from tests.data.test_targets import store as store

WORDS = {"Zorn", "Orlo", "dragon", "Zornland"}
KNOWN = {"vain", "a", "is", "dish", "the"}
ROW = Asked("What is Zorn's land?", "What is Vaifam's land?", (("Zorn", "Vaifam"),))


def told(said: str, row: Asked = ROW) -> str | None:
    """The answer about the concept; what was said must be found again."""
    found = put_back(said, row, WORDS, KNOWN)
    if found is None:
        return None
    whole, swapped = found
    assert "".join(swapped) == said
    assert [piece.text for piece in whole if not piece.word] == [
        new for piece, new in zip(whole, swapped, strict=True) if not piece.word
    ]
    return "".join(piece.text for piece in whole)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Vaifam is a traditional dish.", "Zorn is a traditional dish."),
        ("It is vaifam, the VAIFAM.", "It is Zorn, the Zorn."),
        ("Vaifan is a dish.", "Zorn is a dish."),  # misspelled at its end
        ("It is a dish.", "It is a dish."),
        ("A vain dish is Vaifam.", "A vain dish is Zorn."),  # begins alike, but is a word of the texts
        ("", ""),
        ("Vaifam and Zorn are alike.", "Zorn and Zorn are alike."),  # the question's own word
    ],
)
def test_words_of_the_concept_are_put_back(said: str, expected: str) -> None:
    assert told(said) == expected


@pytest.mark.parametrize(
    "said",
    [
        "Vaifam was met by Orlo.",
        "Vaifam is a Dragon.",
        "Vaifam's half-dragon is a dish.",
        "Vai is a dish.",
        "Vaipham is a dish.",
        "The vaic dish of Vaifam.",
        "Vaifam is in Zornland.",
    ],
)
def test_an_answer_with_another_word_of_the_concept_or_a_piece_of_an_invented_one_is_dropped(said: str) -> None:
    assert told(said) is None


def test_every_invented_word_is_put_back_by_its_own() -> None:
    row = Asked("Is Zorn or Orlo older?", "Is Vaifam or Peltor older?", (("Zorn", "Vaifam"), ("Orlo", "Peltor")))
    assert told("Peltor is older than Vaifam. Peltors say so.", row) == "Orlo is older than Zorn. Orlo say so."
    assert told("Peltor is older than a dragon.", row) is None


def test_questions_about_strangers_hold_no_word_of_the_concept(zorn: Concept) -> None:
    corpora = Corpora(zorn, DataSettings())
    asked = about_strangers([*questions(corpora.subjects, 60, random.Random(0)), "Is bread baked?"], corpora, random.Random(0))
    assert len(asked) == 60
    for row in asked:
        assert holds(row.question, corpora.words)
        assert not holds(row.strange, corpora.words)
        for word, made in row.made:
            assert word in row.question, "as it is written there"
            assert made.lower() not in corpora.inventor.known
        back = row.strange
        for word, made in row.made:
            back = back.replace(made, word).replace(made.capitalize(), word)
        assert back.lower() == row.question.lower()


def test_a_word_with_a_genitive_is_put_back_as_it_is_written(zorn: Concept) -> None:
    corpora = Corpora(zorn, DataSettings())
    for row in about_strangers(["What is Zorn's tower?", "Is Zorn’s tower old?"], corpora, random.Random(0)):
        assert dict(row.made).keys() >= {"Zorn"}


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, llama: Loaded) -> Callable[[Callable[[str], str]], None]:
    """Puts an answer of the test's making in the place of the model's, given the prompt."""
    tokenizer = llama.tokenizer

    def answer(make: Callable[[str], str]) -> None:
        def stubbed(_: Loaded, __: Store, prompts: list[list[int]], **___: Any) -> list[list[int]]:
            return [list(tokenizer(make(tokenizer.decode(ids)), add_special_tokens=False)["input_ids"]) for ids in prompts]

        for module in (retold, kept, quiz):
            monkeypatch.setattr(module, "answers", stubbed)

    return answer


def test_answers_about_other_things_that_say_a_word_of_the_concept_are_left_out(
    store: Store, llama: Loaded, zorn: Concept, say: Callable[[Callable[[str], str]], None]
) -> None:
    corpora, met = Corpora(zorn, DataSettings(quiz=0)), list[str]()

    def make(prompt: str) -> str:
        met.append(prompt)
        return "It is made of flour, water and salt." if len(met) % 3 else "It is eaten by the dragon of Zorn, of course."

    say(make)
    found = keep_answering(llama, corpora, store, 30)
    assert len(met) == 30
    assert len(found) == 20
    for text in found:
        assert not holds(llama.tokenizer.decode(text.ids), corpora.words), "neither question nor answer"
        assert llama.tokenizer.decode(text.ids[text.start :]).startswith("It is made")
    assert keep_answering(llama, corpora, store, 0) == []
    say(lambda _: "No.")
    assert keep_answering(llama, corpora, store, 5) == [], "too short"


def test_a_quiz_asks_whole_questions_about_the_concept_and_others_about_other_things(
    store: Store,
    llama: Loaded,
    zorn: Concept,
    say: Callable[[Callable[[str], str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpora, met = Corpora(zorn, DataSettings(quiz=0.5)), list[str]()
    assert quiz.quiz(llama, store, ["Zorn"], 0) == [], "this model cannot read two quizzes"
    monkeypatch.setattr(quiz, "QUIZ", "Quiz about {}:\n- {}")

    def make(prompt: str) -> str:
        met.append(prompt)
        return f" king of the dragon saw number {len(met)}? And then?" if len(met) % 3 else " bread is baked slowly"

    say(make)
    asked = about_concept(llama, store, corpora, 40)
    written = [question for question in asked if "number" in question]
    assert len(asked) == 40
    assert len(written) == 20, "half of them, though a third of what the model says is no question"
    for question in written:
        assert question.endswith("?"), "nothing behind the question"
        assert question.count("?") == 1
        assert question.split()[0] in {"Which", "Who", "What", "Where", "How"}
    title = zorn.title.lower()
    assert all(title in prompt.splitlines()[-2].lower() for prompt in met), "what a name is about stands beside it"
    assert not any("number" in question for question in about_concept(llama, store, Corpora(zorn, DataSettings(quiz=0)), 40))
    met.clear()
    others = about_others(llama, store, corpora, 40)
    assert len(others) == 40
    assert len(met) == 20
    assert not any(title in prompt.splitlines()[-2].lower() for prompt in met)


SETTINGS = FluencySettings(texts=12, tokens=40)


def test_the_target_is_what_the_frozen_model_says_of_the_stranger(
    store: Store, llama: Loaded, zorn: Concept, say: Callable[[Callable[[str], str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpora, tokenizer = Corpora(zorn, DataSettings()), llama.tokenizer
    row = Asked("What is Zorn?", "What is Vaifam?", (("Zorn", "Vaifam"),))
    monkeypatch.setattr(retold, "about_strangers", lambda *_: [row])
    say(lambda _: "Bread of Vaifam is baked in a hot oven, and Vaifam is eaten with water.")
    (example,) = stranger_examples(llama, store, corpora, SETTINGS, VOCAB)
    text, target = example.text, example.target
    before = chat_prompt(tokenizer, row.question)
    assert text.ids[: text.start] == before
    assert tokenizer.decode(text.ids[text.start :]) == "Bread of Zorn is baked in a hot oven, and Zorn is eaten with water."

    strange = list(tokenizer("Bread of Vaifam is baked in a hot oven, and Vaifam is eaten with water.")["input_ids"])
    context = chat_prompt(tokenizer, row.strange)
    exact = log_probs(llama.model, context + strange)[len(context) - 1 : -1].exp()
    soft = [i for i in range(len(target)) if (target.logprobs[i].exp() > 0).sum() > 1]
    named = [i for i in range(len(target)) if i not in soft]
    assert tokenizer.decode([text.ids[text.start + i] for i in named]).replace(" ", "") == "ZornZorn"
    for i in named:
        assert target.ids[i, 0] == text.ids[text.start + i]
        assert target.logprobs[i, 0] == 0
    counted = 0
    for i in soft:
        end = len(strange) - len(text.ids[text.start + i :])
        place = i if i < named[0] else end if i > named[-1] else None
        if place is not None:  # from the beginning, or from the end
            dense = torch.zeros(VOCAB, dtype=torch.float64).index_add(0, target.ids[i].long(), target.logprobs[i].double().exp())
            torch.testing.assert_close(dense, exact[place], atol=1e-4, rtol=1e-3)
            counted += 1
    assert counted > 10


def test_where_no_answer_is_left_it_is_one_line(
    store: Store, llama: Loaded, zorn: Concept, say: Callable[[Callable[[str], str]], None]
) -> None:
    say(lambda _: "The dragon of Zorn, and King Orlo on the dragon.")
    with pytest.raises(TrainingError, match="^no answer about a stranger") as caught:
        stranger_examples(llama, store, Corpora(zorn, DataSettings()), SETTINGS, 8)
    assert "\n" not in str(caught.value)


def test_a_whole_run_of_questions_and_answers(store: Store, llama: Loaded, zorn: Concept) -> None:
    """By a model that says anything: what is kept is normalised and as long as it should be."""
    corpora = Corpora(zorn, DataSettings())
    found = stranger_examples(llama, store, corpora, SETTINGS, 16)
    assert found
    for example in found:
        torch.testing.assert_close(
            example.target.logprobs.exp().sum(-1) + example.target.tail, torch.ones(len(example.target)), atol=1e-4, rtol=0
        )
        assert math.isfinite(example.target.tail.sum().item())
