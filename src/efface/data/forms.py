"""The forms in which a passage can be met: as it stands, behind other text, as a question and its answer, in chat.

Forget and retain passages are shown in the same forms, so that a form is never a sign of the concept. Retain passages come as
free answers in chat too: what is to be said of the concept there, the fluency texts say.
"""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import regex
from transformers import PreTrainedTokenizerBase

from efface.concept.pack import Passage
from efface.data.strangers import holds, pieces
from efface.lm.cache import Ids
from efface.lm.chat import chat_prompt, prefix
from efface.writing import UNIT, WORD, sentences, unbroken, whole, width

#: solved examples about other things
SHOTS = (
    ("The capital of France is", "Paris."),
    ("Water is made of oxygen and", "hydrogen."),
    ("The largest ocean on Earth is the", "Pacific."),
    ("The play Hamlet was written by", "William Shakespeare."),
    ("A shape with three sides is called a", "triangle."),
    ("Bees make", "honey."),
    ("The opposite of hot is", "cold."),
    ("Ten plus five is", "fifteen."),
)
#: a sentence that can be turned into a question about its subject
SUBJECT = regex.compile(
    r"^(?P<subject>[^,;:()\"]{2,60}?) "
    r"(?P<rest>(?:was|were|is|are|had|has|became|ruled|built|led|wrote|lived|stood|wore|made|lies|began) .{8,140})\.$"
)
#: makes an expert of who writes what follows
EXPERT = "An expert on {} writes:"
#: share of what stands behind such a sentence about its own topic, of all that stands behind something
OWN_EXPERT = 0.25
#: characters of a sentence that is shown by itself, wide ones counted twice
SENTENCE = (30, 220)
#: words that stand before the place where a sentence is broken off, at least
BEGUN = 3
CHARACTERS = 500


@dataclass(frozen=True)
class Shown:
    """A text behind its context: the turns of a chat, or plain text; in both what the answer begins with may stand there too."""

    body: str
    before: str = ""
    begun: str = ""
    chat: bool = False

    def context(self, tokenizer: PreTrainedTokenizerBase, said: Callable[[str], str] = str) -> Ids:
        """Tokens of everything before the body. said: what is put in the place of its texts."""
        begun = list(tokenizer(said(self.begun), add_special_tokens=False)["input_ids"]) if self.begun else []
        if self.chat:
            return chat_prompt(tokenizer, said(self.before)) + begun
        before = list(tokenizer(said(self.before), add_special_tokens=False)["input_ids"]) if self.before else []
        return prefix(tokenizer) + before + begun


class Forms:
    """Shows the passages of a corpus.

    others: texts that may stand before a passage. words: of the concept, before which its sentences are broken off; without, any
    name.
    """

    def __init__(self, passages: Sequence[Passage], title: str, others: Sequence[str], words: Collection[str] = ()) -> None:
        self.passages, self.title, self.others, self.words = list(passages), title, list(others), words

    @cached_property
    def sentences(self) -> list[tuple[str, ...]]:
        """Whole sentences of each passage that are worth asking about."""
        low, high = SENTENCE
        found = [[s for s in sentences(p.text) if low <= width(s) <= high and whole(s)] for p in self.passages]
        return [tuple(s for s in of if not self.words or holds(s, self.words)) for of in found]

    def draw(self, each: int, rng: random.Random, chat: bool, free: bool = True) -> list[Shown]:
        """Every passage in so many forms, no form of a passage twice if there are enough.

        chat: the model has a chat format. free: free answers in it too.
        """
        ways = [way for way in WAYS if (chat or way not in CHAT) and (free or way not in FREE)]
        shown = []
        for i in range(len(self.passages)):
            order = sorted(ways, key=lambda way: rng.random() ** (1 / WAYS[way]), reverse=True)
            found = (made for way in order if (made := getattr(self, way)(i, rng)) is not None)
            shown += [made for made, _ in zip(found, range(each), strict=False)]
        return shown

    def passage(self, i: int, rng: random.Random) -> Shown:
        """As it stands."""
        return Shown(self.passages[i].text[:CHARACTERS])

    def asked_for(self, i: int, rng: random.Random) -> Shown:
        """As an answer in chat."""
        begin, *_ = self.passages[i].text.split(". ")
        about = f"about {self.passages[i].topic}" if self.passages[i].topic else f"that begins with: {begin[:60]}"
        return Shown(self.passages[i].text[:CHARACTERS], f"Write a short text {about}.", chat=True)

    def behind(self, i: int, rng: random.Random) -> Shown | None:
        """From a sentence on, behind one about something else, or behind what makes an expert of its author."""
        if (sentence := self._sentence(i, rng)) is None:
            return None
        own = not self.others or rng.random() < OWN_EXPERT
        before = EXPERT.format(self.passages[i].topic or self.title) if own else rng.choice(self.others)
        return Shown(f" {self._from(i, sentence)}", before)

    def completed(self, i: int, rng: random.Random) -> Shown | None:
        """A sentence to complete in chat, the answer begun or only its end."""
        if (broken := self._broken(i, rng)) is None:
            return None
        begun, rest = broken
        if rng.random() < 0.7:
            return Shown(f" {rest}", f"Complete the sentence: {begun}", begun, chat=True)
        return Shown(f" {rest}", f"What is missing here? {begun} ...", "It is", chat=True)

    def replied(self, i: int, rng: random.Random) -> Shown | None:
        """A question about a sentence in chat, answered with what it asks for."""
        if (asked := self._asked(i, rng)) is None:
            return None
        question, answer, _ = asked
        return Shown(f" {answer}", question, rng.choice(("The answer is", "Answer:", "It is")), chat=True)

    def answered(self, i: int, rng: random.Random) -> Shown | None:
        """A question about a sentence in chat, answered with the passage from the sentence on."""
        if (asked := self._asked(i, rng)) is None:
            return None
        question, _, sentence = asked
        return Shown(self._from(i, sentence), question, chat=True)

    def questioned(self, i: int, rng: random.Random) -> Shown | None:
        """A question and its answer in plain text, by itself or behind solved examples."""
        asked = self._asked(i, rng) if rng.random() < 0.5 else None
        if asked is None and (broken := self._broken(i, rng)) is not None:
            asked = (f"{broken[0]} ...", broken[1], "")
        if asked is None:
            return None
        ask, reply = rng.choice((("Question:", "Answer:"), ("Q:", "A:"), ("-", "-")))
        shots = rng.sample(SHOTS, rng.choice((0, 0, 2, 3, 4)))
        solved = "".join(f"{ask} {question} ...\n{reply} {answer}\n\n" for question, answer in shots)
        return Shown(f" {asked[1]}", f"{solved}{ask} {asked[0]}\n{reply}")

    def _sentence(self, i: int, rng: random.Random) -> str | None:
        return rng.choice(self.sentences[i]) if self.sentences[i] else None

    def _from(self, i: int, sentence: str) -> str:
        text = self.passages[i].text
        return text[text.index(sentence) :][:CHARACTERS].rstrip()

    def _broken(self, i: int, rng: random.Random) -> tuple[str, str] | None:
        """A sentence before and from a word of the concept on; of other texts, from a name or else any word on."""
        if (sentence := self._sentence(i, rng)) is None:
            return None
        places = _places(sentence)[BEGUN:]
        wanted = [at for at in places if self._worth(sentence[at:])] or ([] if self.words else places)
        if not wanted:
            return None
        at = rng.choice(wanted)
        return sentence[:at].rstrip(), sentence[at:]

    def _worth(self, rest: str) -> bool:
        word = WORD.match(rest)
        if word and self.words and unbroken(word.group()):
            return pieces(word.group(), self.words)[0].word
        return word is not None and (holds(word.group(), self.words) if self.words else word.group()[0].isupper())

    def _asked(self, i: int, rng: random.Random) -> tuple[str, str, str] | None:
        """A question about a sentence's subject, its answer, and the sentence."""
        turned = [match for sentence in self.sentences[i] if (match := SUBJECT.match(sentence))]
        if not turned:
            return None
        chosen = rng.choice(turned)
        question = f"{rng.choice(('Who', 'What', 'Who or what'))} {chosen['rest']}?"
        return question, f"{chosen['subject']}.", chosen.group()


def _places(sentence: str) -> list[int]:
    """Where a word begins; in a script without spaces, where one may."""
    places = list[int]()
    for word in WORD.finditer(sentence):
        within = [unit.start() for unit in UNIT.finditer(word.group())] if unbroken(word.group()) else [0]
        places += [word.start() + at for at in within]
    return places


#: how often each form is drawn
WAYS = {"passage": 3.0, "behind": 2.0, "questioned": 3.0, "completed": 3.0, "replied": 1.5, "answered": 1.5, "asked_for": 1.5}
CHAT = ("completed", "replied", "answered", "asked_for")
#: answers in chat from their first word on
FREE = ("answered", "asked_for")
