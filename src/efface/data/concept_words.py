"""The concept's own words, and the things that can be asked about it; from texts as they are written, before any tokenizer."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

from efface.concept.pack import Manifest, Passage
from efface.data.key_words import KEY, NAME
from efface.data.strangers import holds, plain, short
from efface.data.terms import coherent, terms
from efface.writing import WORD, stems
from efface.writing import words as all_words

#: names of the forget texts that are asked about, at most
NAMES = 150


def concept_words(manifest: Manifest, forget: Sequence[str], others: Sequence[str]) -> list[str]:
    """Words that are e^3 times as frequent in the forget texts as in others, however they are written; in alphabetical order.

    Names count from their first occurrence, if no other text has them. Of title, aliases, keywords and topics each has a word.
    """
    often, rarely = (_counts(texts) for texts in (forget, others))
    least = math.exp(KEY) * _size(forget) / max(1, _size(others))
    names = {word for text in forget for name in NAME.findall(text) for word in WORD.findall(name)}
    written = {stem for text in forget for word in WORD.findall(text) for stem in stems(plain(word))}
    found = {
        word: often[word.lower()]
        for word in written
        if not short(word)
        and word[0].isalpha()
        and not any(map(str.isdigit, word))
        and often[word.lower()] + 0.1 > least * (rarely[word.lower()] + 0.1)
        and (often[word.lower()] > 1 or (word in names and not rarely[word.lower()]))
    }
    words = coherent(found, lambda word: stems(word)[1:])
    words |= {word for word, (ours, theirs) in terms(forget, others).items() if ours + 0.1 > least * (theirs + 0.1)}
    for subject in (manifest.title, *manifest.aliases, *manifest.keywords, *manifest.topics):
        words |= set(rarest(subject, words, rarely))
    return sorted(words)


def rarest(subject: str, words: Collection[str], rarely: Counter[str]) -> list[str]:
    """Where a subject has no word of the concept: the one of its words that other texts have least often."""
    if holds(subject, words):
        return []
    written = [stem for word in WORD.findall(subject) for stem in stems(plain(word))]
    found = [word for word in written if not short(word)] or written
    return sorted(found, key=lambda word: (rarely[word.lower()], -len(word)))[:1]


def subjects(manifest: Manifest, forget: Sequence[Passage], words: Collection[str]) -> list[str]:
    """What questions about the concept are asked about: topics (twice), names of the forget texts, keywords, aliases, title."""
    counts = Counter(name for passage in forget for name in NAME.findall(passage.text))
    names = [name for name, _ in counts.most_common() if holds(name, words)][:NAMES]
    asked = [*manifest.topics, *manifest.topics, *names, *manifest.keywords, *manifest.aliases, manifest.title]
    return [subject for subject in asked if holds(subject, words)]


def _counts(texts: Sequence[str]) -> Counter[str]:
    return Counter(stem.lower() for text in texts for word in all_words(text) for stem in stems(plain(word)))


def _size(texts: Sequence[str]) -> int:
    return sum(len(all_words(text)) for text in texts)
