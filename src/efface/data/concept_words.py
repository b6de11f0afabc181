"""The concept's own words, and the things that can be asked about it; from texts as they are written, before any tokenizer."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

from efface.concept.pack import Manifest, Passage
from efface.data.key_words import KEY, NAME, WORD
from efface.data.strangers import GENITIVE, SHORT, holds

#: names of the forget texts that are asked about, at most
NAMES = 150


def concept_words(manifest: Manifest, forget: Sequence[str], others: Sequence[str]) -> list[str]:
    """Words that are e^3 times as frequent in the forget texts as in others, however they are written; in alphabetical order.

    Names count from their first occurrence, if no other text has them. Of title, aliases, keywords and topics each has a word.
    """
    often, rarely = (_counts(texts) for texts in (forget, others))
    least = math.exp(KEY) * often.total() / max(1, rarely.total())
    names = {word for text in forget for name in NAME.findall(text) for word in WORD.findall(name)}
    words = {
        word
        for word in {GENITIVE.sub("", word) for text in forget for word in WORD.findall(text)}
        if len(word) > SHORT
        and word[0].isalpha()
        and not any(map(str.isdigit, word))
        and often[word.lower()] + 0.1 > least * (rarely[word.lower()] + 0.1)
        and (often[word.lower()] > 1 or (word in names and not rarely[word.lower()]))
    }
    for subject in (manifest.title, *manifest.aliases, *manifest.keywords, *manifest.topics):
        words |= set(rarest(subject, words, rarely))
    return sorted(words)


def rarest(subject: str, words: Collection[str], rarely: Counter[str]) -> list[str]:
    """Where a subject has no word of the concept: the one of its words that other texts have least often."""
    if holds(subject, words):
        return []
    written = [_plain(word) for word in WORD.findall(subject)]
    found = [word for word in written if len(word) > SHORT] or written
    return sorted(found, key=lambda word: (rarely[word.lower()], -len(word)))[:1]


def subjects(manifest: Manifest, forget: Sequence[Passage], words: Collection[str]) -> list[str]:
    """What questions about the concept are asked about: topics (twice), names of the forget texts, keywords, aliases, title."""
    counts = Counter(name for passage in forget for name in NAME.findall(passage.text))
    names = [name for name, _ in counts.most_common() if holds(name, words)][:NAMES]
    asked = [*manifest.topics, *manifest.topics, *names, *manifest.keywords, *manifest.aliases, manifest.title]
    return [subject for subject in asked if holds(subject, words)]


def _counts(texts: Sequence[str]) -> Counter[str]:
    return Counter(_plain(word).lower() for text in texts for word in WORD.findall(text))


def _plain(word: str) -> str:
    return GENITIVE.sub("", word)
