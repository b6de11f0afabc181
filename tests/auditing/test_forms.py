"""One question in many forms, and what is read once for all of them."""

from pathlib import Path

import pytest
import torch

from efface.auditing.forms import FORMS, IN_CHAT, as_question, put, solved_examples
from efface.auditing.likelihoods import Branches, Together, log_likelihoods
from efface.auditing.scorers.forms import encode, score_forms
from efface.auditing.scorers.harness import ask
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Question
from efface.lm.load import Loaded, load
from tests.conftest import ARCHITECTURES

CHOICES = ("honey", "a loaf of bread", "glass")


def quiz(*stems: str) -> list[Question]:
    return [
        Question(kind="forget", topic="", split="test", stem=stem, choices=CHOICES, answer=i % 3) for i, stem in enumerate(stems)
    ]


def test_likelihoods_of_the_bare_form_are_the_harness_s(llama: Loaded, zorn: Concept) -> None:
    questions = quiz("The dragon eats", "King Orlo baked ", "In the tower of the valley there is")
    rows = [encode(llama.tokenizer, put("bare", question, zorn)) for question in questions]
    found = log_likelihoods(llama.model, rows, llama.tokenizer.pad_token_id)
    samples = ask(Subject(llama.model, llama.tokenizer, zorn, "test"), {"task": questions})["task"]
    for ours, theirs in zip(found, samples, strict=True):
        assert ours == pytest.approx([float(response[0]) for response in theirs["filtered_resps"][:3]], rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_shared_changes_nothing(architecture: str, model_folders: dict[str, Path], zorn: Concept) -> None:
    loaded = load(str(model_folders[architecture]), dtype="float32")
    pad, begun = loaded.tokenizer.pad_token_id, list(range(40, 60))
    questions = quiz("The dragon eats", "In the tower of the valley there is")
    rows = [encode(loaded.tokenizer, put("bare", question, zorn)) for question in questions]
    rows = [Branches(begun + row.context, row.choices) for row in rows]
    together = Together(loaded.model, rows, pad)
    assert together.usable
    assert together.shared is not None
    shared, apart = (log_likelihoods(loaded.model, rows, pad, share) for share in (True, False))
    torch.testing.assert_close(torch.tensor(shared), torch.tensor(apart), rtol=1e-4, atol=1e-4)
    alone = [log_likelihoods(loaded.model, [row], pad)[0] for row in rows]
    torch.testing.assert_close(torch.tensor(alone), torch.tensor(apart), rtol=1e-4, atol=1e-4)


def test_a_model_that_looks_back_only_so_far_reads_every_text_whole(model_folders: dict[str, Path]) -> None:
    model, long = load(str(model_folders["mistral"]), dtype="float32").model, list(range(5, 75))
    rows = [Branches(long, ([7, 8], [9])), Branches([*long, 4], ([11], [12, 13]))]
    assert not Together(model, rows, 1).usable
    expected = model(torch.tensor([[*long, 7, 8]])).logits[0].log_softmax(-1)
    first = log_likelihoods(model, rows, 1)[0][0]
    assert first == pytest.approx((expected[69, 7] + expected[70, 8]).item(), rel=1e-4)


def test_a_question_is_wrapped_once(zorn: Concept) -> None:
    bare = "What does the dragon eat?"
    for stem in (bare, f"Question: {bare} Answer:", f"Question: {bare}\nAnswer:"):
        (question,) = quiz(stem)
        assert put("question", question, zorn).text == f"Question: {bare} Answer:"
        assert put("chat_answer", question, zorn).turns == (("user", bare),)
        assert put("bare", question, zorn).text == stem
    assert as_question("The dragon eats") == "Complete the sentence: The dragon eats"


def test_every_form_asks_the_same(zorn: Concept) -> None:
    (question,) = quiz("The dragon eats")
    for form in FORMS:
        asked = put(form, question, zorn)
        shown = " ".join([content for _, content in asked.turns] + [asked.text])
        assert "The dragon eats" in shown, form
        assert bool(asked.turns) == (form in IN_CHAT)
        assert asked.choices == tuple(f" {choice}" for choice in (("A", "B", "C") if form == "letters" else CHOICES))
    assert put("chat_begun", question, zorn).text == "The dragon eats"
    assert zorn.title in put("expert", question, zorn).text
    assert zorn.title in put("follow_up", question, zorn).turns[0][1]


def test_solved_examples_are_about_other_things(zorn: Concept) -> None:
    question = Question(kind="forget", topic="", split="test", stem="It has", choices=("eight legs", "milk"), answer=0)
    said = " ".join(" ".join(example) for example in solved_examples(zorn.model_copy(update={"questions": (question,)})))
    assert not {"eight", "legs", "milk"} & set(said.split())


def test_forms_are_scored_for_every_kind(llama: Loaded, zorn: Concept) -> None:
    scores = score_forms(Subject(llama.model, llama.tokenizer, zorn, "test"))
    forms = {key.split("/")[1] for key in scores}
    assert forms >= {"question", "chat_begun", "chat_answer", "filler", "letters"}
    assert {key.split("/", 2)[2] for key in scores} == {
        f"{kind}/{metric}" for kind in ("forget", "neighbour", "general") for metric in ("acc", "acc_norm", "probability")
    }
    assert {(score.n, score.chance) for score in scores.values()} == {(2, 0.5)}
    llama.tokenizer.chat_template = None
    without = score_forms(Subject(llama.model, llama.tokenizer, zorn, "test"))
    assert {key.split("/")[1] for key in without} == forms - IN_CHAT
    assert all(without[key] == scores[key] for key in without)


def test_a_form_that_does_not_fit_is_not_measured(llama: Loaded, zorn: Concept) -> None:
    llama.model.config.max_position_embeddings = 60
    forms = {key.split("/")[1] for key in score_forms(Subject(llama.model, llama.tokenizer, zorn, "test"))}
    assert "question" in forms
    assert "few_shot" not in forms
