"""What the frozen model answers, sampled and stored."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from efface.data import answers as module
from efface.data.answers import NoRepeats, answers
from efface.data.sample import end_tokens
from efface.data.store import Store
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded
from tests.data.test_targets import store as store


def prompts_of(loaded: Loaded, count: int) -> list[list[int]]:
    return [chat_prompt(loaded.tokenizer, f"What is {'very ' * (i % 5)}old number {i}?") for i in range(count)]


HOW: dict[str, Any] = {"tokens": 14, "brief": 0, "temperature": 1.0, "seed": 3}


def test_answers_come_from_the_store_again_and_go_on_where_they_were_killed(
    store: Store, llama: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prompts, sample, calls = prompts_of(llama, 3 * module.BATCH - 5), module.sample, list[int]()

    def counted(base: Any, tokenizer: Any, rows: Any, *also: Any, **how: Any) -> Any:
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(base, tokenizer, rows, *also, **how)

    monkeypatch.setattr(module, "sample", counted)
    with pytest.raises(KeyboardInterrupt):
        answers(llama, store, prompts, **HOW)
    resumed = answers(llama, store, prompts, **HOW)
    assert len(calls) == 4, "the first batch was there, the second and third were made"
    assert answers(llama, store, prompts, **HOW) == resumed
    assert len(calls) == 4
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "another"))
    torch.manual_seed(99)
    assert answers(llama, store, prompts, **HOW) == resumed, "whatever else was drawn, and with an empty store"
    assert answers(llama, store, prompts, **{**HOW, "seed": 4}) != resumed


def test_no_answer_has_the_same_four_tokens_twice(store: Store, llama: Loaded) -> None:
    prompts = prompts_of(llama, 8)
    found = answers(llama, store, prompts, tokens=60, brief=0, temperature=0.05, seed=0)
    ends = end_tokens(llama.model, llama.tokenizer)
    for prompt, ids in zip(prompts, found, strict=True):
        assert 0 < len(ids) <= 61
        assert not ends & set(ids[:-1])
        grams, asked = ([tuple(of[i : i + 4]) for i in range(len(of) - 3)] for of in (ids, prompt))
        twice = {gram for gram, n in Counter(grams).items() if n > 1}
        assert twice <= set(asked)


@pytest.mark.parametrize("n", [2, 3])
def test_what_the_prompt_has_may_be_said_again_and_again(n: int) -> None:
    rng = random.Random(n)
    prompts, new = ([[rng.randrange(4) for _ in range(length)] for _ in range(6)] for length in (9, 40))
    processor, forbidden, excused = NoRepeats(n), 0, 0
    for step in range(40):
        rows = [prompt + said[:step] for prompt, said in zip(prompts, new, strict=True)]
        got = processor(torch.tensor(rows), torch.zeros(6, 4))  # type: ignore[arg-type]
        for row, prompt, said in zip(got, prompts, new, strict=True):
            for token in range(4):
                whole = [*said[:step], token]
                gram, before = whole[-n:], [whole[i : i + n] for i in range(len(whole) - n)]
                again = len(whole) >= n and gram in before
                asked = gram in [prompt[i : i + n] for i in range(len(prompt) - n + 1)]
                assert (row[token] == -torch.inf) == (again and not asked)
                forbidden, excused = forbidden + (again and not asked), excused + (again and asked)
    assert forbidden > 20
    assert excused > 5


def test_answers_end_with_a_sentence(store: Store, llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = llama.tokenizer
    (end,) = tokenizer("<|end|>", add_special_tokens=False)["input_ids"]
    ends = end_tokens(llama.model, tokenizer)
    said = list(tokenizer("The dough rests. It rises at 3. It is baked. It is done", add_special_tokens=False)["input_ids"])
    monkeypatch.setattr(module, "sample", lambda *_, **__: [said])
    for brief in (1, len(said) // 2):
        (got,) = answers(llama, store, prompts_of(llama, 1), tokens=len(said), brief=brief, temperature=1.0, seed=0)
        *words, last = got
        assert last in ends | {end}
        assert words == said[: len(words)]
        assert tokenizer.decode(words).endswith(".")
        assert len(words) > brief
        assert not tokenizer.decode(said[brief : len(words) - 1]).rstrip().endswith(("rests.", "baked."))
    (whole,) = answers(llama, store, prompts_of(llama, 1), tokens=len(said), brief=0, temperature=1.0, seed=0)
    assert whole == said, "cut in the middle, it did not end"
    (ended,) = answers(llama, store, prompts_of(llama, 1), tokens=len(said) + 1, brief=0, temperature=1.0, seed=0)
    assert ended[:-1] == said
    assert ended[-1] in ends
