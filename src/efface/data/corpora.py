"""The forget and retain corpora: which passages, in which forms, as token ids; and which words are the concept's own."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from transformers import PreTrainedTokenizerBase

from efface.concept import Concept, Passage, general_passages
from efface.data.forms import Forms, Shown
from efface.data.strangers import Inventor, holds
from efface.data.text import Text, encode
from efface.data.words import concept_words, subjects
from efface.prompts import chat_prompt
from efface.recipe import DataSettings


@dataclass(frozen=True)
class Corpora:
    """The passages of one concept that are trained on. written: those that the model wrote about neighbours of the concept."""

    concept: Concept
    settings: DataSettings
    written: tuple[Passage, ...] = ()

    @cached_property
    def forget(self) -> list[Passage]:
        """What is to be forgotten."""
        return self._drawn("forget", self.settings.forget_texts)

    @cached_property
    def retain(self) -> list[Passage]:
        """What is to be kept."""
        return [*self._drawn("retain", self.settings.retain_texts), *self.written]

    @cached_property
    def others(self) -> list[str]:
        """Texts that are not about the concept: the retain passages, and those on many subjects that ship with efface."""
        return list(dict.fromkeys(passage.text for passage in (*self.retain, *general_passages())))

    @cached_property
    def words(self) -> frozenset[str]:
        """The concept's own words."""
        return frozenset(concept_words(self.concept.manifest, [passage.text for passage in self.forget], self.others))

    @cached_property
    def inventor(self) -> Inventor:
        """Makes up words that none of the texts has."""
        return Inventor([passage.text for passage in self.forget] + self.others)

    def subjects(self) -> list[str]:
        """What can be asked about the concept."""
        return subjects(self.concept.manifest, self.forget, self.words)

    def other_subjects(self) -> list[str]:
        """What can be asked about everything else: neighbours before all, the topics of the retain passages and of general ones."""
        topics = [passage.topic for passage in (*self.retain, *general_passages()) if passage.topic]
        return [topic for topic in dict.fromkeys(topics) if not holds(topic, self.words)]

    def shown(self, corpus: Literal["forget", "retain"], chat: bool) -> list[Shown]:
        """The passages of a corpus in ``settings.forms`` forms each; twice as many retain passages as forget ones need only one."""
        rng, title = random.Random(f"{corpus} {self.settings.seed}"), self.concept.title
        sentences = [text.split(". ")[0].rstrip(".") + "." for text in self.others]
        if corpus == "forget":
            return Forms(self.forget, title, sentences, self.words).draw(self.settings.forms, rng, chat)
        each = 1 if len(self.retain) >= 2 * len(self.forget) else self.settings.forms
        return Forms(self.retain, "this and that", sentences).draw(each, rng, chat)

    def _drawn(self, corpus: Literal["forget", "retain"], most: int | None) -> list[Passage]:
        passages = self.concept.texts(corpus, "train")
        rng = random.Random(self.settings.seed)
        return passages if most is None or most >= len(passages) else rng.sample(passages, most)


def training_texts(concept: Concept, tokenizer: PreTrainedTokenizerBase, settings: DataSettings) -> tuple[list[Text], list[Text]]:
    """The forget and retain texts to train on. Raises ConceptError for a text that is too short."""
    if settings.forms:
        corpora = Corpora(concept, settings)
        return texts_in_forms(corpora, "forget", tokenizer), texts_in_forms(corpora, "retain", tokenizer)
    rng = random.Random(settings.seed)

    def presented(corpus: Literal["forget", "retain"], most: int | None, chat: float) -> list[Text]:
        return [_present(passage, tokenizer, settings, chat, rng) for passage in _draw(concept.texts(corpus, "train"), most, rng)]

    return (
        presented("forget", settings.forget_texts, settings.forget_chat),
        presented("retain", settings.retain_texts, settings.chat),
    )


def texts_in_forms(corpora: Corpora, corpus: Literal["forget", "retain"], tokenizer: PreTrainedTokenizerBase) -> list[Text]:
    """The passages of a corpus in all forms, as token ids."""
    texts = []
    for shown in corpora.shown(corpus, tokenizer.chat_template is not None):
        context = shown.context(tokenizer)
        ids = list(tokenizer(shown.body, add_special_tokens=False)["input_ids"])[: corpora.settings.max_tokens]
        if len(context) + len(ids) > max(len(context), 1):
            texts.append(Text(context + ids, max(len(context), 1)))
    return texts


def _draw(passages: Sequence[Passage], most: int | None, rng: random.Random) -> list[Passage]:
    return list(passages) if most is None or most >= len(passages) else rng.sample(passages, most)


def _present(
    passage: Passage, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, chat: float, rng: random.Random
) -> Text:
    in_chat = rng.random() < chat and tokenizer.chat_template is not None and passage.topic != ""
    context = chat_prompt(tokenizer, f"Write a short text about {passage.topic}.") if in_chat else None
    return encode(passage.text, tokenizer, settings, context)
