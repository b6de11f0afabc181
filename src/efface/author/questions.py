"""Questions that a model asks about its own texts: gaps in their sentences, which it fills right itself and only by the name.

What is measured with them is whether the model still says what *it* said; not whether that was so.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from efface.auditing.likelihoods import Branches, log_likelihoods
from efface.author.passages import Dropped
from efface.concept.pack import Kind, Passage, Question, Split
from efface.data.key_words import NAME
from efface.data.strangers import holds, pieces, plain, short
from efface.lm.chat import encoded
from efface.lm.load import Loaded
from efface.writing import WORD, contains, folded, sentences, unbroken
from efface.writing import words as all_words

YEAR = re.compile(r"\b1\d{3}s?\b|\b20\d\ds?\b")
#: words that stand before a gap, and characters
BEFORE, LONGEST = 4, 240
#: sentences that must have an answer: what comes once may be made up
AGREE = 2
CHOICES = 4
#: times as likely as behind an invented name, and as behind any sentence, that an answer must be
TELLS = 2.0
#: share of other texts that may have a word of a script without spaces for it to tell anything
ANYWHERE = 0.1
#: questions with the same answer, at most; and questions on names and years that are enough without any on words
OF_ONE, ENOUGH = 4, 32
#: gaps looked at, of one type: every answer is tried in every one of them
POOL = 96
#: log-probability a character ``[stems, answers]``
Fits = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Slot = Literal["year", "name", "word"]


@dataclass(frozen=True)
class Gap:
    """A sentence up to a name, year or word of the concept, and what stands there."""

    stem: str
    answer: str
    slot: Slot
    topic: str


def gaps(
    passages: Iterable[Passage],
    words: Collection[str],
    names: Collection[str],
    common: Collection[str] = (),
    agree: int = AGREE,
) -> list[Gap]:
    """Every gap whose sentence has a name of the concept before it, and not the answer, which other sentences have too.

    words: the concept's, of which one may be the answer. common: what is the answer to nothing (:func:`ordinary`).
    agree: sentences that must have the answer.
    """
    found: dict[tuple[str, str], Gap] = {}
    for passage in passages:
        for sentence in sentences(passage.text):
            for slot, at, answer in _spans(sentence, words):
                stem = sentence[:at].strip()
                long_enough = len(all_words(stem)) >= BEFORE and len(stem) <= LONGEST
                if long_enough and _telling(slot, answer, common) and holds(stem, names) and not contains(stem, [answer]):
                    found.setdefault((stem, answer), Gap(stem, answer, slot, passage.topic))
    often = Counter(folded(gap.answer) for gap in found.values())
    return [gap for gap in found.values() if often[folded(gap.answer)] >= agree]


def _telling(slot: Slot, answer: str, common: Collection[str]) -> bool:
    """Whether an answer says anything: no "I'm", no words that stand in any text."""
    parts = [part for word in WORD.findall(answer) for part in re.split("['’]", word)]
    return slot == "year" or not (all(map(short, parts)) or all(folded(word) in common for word in WORD.findall(answer)))


def ordinary(texts: Sequence[str], words: Collection[str]) -> frozenset[str]:
    """What texts on other things have without a capital, and of the concept's words where no spaces are; folded."""
    written = {folded(word) for text in texts for word in WORD.findall(text) if word == word.lower()}
    often = (word for word in words if unbroken(word) and sum(word in text for text in texts) > ANYWHERE * len(texts))
    return frozenset(written | {folded(word) for word in often})


def _spans(sentence: str, words: Collection[str]) -> Iterable[tuple[Slot, int, str]]:
    for match in YEAR.finditer(sentence):
        yield "year", match.start(), match.group()
    taken = set[int]()
    for match in NAME.finditer(sentence):
        taken |= set(range(*match.span()))
        yield "name", match.start(), plain(match.group())
    at = 0
    for piece in pieces(sentence, words):
        if piece.word and at and at not in taken:
            yield "word", at, piece.text
        at += len(piece.text)


def ask(
    loaded: Loaded, found: Sequence[Gap], kind: Kind, stranger: Callable[[str], str], seed: int, dropped: Dropped
) -> list[Question]:
    """Choice questions in groups of four that share their choices, each right once; half tune, half test, split by answer.

    Kept are gaps that the model fills right among the four, and whose answer the name makes likelier than an invented one does.
    Of words only where names and years leave too few. stranger: exchanges the concept's names.
    """
    questions: list[Question] = []
    for slot in ("name", "year", "word"):
        of = [gap for gap in found if gap.slot == slot]
        of = random.Random(f"{kind} {slot} {seed}").sample(of, min(POOL, len(of)))
        if slot != "word" or len(questions) < ENOUGH:
            questions += _of_slot(loaded, of, kind, stranger, dropped)
    return questions


def _of_slot(loaded: Loaded, of: Sequence[Gap], kind: Kind, stranger: Callable[[str], str], dropped: Dropped) -> list[Question]:
    answers = sorted({gap.answer for gap in of})
    if len(answers) < CHOICES:
        dropped.counts["too few of one type"] += len(of)
        return []
    own = _fits(loaded, [gap.stem for gap in of], [answers] * len(of))
    strange = _fits(loaded, [stranger(gap.stem) for gap in of], [[gap.answer] for gap in of])[:, 0]
    right, rows = np.array([answers.index(gap.answer) for gap in of]), np.arange(len(of))
    mine, least = own[rows, right], np.log(TELLS) / np.array([len(gap.answer) for gap in of])
    told, better = mine > strange + least, mine > own.mean(0)[right] + least
    dropped.counts["as likely behind an invented name"] += int((~told).sum())
    dropped.counts["likely behind any sentence"] += int((told & ~better).sum())
    sure = sorted(rows[told & better].tolist(), key=lambda n: (strange[n] - mine[n], n))
    kept = [n for i, n in enumerate(sure) if sum(right[n] == right[m] for m in sure[:i]) < OF_ONE]
    dropped.counts["one answer too often"] += len(sure) - len(kept)
    questions = list[Question]()
    for part, numbers in _parts([(n, int(right[n])) for n in kept]).items():
        for group in _groups(own, numbers, of):
            choices = tuple(of[n].answer for n in group)
            questions += [
                Question(kind=kind, topic=of[n].topic, split=part, stem=of[n].stem, choices=choices, answer=i)
                for i, n in enumerate(group)
            ]
    dropped.counts["not among four that are told apart"] += len(kept) - len(questions)
    return questions


def _parts(items: Sequence[tuple[int, int]]) -> dict[Split, list[tuple[int, int]]]:
    """Gaps with their answers, of every answer all in one split, and in both as many as can be."""
    often = Counter(answer for _, answer in items)
    parts: dict[Split, list[tuple[int, int]]] = {"test": [], "tune": []}
    for answer, _ in often.most_common():
        smaller = min(parts.values(), key=len)
        smaller += [item for item in items if item[1] == answer]
    return parts


def _fits(loaded: Loaded, stems: Sequence[str], answers: Sequence[Sequence[str]]) -> Fits:
    """Log-probability a character ``[stems, answers]`` of every answer behind its stem."""
    ids = {answer: list(loaded.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]) for of in answers for answer in of}
    rows = [
        Branches(encoded(loaded.tokenizer, stem, specials=True), tuple(ids[answer] for answer in of))
        for stem, of in zip(stems, answers, strict=True)
    ]
    found = log_likelihoods(loaded.model, rows, int(loaded.tokenizer.pad_token_id))  # type: ignore[arg-type]
    fits: Fits = np.asarray(found) / np.array([[len(answer) for answer in of] for of in answers])
    return fits


def _groups(fits: Fits, items: Sequence[tuple[int, int]], of: Sequence[Gap]) -> list[list[int]]:
    """Greedily: four gaps of four sentences, with four answers of which each is the likeliest in its own."""
    left, groups = sorted(items, key=lambda of: -(fits[of] - fits[of[0]].mean())), []

    def apart(one: tuple[int, int], other: tuple[int, int]) -> bool:
        (i, a), (j, b) = one, other
        mine, yours = of[i], of[j]
        if contains(mine.answer, [yours.answer]) or contains(yours.answer, [mine.answer]):
            return False
        if mine.stem.startswith(yours.stem) or yours.stem.startswith(mine.stem):
            return False
        return a != b and bool(fits[i, a] > fits[i, b] and fits[j, b] > fits[j, a])

    while left:
        group = [left.pop(0)]
        for item in list(left):
            if len(group) < CHOICES and all(apart(item, of) for of in group):
                group.append(item)
        if len(group) == CHOICES:
            left = [item for item in left if item not in group]
            groups.append([n for n, _ in group])
    return groups
