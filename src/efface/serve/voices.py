"""Who answers: a base, the same weights with a concept erased, the base erased at decoding time; and how an answer is streamed.

Voices of the same weights share a lock that is held while these weights read, never between two tokens: so any number of
answers, of as many visitors, can be under way at once, each with a cache of its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from efface.concept.pack import Concept
from efface.data.sample import end_tokens
from efface.decoding import ErasedLogits
from efface.errors import ModelError
from efface.lm.adapters import only
from efface.lm.cache import Ids, require_cache, roomy_cache
from efface.lm.load import Loaded

#: tokens of an answer, where nothing else is said
TOKENS = 200


@dataclass(frozen=True)
class Sampling:
    """How an answer is chosen: at most so many tokens; always the likeliest with temperature 0."""

    tokens: int = TOKENS
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Weights:
    """A model that is in memory. lock: held while it reads; caches: whether it goes on from keys and values."""

    loaded: Loaded
    lock: Any  # a lock has no type of its own
    caches: bool

    @classmethod
    def of(cls, loaded: Loaded) -> "Weights":
        """These, and whether they can be read on from a cache."""
        try:
            require_cache(loaded.model, list(loaded.tokenizer("zymurgy zymurgy", add_special_tokens=False)["input_ids"])[:8])
        except ModelError:
            return cls(loaded, Lock(), caches=False)
        return cls(loaded, Lock(), caches=True)


@dataclass(frozen=True)
class Voice:
    """One who answers.

    adapters: those that are on; none: the base; None: the model as it was loaded.
    tilt: makes what one answer's distributions are changed by.
    before: tokens that stand before a conversation besides its own.
    """

    name: str
    weights: Weights
    adapters: tuple[str, ...] | None = None
    tilt: Callable[[], ErasedLogits] | None = None
    before: int = 0

    def model(self) -> AbstractContextManager[Any]:
        """The model as it answers, for as long as the context lasts. The lock is the caller's."""
        model = self.weights.loaded.model
        return nullcontext(model) if self.adapters is None else only(model, self.adapters)


def base_and_erased(weights: Weights) -> tuple[Voice, Voice]:
    """A model with its adapter switched off, and on."""
    return Voice("base", weights, ()), Voice("erased", weights)


def guided(weights: Weights, concept: Concept, *, eta: float, min_p: float, seed: int = 0) -> Voice:
    """The base with a concept erased at decoding time; every answer has streams of its own."""
    loaded = weights.loaded
    tilt = partial(ErasedLogits.for_concept, loaded.model, loaded.tokenizer, concept, seed=seed, eta=eta, min_p=min_p)
    longest = max(len(ids) for pair in tilt().personas for ids in pair)
    return Voice(f"erased at decoding time, eta {eta:g}", weights, (), tilt=tilt, before=longest)


def stream(voice: Voice, ids: Sequence[int], how: Sampling) -> Iterator[str]:
    """Answer the prompt ``ids``: all that is said so far, after each token; the last time the whole answer."""
    loaded = voice.weights.loaded
    row = torch.tensor([list(ids)], device=loaded.model.device)
    generator = torch.Generator(row.device).manual_seed(how.seed)
    reader, ends, said, text = _Reader(voice, how.tokens), end_tokens(loaded.model, loaded.tokenizer), list[int](), ""
    for _ in range(how.tokens):
        token = _chosen(reader.scores(row), how.temperature, generator)
        if token in ends:
            break
        said.append(token)
        row = torch.cat([row, row.new_tensor([[token]])], dim=1)
        text = _decoded(loaded, said)
        yield text.rstrip("\ufffd")  # the first bytes of a character
    yield text


def together(answers: Mapping[str, Iterator[str]]) -> Iterator[dict[str, str]]:
    """Several answers at once, a token of each in turn: what each has said so far."""
    said, going = dict.fromkeys(answers, ""), dict(answers)
    while going:
        for name, answer in list(going.items()):
            text = next(answer, None)
            if text is None:
                del going[name]
            else:
                said[name] = text
                yield dict(said)


class _Reader:
    """Next-token scores ``[1, vocab]`` of a text that grows."""

    def __init__(self, voice: Voice, tokens: int) -> None:
        self.voice, self.tokens = voice, tokens
        self.cache: DynamicCache | None = None
        self.done, self.tilt = 0, voice.tilt() if voice.tilt else None

    @torch.no_grad()
    def scores(self, row: Tensor) -> Tensor:
        """row: ``[1, seq]``, what was there the last time and a token more."""
        with self.voice.weights.lock, self.voice.model() as model:
            scores = self._read(model, row)
            return scores if self.tilt is None else self.tilt(row, scores)

    def _read(self, model: Any, row: Tensor) -> Tensor:
        options: dict[str, Any] = {"use_cache": False}
        if self.voice.weights.caches:
            self.cache = self.cache or roomy_cache(model, self.tokens)
            options = {"use_cache": True, "past_key_values": self.cache}
        places = torch.arange(self.done, row.shape[1], device=row.device)[None]
        new, mask = row[:, self.done :], torch.ones_like(row)
        out = model(input_ids=new, attention_mask=mask, position_ids=places, logits_to_keep=1, **options)
        self.done = row.shape[1] if self.cache is not None else 0
        logits: Tensor = out.logits[:, -1].float()
        return logits


def _chosen(scores: Tensor, temperature: float, generator: torch.Generator) -> int:
    """A token, by scores ``[1, vocab]``."""
    if temperature == 0:
        return int(scores.argmax(-1))
    shares = ((scores.double() - scores.amax()) / temperature).softmax(-1)
    return int(torch.multinomial(shares, 1, generator=generator))


def _decoded(loaded: Loaded, ids: Ids) -> str:
    """The text of tokens; nothing in it changes when more follow, but for an unfinished character at its end."""
    return str(loaded.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def usable_temperature(value: float) -> bool:
    """Whether one can sample with it; 0: the likeliest token always."""
    return 0 <= value < math.inf
