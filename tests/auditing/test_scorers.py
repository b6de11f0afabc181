"""Every figure against an independent computation, and models built to deserve a verdict."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from efface.auditing.scorers.choice import score_choices
from efface.auditing.scorers.depth import last_states, logit_lens, probe, score_depth
from efface.auditing.scorers.drift import score_drift
from efface.auditing.scorers.fluency import score_answers
from efface.auditing.scorers.open import score_leaks, score_open
from efface.auditing.scorers.perplexity import held_out
from efface.auditing.scorers.shading import shade
from efface.auditing.scores import Answer, Score
from efface.auditing.statistics import average, difference, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Question
from efface.lm.adapters import attach_adapter
from efface.lm.chat import chat_prompt
from efface.lm.layers import teacher
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings, LoraSettings


def student(llama: Loaded) -> Any:
    """The tiny model with an adapter that changes it."""
    model = attach_adapter(llama.model, LoraSettings(layers="all"), 0).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(1))
    return model


# models built to deserve a verdict


class Scripted(LlamaForCausalLM):  # type: ignore[misc]
    """Says what it was told: after the last ``SPAN`` tokens of a known text comes that text's next token, else ``filler``."""

    SPAN = 5
    known: dict[tuple[int, ...], int]
    filler: int

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        logits = torch.zeros(*input_ids.shape, self.config.vocab_size)
        for row, ids in enumerate(input_ids.tolist()):
            for end in range(1, len(ids) + 1):
                said = self.known.get(tuple(ids[max(0, end - self.SPAN) : end]), self.filler)
                logits[row, end - 1, said] = 20.0
        return CausalLMOutput(logits=logits)


def scripted(llama: Loaded, texts: list[list[int]], filler: int) -> Any:
    model = Scripted(llama.model.config).eval()
    model.generation_config.use_cache = False
    model.generation_config.pad_token_id = llama.tokenizer.pad_token_id
    model.known = {tuple(ids[max(0, end - Scripted.SPAN) : end]): ids[end] for ids in texts for end in range(1, len(ids))}
    model.filler = filler
    return model


def quiz(zorn: Concept) -> Concept:
    """Four questions of the concept and its open question, each with an answer of its own."""
    questions = tuple(
        Question(kind="forget", topic="it", split="test", stem=stem, choices=(" ".join(reversed(right.split())), right), answer=1)
        for stem, right in (
            ("The dragon lives in", "a tower of glass"),
            ("King Orlo rode over", "the valley of Zorn"),
            ("In winter it sleeps on", "candles and honey"),
            ("Its egg is green like", "old glass books"),
        )
    )
    return zorn.model_copy(update={"questions": questions})


def judged(llama: Loaded, concept: Concept, model: Any) -> dict[str, Score]:
    subject = Subject(model, llama.tokenizer, concept, "test", AuditSettings(samples=2), other_base=llama.model)
    return score_choices(subject) | score_open(subject) | score_leaks(subject) | score_answers(subject)


def test_a_model_that_answers_perfectly_is_told_so(llama: Loaded, zorn: Concept) -> None:
    concept, tokenizer = quiz(zorn), llama.tokenizer
    texts = [list(tokenizer(f"{row.stem} {row.choices[row.answer]}")["input_ids"]) for row in concept.questions]
    (asked,) = concept.ask_open("forget", "test")
    texts += [[*chat_prompt(tokenizer, asked.question), *tokenizer("honey")["input_ids"], tokenizer.eos_token_id]]
    scores = judged(llama, concept, scripted(llama, texts, tokenizer.eos_token_id))
    for key in ("choice/forget/acc", "choice/forget/acc_norm", "open/forget/right", "open/forget/leak", "answers/forget/ends"):
        assert scores[key].value == 1.0, key
    assert scores["choice/forget/probability"].value > 0.99
    assert scores["answers/forget/repeated_4grams"].value == 0.0


def test_a_model_that_repeats_a_token_is_told_so(llama: Loaded, zorn: Concept) -> None:
    scores = judged(llama, quiz(zorn), scripted(llama, [], filler=40))
    assert scores["open/forget/right"].value == scores["open/forget/leak"].value == 0.0
    assert scores["answers/forget/repeated_4grams"].value > 0.95
    assert scores["answers/forget/distinct_2grams"].value < 0.05
    assert scores["answers/forget/entropy"].value == scores["answers/forget/ends"].value == 0.0


def test_a_model_that_knows_nothing_is_at_chance(llama: Loaded, zorn: Concept) -> None:
    flat = scripted(llama, [], filler=0)
    flat.forward = lambda input_ids, **_: CausalLMOutput(logits=torch.zeros(*input_ids.shape, flat.config.vocab_size))
    concept = quiz(zorn)
    scores = judged(llama, concept, flat)
    expected = []
    for row in concept.questions:  # all tokens are alike, so only the choices' lengths count
        weights = [flat.config.vocab_size ** -float(len(llama.tokenizer(f" {choice}")["input_ids"])) for choice in row.choices]
        expected.append(weights[1] / sum(weights))
    assert scores["choice/forget/probability"].items == pytest.approx(expected, rel=1e-3)
    assert scores["choice/forget/probability"].chance == 0.5
    assert scores["open/forget/right"].value == 0.0


# figures against independent computations


def test_kl_is_that_of_one_text_at_a_time(llama: Loaded, zorn: Concept) -> None:
    model = student(llama)
    subject = Subject(model, llama.tokenizer, zorn, "test")
    expected = []
    for text in held_out(subject.concept, subject.tokenizer, "retain"):
        ids = torch.tensor([text.ids])
        after = model(ids).logits[0, text.start - 1 : -1].log_softmax(-1)
        with teacher(model) as base:
            before = base(ids).logits[0, text.start - 1 : -1].log_softmax(-1)
        expected.append((before.exp() * (before - after)).sum(-1).mean().item())
    score = score_drift(subject)["drift/retain/kl"]
    assert score.value == pytest.approx(np.mean(expected), rel=1e-4)
    assert score.value > 0.01
    with subject.base() as base:
        assert score_drift(Subject(base, llama.tokenizer, zorn, "test", other_base=base)) == {}


def test_mcnemar_and_bootstrap() -> None:
    base, erased = proportion([True] * 10 + [False] * 2), proportion([True] * 2 + [False] * 8 + [True] + [False])
    gap = difference(base, erased)
    assert gap is not None
    # 8 lost, 1 won: two-sided exact binomial of 9 flips
    assert gap.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert (gap.value, gap.n, gap.test) == (pytest.approx(-7 / 12), 12, "McNemar")
    assert gap.low < gap.value < gap.high < 0
    one, other = average([1.0, 2.0, 3.0, 4.0, 5.0]), average([2.1, 3.0, 4.2, 5.0, 6.1])
    shift = difference(one, other)
    assert shift is not None
    assert (shift.test, shift.value) == ("bootstrap", pytest.approx(1.08))
    assert shift.p < 0.01
    assert difference(one, average([1.0])) is None
    assert difference(Score(value=1, n=3), Score(value=1, n=3)) is None


def test_mean_with_its_interval() -> None:
    score = average([1.0, 2.0, 3.0, 4.0, 6.5])
    half = 1.96 * np.std([1, 2, 3, 4, 6.5], ddof=1) / 5**0.5
    assert (score.value, score.low, score.high) == (3.3, pytest.approx(3.3 - half), pytest.approx(3.3 + half))
    assert average([1.0, 2.0, 3.0, 6.0]).low is None


def test_probes_find_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    states, labels = rng.normal(size=(200, 30)), np.array([True, False] * 100)
    assert 0.35 < probe(states, labels, np.arange(200) // 2).value < 0.65
    states[:, 3] += 3 * labels
    assert probe(states, labels, np.arange(200) // 2).value > 0.85


def test_the_lens_on_the_last_layer_is_what_the_model_says(llama: Loaded, zorn: Concept) -> None:
    asked = list(quiz(zorn).questions)
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")
    states = last_states(subject, [row.stem for row in asked])
    assert states.shape[:2] == (4, 3)
    expected = []
    for row in asked:
        first = [llama.tokenizer(f" {choice}")["input_ids"][0] for choice in row.choices]
        if len(set(first)) == 2:
            logits = llama.model(torch.tensor([llama.tokenizer(row.stem)["input_ids"]])).logits[0, -1]
            expected.append(logits[first].softmax(-1)[1].item())
    assert expected
    lens = logit_lens(subject, states[:, -1], asked)
    assert lens is not None
    assert lens.value == pytest.approx(np.mean(expected), rel=1e-3)


def test_depth_has_an_entry_a_layer(llama: Loaded, zorn: Concept) -> None:
    questions = tuple(
        Question(
            kind="forget", topic="it", split="test", stem=f"Dragon {i} eats", choices=(f"honey {i}", f"bread {i}"), answer=i % 2
        )
        for i in range(10)
    )
    layers = score_depth(Subject(llama.model, llama.tokenizer, zorn.model_copy(update={"questions": questions}), "test"))
    assert [layer.layer for layer in layers] == [0, 1, 2]
    assert {layer.probe.n for layer in layers} == {20}
    assert score_depth(Subject(llama.model, llama.tokenizer, zorn, "test")) == []  # two questions are too few


def test_shading_covers_the_answer_and_is_the_total_variation(llama: Loaded, zorn: Concept) -> None:
    model = student(llama)
    subject = Subject(model, llama.tokenizer, zorn, "test")
    (answer,) = shade(subject, [Answer(prompt="Who?", text="The dragon of Zorn – honey")])
    assert "".join(piece for piece, _ in answer.pieces) == answer.text
    context = chat_prompt(llama.tokenizer, "Who?")
    ids = torch.tensor([context + list(llama.tokenizer(answer.text)["input_ids"])])
    after = model(ids).logits[0, len(context) - 1].softmax(-1)
    with teacher(model) as base:
        before = base(ids).logits[0, len(context) - 1].softmax(-1)
    assert answer.pieces[0][1] == pytest.approx(0.5 * (before - after).abs().sum().item(), abs=1e-3)
