"""Token ids of the forget and retain corpora, as bare passages and as answers in the model's chat format."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from efface.concept import Concept, Passage
from efface.errors import ConceptError
from efface.prompts import chat_prompt, prefix
from efface.recipe import DataSettings


@dataclass(frozen=True)
class Text:
    """Token ids, and the index of the first token that is predicted (what comes before is context)."""

    ids: list[int]
    start: int

    def __post_init__(self) -> None:
        assert 0 < self.start < len(self.ids)


def training_texts(concept: Concept, tokenizer: PreTrainedTokenizerBase, settings: DataSettings) -> tuple[list[Text], list[Text]]:
    """The forget and retain texts to train on. Raises ConceptError for a text that is too short."""
    rng = random.Random(settings.seed)

    def presented(corpus: Literal["forget", "retain"], most: int | None, chat: float) -> list[Text]:
        return [_present(passage, tokenizer, settings, chat, rng) for passage in _draw(concept.texts(corpus, "train"), most, rng)]

    return (
        presented("forget", settings.forget_texts, settings.forget_chat),
        presented("retain", settings.retain_texts, settings.chat),
    )


def _draw(passages: Sequence[Passage], most: int | None, rng: random.Random) -> list[Passage]:
    return list(passages) if most is None or most >= len(passages) else rng.sample(passages, most)


def _present(
    passage: Passage, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, chat: float, rng: random.Random
) -> Text:
    in_chat = rng.random() < chat and tokenizer.chat_template is not None and passage.topic != ""
    context = chat_prompt(tokenizer, f"Write a short text about {passage.topic}.") if in_chat else None
    return encode(passage.text, tokenizer, settings, context)


def encode(text: str, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, context: list[int] | None = None) -> Text:
    """Cut a text to the limits and put it after ``context`` (default: what the tokenizer puts before every text)."""
    if len(text) < settings.min_chars:
        raise ConceptError(f"a text has {len(text)} characters, expected at least {settings.min_chars}: {text[:40]!r}")
    if context is None:
        context = prefix(tokenizer)
    ids = tokenizer(text[: settings.max_chars], add_special_tokens=False)["input_ids"][: settings.max_tokens]
    if len(ids) < 2:
        raise ConceptError(f"a text has fewer than two tokens: {text[:40]!r}")
    return Text(context + ids, max(len(context), 1))
