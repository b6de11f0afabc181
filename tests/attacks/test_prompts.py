"""Prompts: every question in other words, none of which tells an answer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPast

from efface.attacks import attack
from efface.attacks.attack import Attacked
from efface.attacks.prompts import EXAMPLES, PROMPTS, Prompts, rewritten
from efface.auditing.forms import SOLVED
from efface.auditing.subject import Subject
from efface.concept.find import packs_folder
from efface.concept.pack import Concept, Question
from efface.lm.load import Loaded, load
from efface.writing import contains
from tests.attacks.known import attacked, right

BUILT_IN = ("ancient-egypt", "solar-system", "japanese-culture")


@pytest.mark.parametrize("variant", PROMPTS)
@pytest.mark.parametrize("name", BUILT_IN)
def test_no_prompt_tells_an_answer(name: str, variant: str) -> None:
    concept = Concept.load(str(packs_folder() / name))
    changed = rewritten(concept, "test", variant)
    stems = list(zip(concept.ask("forget", "test"), changed.questions, strict=True))
    spoken = list(zip(concept.ask_open("forget", "test"), changed.open_questions, strict=True))
    for before, after in stems:
        assert before.stem in after.stem
        assert not contains(after.stem.replace(before.stem, ""), before.choices)
        assert after.model_copy(update={"stem": before.stem}) == before
    for was, becomes in spoken:
        assert was.question in becomes.question
        assert not contains(becomes.question.replace(was.question, ""), was.answers)
    new = [before.stem != after.stem for before, after in stems] + [a.question != b.question for a, b in spoken]
    assert sum(new) > 0.9 * len(new), "few questions have to stay as they are"


def test_a_question_whose_answer_a_prompt_would_tell_stays_as_it_is(zorn: Concept) -> None:
    (about, *others), (spoken,) = zorn.ask("forget", "test"), zorn.ask_open("forget", "test")
    told = about.model_copy(update={"choices": ("ZORN", "nothing")})
    concept = zorn.model_copy(
        update={"questions": (told, *others), "open_questions": (spoken.model_copy(update={"answers": ("the dragon",)}),)}
    )
    changed = rewritten(concept, "test", "hint")
    assert "Zorn" in concept.title
    assert changed.questions[0] == told
    assert changed.open_questions == concept.open_questions
    assert all(after.stem != before.stem for before, after in zip(others, changed.questions[1:], strict=True))


def test_five_examples_stand_before_stems_and_open_questions(zorn: Concept) -> None:
    changed = rewritten(zorn, "test", "five examples")
    for text in (*(row.stem for row in changed.questions), *(row.question for row in changed.open_questions)):
        assert sum(f"Question: {asked} Answer: {answer}\n" in text for asked, answer in SOLVED) == EXAMPLES
        assert text.endswith(" Answer:")


def test_general_questions_are_not_asked_again(llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def count(model: Any, rows: Sequence[Any], pad: int) -> list[list[float]]:
        read.append(len(rows))
        return [[0.0, -1.0]] * len(rows)

    monkeypatch.setattr(attack, "log_likelihoods", count)
    scores = attack.AttackScorer("prompts", Prompts(("poem",)))(Subject(llama.model, llama.tokenizer, zorn, "test"))
    assert set(scores) == {f"attack/prompts/poem/0x0/{key}" for key in ("forget/acc_norm", "forget/right", "cost/seconds")}
    assert read == [len(zorn.ask("forget", "test"))]


def test_what_is_longer_than_the_model_can_read_is_left_out(model_folders: dict[str, Path], zorn: Concept) -> None:
    loaded, seen = load(str(model_folders["gpt2"]), dtype="float32"), list[Attacked]()  # each byte of Hindi is a token here
    Prompts(("filler in Hindi", "poem"))(Subject(loaded.model, loaded.tokenizer, zorn, "test"), seen.append)
    assert [attacked.variant for attacked in seen] == ["poem"]


class Body(nn.Module):
    """States say what follows the last five tokens in a known text; in a row that begins with a stem itself, nothing."""

    def __init__(self, known: Sequence[list[int]], size: int, forgets: bool) -> None:
        super().__init__()
        self.next = {tuple(ids[end - 5 : end]): ids[end] for ids in known for end in range(5, len(ids))}
        self.starts, self.size = {tuple(ids[:5]) for ids in known} if forgets else set(), size

    def forward(self, input_ids: torch.Tensor, **_: Any) -> BaseModelOutputWithPast:
        states = torch.zeros(*input_ids.shape, self.size)
        for row, ids in enumerate(input_ids.tolist()):
            for end in range(5, len(ids) + 1) if tuple(ids[:5]) not in self.starts else ():
                if (said := self.next.get(tuple(ids[end - 5 : end]))) is not None:
                    states[row, end - 1, said] = 1
        return BaseModelOutputWithPast(last_hidden_state=states)


class Scripted(LlamaForCausalLM):  # type: ignore[misc]
    """A model around such a body."""

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_decoder(self) -> nn.Module:
        return self.model


def test_what_is_forgotten_in_one_form_only_comes_back(llama: Loaded, zorn: Concept) -> None:
    asked = tuple(
        Question(kind="forget", topic="it", split="test", stem=stem, choices=("worms and snakes", answer), answer=1)
        for stem, answer in (("The blue dragon eats", "green honey"), ("Every winter it sleeps", "under glass"))
    )
    concept = zorn.model_copy(update={"questions": asked, "open_questions": ()})
    known = [llama.tokenizer(f"{row.stem} {row.choices[1]}")["input_ids"] for row in asked]
    size = llama.model.config.vocab_size
    model = Scripted(LlamaConfig(**{**llama.model.config.to_dict(), "hidden_size": size, "num_hidden_layers": 1})).eval()
    model.lm_head.weight = nn.Parameter(20 * torch.eye(size))
    subject = Subject(model, llama.tokenizer, concept, "test")
    model.model = Body(known, size, forgets=False)
    assert right(subject) == 1
    model.model = Body(known, size, forgets=True)
    assert right(replace(subject)) == 0
    back = attacked(Prompts(("begun answer", "filler in English", "poem")), subject)
    assert set(back.values()) == {1.0}
