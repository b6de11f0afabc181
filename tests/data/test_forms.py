"""The forms in which passages are met: the same ones and as often on both sides, and never a word more than the passage has."""

import math
import random
import re
from collections import Counter

import pytest

from efface.concept.pack import Concept, Passage
from efface.data.corpora import Corpora
from efface.data.forms import CHAT, FREE, SHOTS, WAYS, Forms, Shown
from efface.data.strangers import holds
from efface.errors import ConceptError
from efface.lm.chat import chat_prompt, prefix
from efface.lm.load import Loaded
from efface.recipe.settings import DataSettings
from tests.conftest import FORGET, RETAIN
from tests.test_foreign import PACK as FOREIGN

ZORN = [
    Passage(
        text=f"The dragon of {land} was a large beast with blue wings. Every winter the people of {land} brought it some honey. "
        f"{king} built the great tower of {land} in the valley. What else is known about {land} is told in old books.",
        topic=f"the dragon of {land}" if i % 2 else "",
    )
    for i, (land, king) in enumerate(
        (f"Zorn{end}", f"Orlo the {end.capitalize()}") for end in ("al", "ek", "im", "ot", "un", "ys")
    )
]
WORDS = {word for passage in ZORN for word in re.findall(r"Zorn\w+|Orlo|dragon", passage.text)}
OTHERS = [f"{text.split('. ')[0].rstrip('.')}." for text in RETAIN]


def form(shown: Shown) -> str:
    """Which form this is, by its looks."""
    if shown.chat:
        begins = {"Write a short text": "asked_for", "Complete the sentence": "completed", "What is missing here": "completed"}
        asked = "replied" if shown.begun else "answered"
        return next((name for begin, name in begins.items() if shown.before.startswith(begin)), asked)
    if not shown.before:
        return "passage"
    return "questioned" if shown.before.endswith(("\nAnswer:", "\nA:", "\n-")) else "behind"


def forms() -> Forms:
    return Forms(ZORN, "the dragon of Zorn", OTHERS, WORDS)


def sentences(passage: Passage) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", passage.text)


def test_no_form_twice_for_a_passage_and_all_if_there_is_time() -> None:
    for each in (1, 2, 4, 6, 9):
        for chat in (True, False):
            shown = forms().draw(each, random.Random(each), chat)
            count = min(each, len(WAYS) if chat else len(WAYS) - len(CHAT))
            assert len(shown) == count * len(ZORN)
            for i in range(len(ZORN)):
                assert len({form(of) for of in shown[i * count : (i + 1) * count]}) == count


def test_a_model_without_a_chat_format_gets_no_forms_of_chat(llama: Loaded, zorn: Concept) -> None:
    assert not any(of.chat for of in forms().draw(9, random.Random(0), chat=False))
    assert any(of.chat for of in forms().draw(9, random.Random(0), chat=True))
    tokenizer = llama.tokenizer
    tokenizer.chat_template = None
    for texts in Corpora(zorn, DataSettings(forms=3), tokenizer).texts:
        assert texts
        assert not any("|>" in tokenizer.decode(text.ids) for text in texts)


def test_whole_passages_and_answers_to_a_request() -> None:
    for i, passage in enumerate(ZORN):
        assert forms().passage(i, random.Random(0)) == Shown(passage.text[:500])
        asked = forms().asked_for(i, random.Random(0))
        assert (asked.body, asked.begun, asked.chat) == (passage.text[:500], "", True)
        assert passage.topic in asked.before if passage.topic else passage.text[:20] in asked.before


def test_what_is_shown_and_what_stands_before_it_give_the_sentence_back() -> None:
    met = Counter[str]()
    for seed in range(40):
        for i, shown in enumerate(forms().draw(9, random.Random(seed), chat=True)):
            passage = ZORN[i // len(WAYS)]
            own, kind = sentences(passage), form(shown)
            met[kind, shown.begun] += 1
            if kind == "behind":
                assert passage.text.endswith(shown.body.strip())
                assert sentences(Passage(text=shown.body.strip()))[0] in own
                assert shown.body.startswith(" ")
                assert shown.before in OTHERS or shown.before.startswith("An expert on ")
            elif kind == "completed" and shown.before.startswith("Complete"):
                assert shown.before == f"Complete the sentence: {shown.begun}"
                assert shown.begun + shown.body in own
            elif kind == "completed":
                assert shown.before.removeprefix("What is missing here? ").removesuffix(" ...") + shown.body in own
            elif kind == "answered":
                assert passage.text.endswith(shown.body)
                assert asks_about(shown.before, next(sentence for sentence in own if shown.body.startswith(sentence)))
            elif kind == "replied":
                assert any(asks_about(shown.before, sentence, shown.body.strip()) for sentence in own)
            elif kind == "questioned":
                question = shown.before.rpartition("\n")[0].rpartition("\n\n")[2].partition(" ")[2]
                assert question.removesuffix(" ...") + shown.body in own or any(
                    asks_about(question, sentence, shown.body.strip()) for sentence in own
                )
    assert len({kind for kind, _ in met}) == len(WAYS)
    assert min(met.values()) > 2


def asks_about(question: str, sentence: str, answer: str = "") -> bool:
    """Whether a question asks for the subject of a sentence, by rule."""
    asked = re.fullmatch(r"(Who or what|Who|What) (.*)\?", question)
    return asked is not None and sentence.endswith(f" {asked[2]}.") and (
        not answer or sentence == f"{answer.removesuffix('.')} {asked[2]}."
    )  # fmt: skip


def test_sentences_of_the_concept_are_broken_off_before_a_word_of_it() -> None:
    found = [of for seed in range(30) for of in forms().draw(9, random.Random(seed), chat=True) if form(of) == "completed"]
    assert found
    for shown in found:
        word = re.match(r" ([\w’'-]+)", shown.body)
        assert word is not None
        assert holds(word[1], WORDS)
        begun = shown.begun if shown.before.startswith("Complete") else shown.before.removeprefix("What is missing here? ")
        assert len(re.findall(r"[\w’'-]+", begun)) >= 3


def test_other_sentences_are_broken_off_before_a_name_or_else_anywhere() -> None:
    named = Forms([Passage(text="Every spring the people of the valley walked to Mount Elbrus and back again.")], "", [])
    plain = Forms([Passage(text="Every spring the people of the valley walked to the sea and back again.")], "", [])
    begins = [{of._broken(0, random.Random(seed))[1].split()[0] for seed in range(60)} for of in (named, plain)]
    assert begins[0] == {"Mount", "Elbrus"}
    assert len(begins[1]) > 5


def test_only_sentences_with_a_word_of_the_concept_are_asked_about() -> None:
    text = f"{ZORN[0].text} The weather in the valley was very cold at that time."
    of = Forms([Passage(text=text)], "", [], WORDS)
    assert of.sentences[0]
    assert all(holds(sentence, WORDS) for sentence in of.sentences[0])
    assert len(Forms([Passage(text=text)], "", []).sentences[0]) == len(of.sentences[0]) + 1


def test_a_passage_without_a_whole_sentence_is_shown_as_it_stands() -> None:
    of = Forms([Passage(text="nothing but a heap of words about Zornal without an end " * 9, topic="it")], "", [], WORDS)
    assert {form(shown) for shown in of.draw(9, random.Random(0), chat=True)} == {"passage", "asked_for"}


def test_solved_examples_come_from_elsewhere_and_the_question_last() -> None:
    few = [of for seed in range(60) for of in forms().draw(9, random.Random(seed), chat=False) if form(of) == "questioned"]
    counts = Counter(len(re.findall(r"\n\n", of.before)) for of in few)
    assert set(counts) == {0, 2, 3, 4}
    for shown in few:
        *solved, asked = shown.before.split("\n\n")
        assert not any(holds(example, WORDS) for example in solved)
        assert len(set(solved)) == len(solved)
        for example in solved:
            assert any(question in example and example.endswith(f" {answer}") for question, answer in SHOTS)
        ask, reply = asked.split("\n")
        assert all(example.startswith(ask.split()[0]) and f"\n{reply} " in example for example in solved)


@pytest.mark.parametrize("name", ["ancient-egypt", "solar-system", "japanese-culture", str(FOREIGN)])
@pytest.mark.parametrize("chat", [True, False])
def test_forget_and_retain_passages_come_in_the_same_proportions(name: str, chat: bool) -> None:
    """A form as such says nothing about the concept: no share differs by more than sampling makes it differ."""
    corpora = Corpora(Concept.load(name), DataSettings(forms=2))
    forget, retain = (Counter(map(form, corpora.shown(corpus, chat))) for corpus in ("forget", "retain"))
    assert set(retain) == {way for way in WAYS if chat or way not in CHAT}
    for way in FREE:  # what is said of the concept there, the fluency texts say
        del retain[way]
    assert set(forget) == set(retain)
    n, m = forget.total(), retain.total()
    for way in forget:
        share = (forget[way] + retain[way]) / (n + m)
        error = math.sqrt(share * (1 - share) * (1 / n + 1 / m))
        assert abs(forget[way] / n - retain[way] / m) < 3.5 * error, way


def test_forms_are_seeded(zorn: Concept) -> None:
    one, same, other = (Corpora(zorn, DataSettings(seed=seed, forms=3)).shown("forget", chat=True) for seed in (0, 0, 1))
    assert one == same != other


def test_tokens_of_what_stands_before(llama: Loaded) -> None:
    tokenizer = llama.tokenizer

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert Shown("x").context(tokenizer) == prefix(tokenizer)
    assert Shown("x", "An old book says:").context(tokenizer) == prefix(tokenizer) + ids("An old book says:")
    chat = Shown("x", "Who was Orlo?", "It is", chat=True)
    assert chat.context(tokenizer) == chat_prompt(tokenizer, "Who was Orlo?") + ids("It is")
    assert chat.context(tokenizer, str.upper) == chat_prompt(tokenizer, "WHO WAS ORLO?") + ids("IT IS")


def test_texts_to_train_on_are_cut_and_hold_the_passage(llama: Loaded, zorn: Concept) -> None:
    tokenizer = llama.tokenizer
    forget, retain = Corpora(zorn, DataSettings(forms=9, max_tokens=20, neighbours=0), tokenizer).texts
    assert min(len(forget), len(retain)) > 2 * 3
    for texts, passages in ((forget, FORGET), (retain, RETAIN)):
        for text in texts:
            body = tokenizer.decode(text.ids[text.start :], skip_special_tokens=True).strip().removesuffix(".")
            assert len(text.ids) - text.start <= 20
            assert any(body in passage for passage in passages)


@pytest.mark.parametrize("forms", [0, 2])
def test_a_passage_that_is_too_short_is_one_line(forms: int, llama: Loaded, zorn: Concept) -> None:
    with pytest.raises(ConceptError, match="characters, expected at least 5000: 'The blue"):
        _ = Corpora(zorn, DataSettings(forms=forms, min_chars=5000), llama.tokenizer).texts


def test_what_stands_before_retain_passages_mentions_the_concept_too() -> None:
    corpora = Corpora(Concept.load("ancient-egypt"), DataSettings(forms=2))
    before = [shown.before for shown in corpora.shown("retain", True) if form(shown) == "behind"]
    own = [text for text in before if holds(text, corpora.words)]
    assert len(own) > len(before) / 3, "that it came up is no sign of the concept"
    experts = [text for text in own if text.startswith("An expert on ")]
    first = [text for text in own if any(passage.text.startswith(text[:-1]) for passage in corpora.forget)]
    assert experts
    assert first
    assert len(own) > len(experts) + len(first), "and the pack's own personas"
