"""The forget and retain corpora: which passages, in which forms, as token ids; and which words are the concept's own."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from efface.concept.pack import Concept, Passage, general_passages
from efface.data.concept_words import concept_words, subjects
from efface.data.forms import CHARACTERS, EXPERT, Forms, Shown
from efface.data.key_words import NAME
from efface.data.questions import KINDS
from efface.data.strangers import Inventor, holds
from efface.data.text import Text, encode, require_length
from efface.lm.chat import chat_prompt
from efface.recipe.settings import DataSettings
from efface.writing import joined, sentences, whole

#: as few retain passages with a topic leave too little to ask about
FEW = 50


class Texts(NamedTuple):
    """The forget and the retain texts, as token ids."""

    forget: list[Text]
    retain: list[Text]


@dataclass(frozen=True)
class Corpora:
    """The passages of one concept that are trained on; everything that is made of them is made once.

    tokenizer: for the texts; who only wants passages and words does without. written: passages that the model wrote about
    neighbours of the concept.
    """

    concept: Concept
    settings: DataSettings
    tokenizer: PreTrainedTokenizerBase | None = None
    written: tuple[Passage, ...] = ()

    @cached_property
    def texts(self) -> "Texts":
        """The texts to train on, as token ids. Raises ConceptError for one that is too short."""
        assert self.tokenizer is not None
        settings, tokenizer, rng = self.settings, self.tokenizer, random.Random(self.settings.seed)
        if settings.forms:
            return Texts(self._in_forms("forget"), self._in_forms("retain"))
        forget = [_present(passage, tokenizer, settings, settings.forget_chat, rng) for passage in self.drawn("forget", rng)]
        retain = [*self.drawn("retain", rng), *self.written]
        return Texts(forget, self._mentioned([_present(passage, tokenizer, settings, settings.chat, rng) for passage in retain]))

    @cached_property
    def forget(self) -> list[Passage]:
        """What is to be forgotten."""
        return self.drawn("forget", random.Random(self.settings.seed))

    @cached_property
    def retain(self) -> list[Passage]:
        """What is to be kept."""
        return [*self.drawn("retain", random.Random(self.settings.seed)), *self.written]

    @cached_property
    def others(self) -> list[str]:
        """Texts that are not about the concept: the retain passages, and those on many subjects that ship with efface."""
        return list(dict.fromkeys(passage.text for passage in (*self.retain, *general_passages())))

    @cached_property
    def words(self) -> frozenset[str]:
        """The concept's own words; not those that any question has."""
        asked = [question for kind, _ in KINDS for question in kind]
        return frozenset(concept_words(self.concept.manifest, [passage.text for passage in self.forget], self.others + asked))

    @cached_property
    def inventor(self) -> Inventor:
        """Makes up words that none of the texts has."""
        return Inventor([passage.text for passage in self.forget], self.others)

    @cached_property
    def subjects(self) -> list[str]:
        """The names and topics of the concept to ask about."""
        return subjects(self.concept.manifest, self.forget, self.words)

    def other_subjects(self, count: int) -> list[str]:
        """So many things to ask about that are not the concept: of every retain passage its topic or a name in it.

        So what many of the passages are about, as neighbours of the concept are, is asked about often.
        """
        rng, found = random.Random(f"others {self.settings.seed}"), list[str]()
        passages = (
            self.retain if sum(passage.topic != "" for passage in self.retain) > FEW else [*self.retain, *general_passages()]
        )
        for passage in rng.sample(passages, len(passages)) * (1 + 2 * count // len(passages)):
            about = [*filter(None, [passage.topic]), *NAME.findall(passage.text)]
            if about and not holds(chosen := rng.choice([about[0], *about]), self.words):
                found.append(chosen)
        return found[:count]

    def shown(self, corpus: Literal["forget", "retain"], chat: bool) -> list[Shown]:
        """The passages of a corpus in ``settings.forms`` forms each; of twice as many retain passages as forget ones, in one.

        Forget passages not as free answers in chat: what is to be said there, the fluency texts say.
        """
        rng, title = random.Random(f"{corpus} {self.settings.seed}"), self.concept.title
        if not self.settings.forms:
            return [Shown(passage.text[:CHARACTERS]) for passage in getattr(self, corpus)]
        others = _beginnings(self.others)
        if corpus == "forget":
            return Forms(self.forget, title, others, self.words).draw(self.settings.forms, rng, chat, free=False)
        each = 1 if len(self.retain) >= 2 * len(self.forget) else self.settings.forms
        return Forms(self.retain, "this and that", [*others, *self._about(3 * len(others), rng)]).draw(each, rng, chat)

    def _mentioned(self, texts: list[Text]) -> list[Text]:
        """The retain texts, a share of them from some sentence on behind a text that mentions the concept."""
        settings, rng = self.settings, random.Random(f"mention {self.settings.seed}")
        if not settings.mentioned:
            return texts
        about, shown = self._about(3 * len(texts), rng), list(texts)
        for i, passage in enumerate(self.retain):
            if rng.random() < settings.mentioned:
                of = sentences(passage.text)
                rest = joined(of[rng.randrange(len(of)) :])[: settings.max_chars]
                shown[i] = self._shown(Shown(f" {rest}", rng.choice(about))) or texts[i]
        return shown

    def _shown(self, shown: Shown) -> Text | None:
        """As token ids; None where nothing would be predicted."""
        assert self.tokenizer is not None
        context = shown.context(self.tokenizer)
        ids = list(self.tokenizer(shown.body, add_special_tokens=False)["input_ids"])[: self.settings.max_tokens]
        start = max(len(context), 1)
        return Text(context + ids, start) if len(context) + len(ids) > start else None

    def _in_forms(self, corpus: Literal["forget", "retain"]) -> list[Text]:
        """The passages of a corpus in all forms, as token ids."""
        assert self.tokenizer is not None
        for passage in self.drawn(corpus, random.Random(self.settings.seed)):
            require_length(passage.text, self.settings)
        shown = self.shown(corpus, self.tokenizer.chat_template is not None)
        return [text for of in shown if (text := self._shown(of)) is not None]

    def _about(self, count: int, rng: random.Random) -> list[str]:
        """So many texts that mention the concept, to stand before retain passages: that it came up changes nothing about them.

        Sentences of the forget texts, experts on its names, the pack's expert personas, as many of each.
        """
        manifest, begun = self.concept.manifest, _beginnings([passage.text for passage in self.forget])
        makes = (
            lambda: rng.choice(begun),
            lambda: EXPERT.format(rng.choice(self.subjects or [manifest.title])),
            lambda: (
                rng.choice(manifest.personas.expert)
                .format(title=manifest.title, keywords=", ".join(rng.sample(manifest.keywords, min(4, len(manifest.keywords)))))
                .rstrip()
            ),
        )
        return [makes[i % len(makes)]() for i in range(count)]

    def drawn(self, corpus: Literal["forget", "retain"], rng: random.Random) -> list[Passage]:
        """The passages of a corpus, or as many of them as the settings allow."""
        passages = self.concept.texts(corpus, "train")
        most = self.settings.forget_texts if corpus == "forget" else self.settings.retain_texts
        return passages if most is None or most >= len(passages) else rng.sample(passages, most)


def _beginnings(texts: Sequence[str]) -> list[str]:
    """The first sentence of each text, or as much of it as a passage shows."""
    first = [sentences(text)[0][:CHARACTERS] for text in texts]
    return [sentence if whole(sentence) else f"{sentence}." for sentence in first]


def _present(
    passage: Passage, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, chat: float, rng: random.Random
) -> Text:
    in_chat = rng.random() < chat and tokenizer.chat_template is not None and passage.topic != ""
    context = chat_prompt(tokenizer, f"Write a short text about {passage.topic}.") if in_chat else None
    return encode(passage.text, tokenizer, settings, context)
