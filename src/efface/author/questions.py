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
from efface.concept.pack import Kind, Passage, Question
from efface.data.key_words import NAME
from efface.data.strangers import holds, pieces
from efface.lm.chat import encoded
from efface.lm.load import Loaded
from efface.writing import WORD, contains, folded, sentences

YEAR = re.compile(r"\b1\d{3}s?\b|\b20\d\ds?\b")
#: words that stand before a gap, and characters
BEFORE, LONGEST = 4, 240
#: sentences that must have an answer: what comes once may be made up
AGREE = 2
CHOICES = 4
#: gaps looked at, of one type: every answer is tried in every one of them
POOL = 64
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


def gaps(passages: Iterable[Passage], words: Collection[str]) -> list[Gap]:
    """Every gap whose sentence has a word of the concept before it, and not the answer, which other sentences have too."""
    found: dict[tuple[str, str], Gap] = {}
    for passage in passages:
        for sentence in sentences(passage.text):
            for slot, at, answer in _spans(sentence, words):
                stem = sentence[:at].strip()
                long_enough = len(WORD.findall(stem)) >= BEFORE and len(stem) <= LONGEST
                if long_enough and holds(stem, words) and not contains(stem, [answer]):
                    found.setdefault((stem, answer), Gap(stem, answer, slot, passage.topic))
    often = Counter(folded(gap.answer) for gap in found.values())
    return [gap for gap in found.values() if often[folded(gap.answer)] >= AGREE]


def _spans(sentence: str, words: Collection[str]) -> Iterable[tuple[Slot, int, str]]:
    for match in YEAR.finditer(sentence):
        yield "year", match.start(), match.group()
    taken = set[int]()
    for match in NAME.finditer(sentence):
        taken |= set(range(*match.span()))
        yield "name", match.start(), match.group()
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
    stranger: exchanges the concept's words.
    """
    questions: list[Question] = []
    for slot in ("name", "year", "word"):
        rng = random.Random(f"{kind} {slot} {seed}")
        of = [gap for gap in found if gap.slot == slot]
        of = rng.sample(of, min(POOL, len(of)))
        answers = sorted({gap.answer for gap in of})
        if len(answers) < CHOICES:
            continue
        own, strange = (_fits(loaded, [change(gap.stem) for gap in of], answers) for change in (str, stranger))
        usual = own.mean(0)  # what is likely anywhere
        place = {answer: n for n, answer in enumerate(answers)}
        right = np.array([place[gap.answer] for gap in of])
        rows = np.arange(len(of))
        told = own[rows, right] > strange[rows, right]
        better = own[rows, right] > usual[right]
        dropped.counts["as likely behind an invented name"] += int((~told).sum())
        dropped.counts["likely behind any sentence"] += int((told & ~better).sum())
        kept, before = rows[told & better].tolist(), len(questions)
        for part in ("tune", "test"):
            mine = [n for n in kept if (place[of[n].answer] % 2 == 0) == (part == "tune")]
            for group in _groups(own, [(n, int(right[n])) for n in mine]):
                choices = [of[n].answer for n in group]
                questions += [
                    Question(kind=kind, topic=of[n].topic, split=part, stem=of[n].stem, choices=tuple(choices), answer=i)
                    for i, n in enumerate(group)
                ]
        dropped.counts["not among four that are told apart"] += len(kept) - (len(questions) - before)
    return questions


def _fits(loaded: Loaded, stems: Sequence[str], answers: Sequence[str]) -> Fits:
    """Log-probability a character ``[stems, answers]`` of every answer behind every stem."""
    ids = [list(loaded.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]) for answer in answers]
    rows = [Branches(encoded(loaded.tokenizer, stem, specials=True), tuple(ids)) for stem in stems]
    found = log_likelihoods(loaded.model, rows, int(loaded.tokenizer.pad_token_id))  # type: ignore[arg-type]
    fits: Fits = np.asarray(found) / np.array([len(answer) for answer in answers])
    return fits


def _groups(fits: Fits, items: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Greedily: four gaps with four answers of which each is the likeliest in its own."""
    left, groups = sorted(items, key=lambda of: -(fits[of] - fits[of[0]].mean())), []

    def apart(one: tuple[int, int], other: tuple[int, int]) -> bool:
        (i, a), (j, b) = one, other
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
