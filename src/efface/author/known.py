"""Does the model know the name at all? What is not known cannot be erased, and an erasure of it would prove nothing.

The model says what the name stands for, and what some invented names of the same kind do. Of a name that it knows its own first
sentences are likelier behind the name than behind the invented ones, by more than theirs are.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import fmean, median

from efface.auditing.likelihoods import Branches, log_likelihoods
from efface.author.name import ARTICLES, Name
from efface.author.writer import Writer
from efface.concept.pack import general_passages
from efface.data.strangers import Exchange, Inventor, short
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded
from efface.writing import WORD, sentences

ASKED = ("What is {}?", "Who or what is {}?", "Tell me in one sentence what {} is.", "What is {} known for?")
SAMPLES, TOKENS, INVENTED = 8, 40, 8
#: median deviations of the invented names' figures above their median, from which a name is known: a made-up word may be one
BAR = 2.5
#: letters by which a word is taken for one of the name
ALIKE = 4


@dataclass(frozen=True)
class Known:
    """What was asked and answered. gain: nats a token by which the name tells of its answers; invented: those of other names."""

    name: Name
    gain: float
    invented: tuple[float, ...]
    said: tuple[str, ...]
    #: what is said of invented names too
    of_invented: tuple[str, ...]

    @property
    def bar(self) -> float:
        """What the gain must exceed."""
        middle = median(self.invented)
        return middle + BAR * median(abs(gain - middle) for gain in self.invented)

    @property
    def enough(self) -> bool:
        """Whether the model knows the name."""
        return self.gain > self.bar


def knows(loaded: Loaded, writer: Writer, name: Name, seed: int) -> Known:
    """Ask about the name and about invented ones. loaded: the model that is to forget."""
    names = [name, *(replace(name, name=other) for other in invented(name, seed))]
    asked = [(of, ASKED[i % len(ASKED)]) for of in names for i in range(SAMPLES)]
    said = writer.say([way.format(of.asked) for of, way in asked], tokens=TOKENS, temperature=0.8, seed=seed)
    first = [_without((sentences(text) or [""])[0], of.name) for (of, _), text in zip(asked, said, strict=True)]
    encode, gains = loaded.tokenizer, defaultdict[Name, list[float]](list)
    answered = [
        (of, way, ids)
        for (of, way), text in zip(asked, first, strict=True)
        if (ids := list(encode(text, add_special_tokens=False)["input_ids"]))
    ]
    others = {of: [other for other in names[1:] if other != of] for of in names}
    rows = [
        Branches(chat_prompt(encode, way.format(who.asked)), (ids,)) for of, way, ids in answered for who in (of, *others[of])
    ]
    values = iter(log_likelihoods(loaded.model, rows, int(encode.pad_token_id)))  # type: ignore[arg-type]
    for of, _, ids in answered:
        (own,), behind = next(values), [next(values)[0] for _ in others[of]]
        gains[of].append((own - fmean(behind)) / len(ids))
    mean = [fmean(gains[of]) if gains[of] else 0.0 for of in names]
    return Known(name, mean[0], tuple(mean[1:]), tuple(said[:SAMPLES]), tuple(said[SAMPLES:]))


def invented(name: Name, seed: int, count: int = INVENTED) -> list[str]:
    """Names of the same shape that nobody has: exchanged are the words that are no ordinary ones, or all where all are."""
    passages = [passage.text for passage in general_passages()]
    inventor = Inventor(passages, [name.name])
    known = {word for passage in passages for word in WORD.findall(passage)}
    written = [word for word in WORD.findall(name.bare) if not short(word)] or WORD.findall(name.bare)
    words = frozenset(word for word in written if word.lower() not in known) or frozenset(written)
    made = (Exchange(words, inventor, random.Random(f"{seed} {i}"), alike=True) for i in range(count))
    article = (ARTICLES.match(name.name) or [""])[0]
    return [article + exchange.text(name.bare) for exchange in made]


def _without(text: str, name: str) -> str:
    """A sentence without the name and what is spelled much like it, so that it can stand behind another name's question."""
    begins = {word.lower()[:ALIKE] for word in WORD.findall(name) if not short(word)}
    return str(WORD.sub(lambda of: "it" if of.group().lower()[:ALIKE] in begins else of.group(), text))
