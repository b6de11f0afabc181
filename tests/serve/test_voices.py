"""Answers as they are streamed: what transformers says, whoever else is answered meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from efface.concept.pack import Concept
from efface.data.sample import plain_generation, sample
from efface.decoding import ErasedLogits
from efface.lm.chat import chat_prompt
from efface.lm.layers import teacher
from efface.serve.voices import Sampling, Voice, guided, stream, together

SHORT = Sampling(tokens=24)
QUESTIONS = ["Who was Orlo?", "What is bread?"]


def asked(voice: Voice, question: str, how: Sampling = SHORT) -> Iterator[str]:
    return stream(voice, chat_prompt(voice.weights.loaded.tokenizer, question), how)


def last(voice: Voice, question: str, how: Sampling = SHORT) -> str:
    return list(asked(voice, question, how))[-1]


@pytest.mark.parametrize("caches", [True, False])
def test_an_answer_is_the_one_of_transformers(pair: tuple[Voice, Voice], caches: bool) -> None:
    loaded = pair[0].weights.loaded
    assert pair[0].weights.caches
    said = []
    for voice in pair:
        with teacher(loaded.model) if voice.adapters == () else nullcontext(loaded.model) as model, plain_generation(model):
            (ids,) = sample(model, loaded.tokenizer, [chat_prompt(loaded.tokenizer, QUESTIONS[0])], max_new_tokens=24)
        said.append(loaded.tokenizer.decode(ids, skip_special_tokens=True))
        assert last(replace(voice, weights=replace(voice.weights, caches=caches)), QUESTIONS[0]) == said[-1]
    assert said[0] != said[1]


def test_answers_under_way_at_once_are_those_of_each_alone(pair: tuple[Voice, Voice], zorn: Concept) -> None:
    voices = [*pair, *(guided(pair[0].weights, zorn, eta=eta, min_p=0.02, seed=0) for eta in (3, 30))]
    wanted = [(voice, question) for voice in voices for question in QUESTIONS]
    alone = [last(*of) for of in wanted]
    assert len(set(alone)) > len(wanted) / 2
    interleaved = list(together({str(i): asked(*of) for i, of in enumerate(wanted)}))[-1]
    assert list(interleaved.values()) == alone
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda of: last(*of), wanted)) == alone


def test_erased_at_decoding_time_as_transformers_does_it(pair: tuple[Voice, Voice], zorn: Concept) -> None:
    loaded = pair[0].weights.loaded
    tilt = ErasedLogits.for_concept(loaded.model, loaded.tokenizer, zorn, eta=30.0, min_p=0.02)
    with teacher(loaded.model) as base, plain_generation(base):
        (ids,) = sample(base, loaded.tokenizer, [chat_prompt(loaded.tokenizer, QUESTIONS[0])], [tilt], max_new_tokens=24)
    voice = guided(pair[0].weights, zorn, eta=30, min_p=0.02, seed=0)
    assert last(voice, QUESTIONS[0]) == loaded.tokenizer.decode(ids, skip_special_tokens=True) != last(pair[0], QUESTIONS[0])


def test_a_seed_decides_what_is_sampled(pair: tuple[Voice, Voice]) -> None:
    def say(temperature: float, seed: int) -> str:
        return last(pair[0], QUESTIONS[0], Sampling(24, temperature, seed))

    assert say(1.0, 1) == say(1.0, 1) != say(1.0, 2)
    assert say(1e-9, 1) == say(1e-320, 2) == say(0, 3)


def test_an_unfinished_character_is_held_back(pair: tuple[Voice, Voice], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = pair[0].weights.loaded.tokenizer
    tokens = iter(tokenizer("aé€", add_special_tokens=False)["input_ids"])
    monkeypatch.setattr("efface.serve.voices._chosen", lambda *_: next(tokens, 1))
    torch.manual_seed(0)
    assert list(dict.fromkeys(asked(pair[0], "?"))) == ["a", "aé", "aé€"]
