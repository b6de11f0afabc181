"""Strangers: a text in which every word of the concept is exchanged for an invented one, and which tokens the two share.

What the frozen model says of a stranger is what it would say of the concept if it had never met it.
"""

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_lowercase

import regex
from transformers import PreTrainedTokenizerBase

from efface.lm.cache import Ids
from efface.writing import WORD, stems, unbroken, units

#: what may stand behind a word as part of it and stays when the word is exchanged
GENITIVE = regex.compile(r"['’][sS]?$")
#: what hyphens join
PART = regex.compile(r"[[\w\p{N}]--_]+(?:['’][\w\p{N}]+)*", regex.V1)
#: a word of so few letters is too likely to be an ordinary one; in scripts that write syllables one of a single one is
SHORT, SYLLABLE = 2, 1
#: share of the different words that must end alike for the end to be an ending, and the letters it may have
ENDING, LETTERS = 0.01, (3, 2)
LETTERS_ONLY = regex.compile(r"[\p{L}\p{M}]+")
JOINED = regex.compile(r"[[\w\p{N}]--_]+", regex.V1)


class Inventor:
    """Makes words up: letters that follow each other in the words of some texts, in the shape of a given word.

    Its capital, its length, its ending if many words have it, its script. Never a word that they have. The order of letters
    is learned from the texts, so that there is no list of syllables and no language. Units without spaces come in any order.
    """

    def __init__(self, texts: Iterable[str], others: Iterable[str]) -> None:
        self.known = _words(texts) | _words(others)
        self._after: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._units: dict[str, list[str]] = defaultdict(list)
        for unit in sorted({unit for word in self.known for unit in units(word)}):
            self._units[_script(unit)].append(unit)
        ends: Counter[str] = Counter()
        for word in sorted(filter(LETTERS_ONLY.fullmatch, self.known)):
            for first, second, third in zip(" " + word, word, word[1:], strict=False):
                self._after[_script(word)][first + second].append(third)
            ends.update(word[-n:] for n in LETTERS if len(word) > n + 2)
        self._endings = {end for end, n in ends.items() if n > ENDING * len(self.known)}

    def invent(self, word: str, rng: random.Random) -> str:
        """A word like this one that is none."""
        if unbroken(word):
            return self._of_units(word, rng)
        lower, end = word.lower(), self._end(word.lower())
        after = self._after.get(_script(word)) or self._of_letters(lower)
        made = ""
        for tried in range(100):  # longer ones, where all that can be made are words
            made = self._chain(after, max(4, len(lower) - len(end)) + tried // 20, rng) + end
            if made not in self.known and made[:4] != lower[:4]:
                break
        return _as(word, made)

    def _of_units(self, word: str, rng: random.Random) -> str:
        """In a script without spaces: as many of its units as the word has, in an order that no text has."""
        drawn, made = self._units[_script(word)] or units(word), word
        for _ in range(100):
            made = "".join(rng.choice(drawn) for _ in units(word))
            if not any(made in run for run in self.known):
                break
        return made

    def _end(self, lower: str) -> str:
        return next((lower[-n:] for n in LETTERS if lower[-n:] in self._endings and len(lower) > n + 2), "")

    @staticmethod
    def _chain(after: Mapping[str, Sequence[str]], length: int, rng: random.Random) -> str:
        starts = [pair[1] for pair, follow in after.items() if pair[0] == " " for _ in follow]
        made = rng.choice(starts)
        while len(made) < length:
            follow = after.get((" " + made)[-2:])
            made += rng.choice(follow) if follow else rng.choice(starts)
        return made

    @staticmethod
    def _of_letters(word: str) -> dict[str, list[str]]:
        """For a script that the texts do not have: the word's own letters, in any order."""
        letters = [char for char in word if char.isalpha()] or list(ascii_lowercase)
        return {first + second: letters for first in (" ", *letters) for second in letters}


def _words(texts: Iterable[str]) -> set[str]:
    """The words of the texts in lower case, and what hyphens and apostrophes join in them."""
    written = {word.lower() for text in texts for word in WORD.findall(text)}
    return written.union(*(JOINED.findall(word) for word in written))


def plain(word: str) -> str:
    """A word as it stands in a list: composed, with one kind of apostrophe, without its genitive."""
    return str(GENITIVE.sub("", unicodedata.normalize("NFC", word).replace("’", "'")))


def short(word: str) -> bool:
    """Whether a word is too likely to be an ordinary one."""
    letters = len(units(word)) if unbroken(word) else len(word)
    return letters <= (SYLLABLE if unbroken(word) or regex.match(r"\p{Hangul}", word) else SHORT)


def _as(word: str, made: str) -> str:
    """With the capitals of a word."""
    return made.upper() if word.isupper() and len(word) > 1 else made.capitalize() if word[:1].isupper() else made


def _script(word: str) -> str:
    """Name of the script of a word's first letter ("LATIN", "CYRILLIC", …)."""
    letter = next((char for char in word if char.isalpha()), "a")
    return unicodedata.name(letter, "UNKNOWN").split()[0]


@dataclass(frozen=True)
class Piece:
    """A stretch of a text, and whether it is a word of the concept."""

    text: str
    word: bool


def pieces(text: str, words: Collection[str]) -> list[Piece]:
    """A text cut at the words of the concept; put together the pieces are the text."""
    found, done = list[Piece](), 0
    for match in WORD.finditer(text):
        for at, word in _own(match, words):
            found += [Piece(text[done:at], False), Piece(word, True)]
            done = at + len(word)
    return [piece for piece in [*found, Piece(text[done:], False)] if piece.text]


def _own(match: "regex.Match[str]", words: Collection[str]) -> list[tuple[int, str]]:
    """The concept's word that a match is, or those that hyphens join in it; each with its place in the text.

    In a run of words without spaces those that stand in it, the longest first.
    """
    if unbroken(match.group()):
        listed = _any_of(frozenset(filter(unbroken, words)))
        return [(match.start() + of.start(), of.group()) for of in listed.finditer(match.group())] if listed else []
    whole = [(match.start(), word) for word in _written(match.group())]
    parts = [(match.start() + part.start(), word) for part in PART.finditer(match.group()) for word in _written(part.group())]
    for found in (whole, parts):
        own: dict[int, str] = {}
        for at, word in found:  # of one place the longest comes first
            if any(written in words for written in _spellings(plain(word))):
                own.setdefault(at, word)
        if own:
            return list(own.items())
    return []


def _written(word: str) -> list[str]:
    """A word without its genitive or the particles it ends with, as it is written."""
    return stems(str(GENITIVE.sub("", word)))


@lru_cache(16)
def _any_of(words: frozenset[str]) -> "regex.Pattern[str] | None":
    return regex.compile("|".join(map(regex.escape, sorted(words, key=len, reverse=True)))) if words else None


def _spellings(word: str) -> tuple[str, ...]:
    """How a word may stand in a list: as it is, in small letters; in capitals throughout, as a name."""
    return (word, word.lower(), word.capitalize()) if word.isupper() else (word, word.lower())


def holds(text: str, words: Collection[str]) -> bool:
    """Whether a text has a word of the concept."""
    return any(piece.word for piece in pieces(text, words))


class Exchange:
    """Exchanges the concept's words for invented ones: for another each time, or always for the same."""

    def __init__(self, words: Collection[str], inventor: Inventor, rng: random.Random, *, alike: bool) -> None:
        self.words, self.inventor, self.rng, self.alike = words, inventor, rng, alike
        #: by word in lower case: what it was exchanged for last
        self.made: dict[str, str] = {}

    def pieces(self, text: str) -> list[Piece]:
        """The text cut at the words that are exchanged."""
        return pieces(text, self.words)

    def __call__(self, text: str) -> list[str]:
        """What stands in the place of each of the text's :meth:`pieces`."""
        return [self._exchanged(piece.text) if piece.word else piece.text for piece in self.pieces(text)]

    def text(self, text: str) -> str:
        """The whole text about a stranger."""
        return "".join(self(text))

    def _exchanged(self, word: str) -> str:
        if not self.alike or word.lower() not in self.made:
            self.made[word.lower()] = self.inventor.invent(word, self.rng)
        return _as(word, self.made[word.lower()])


@dataclass(frozen=True)
class Pairing:
    """Tokens of a text and of the same text about a stranger.

    ids, strange: the tokens of both. shared: (place in ids, place in strange) of the same token of the same piece of text;
    first: the same of the first tokens of the concept's words and of the invented ones; inner: places in ids of their others.
    """

    ids: Ids
    strange: Ids
    shared: tuple[tuple[int, int], ...]
    first: tuple[tuple[int, int], ...]
    inner: tuple[int, ...]


def pair(tokenizer: PreTrainedTokenizerBase, whole: Sequence[Piece], swapped: Sequence[str]) -> Pairing:
    """Tokens of both texts. swapped: what stands in the place of each piece."""
    real, strange = ("".join(parts) for parts in ([piece.text for piece in whole], swapped))
    (ids, spans), (other, places) = spelled(tokenizer, real), spelled(tokenizer, strange)
    # the end of every piece in both texts; a token belongs to the piece in which its last character stands
    ends, other_ends = _ends([len(piece.text) for piece in whole]), _ends(list(map(len, swapped)))
    at = {place: (token, i) for i, (place, token) in enumerate(zip(places, other, strict=True))}
    begins = {_piece(start, other_ends): i for i, (start, _) in reversed(list(enumerate(places)))}
    shared, first, inner, seen = list[tuple[int, int]](), list[tuple[int, int]](), list[int](), set[int]()
    for i, ((start, end), token) in enumerate(zip(spans, ids, strict=True)):
        touched = range(_piece(start, ends), _piece(end - 1, ends) + 1)
        in_word = [n for n in touched if whole[n].word]
        if not in_word:
            moved = other_ends[touched[-1]] - ends[touched[-1]] if touched[-1] + 1 < len(ends) else len(strange) - len(real)
            found = at.get((start + moved, end + moved))
            if found is not None and found[0] == token:
                shared.append((i, found[1]))
        elif in_word[0] not in seen and in_word[0] in begins:
            first.append((i, begins[in_word[0]]))
        else:
            inner.append(i)
        seen.update(in_word)
    return Pairing(ids, other, tuple(shared), tuple(first), tuple(inner))


def _ends(lengths: Sequence[int]) -> list[int]:
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return ends[1:]


def _piece(char: int, ends: Sequence[int]) -> int:
    """Which piece a character stands in."""
    return next((n for n, end in enumerate(ends) if char < end), len(ends) - 1)


def spelled(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[Ids, list[tuple[int, int]]]:
    """The tokens of a text, and where each stands in it, without the spaces before it.

    A tokenizer that does not say where its tokens stand is asked how much of the text each adds.
    """
    if tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, spans = list(encoded["input_ids"]), [tuple(span) for span in encoded["offset_mapping"]]
    else:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        said = [str(tokenizer.decode(ids[: i + 1])) for i in range(len(ids))]
        dropped = len(text) - len(said[-1]) if said and text.endswith(said[-1]) else 0  # spaces before the text
        ends = [min(dropped + len(of), len(text)) for of in said]
        spans = list(zip([0, *ends], ends, strict=False))
    return ids, [(_skip(text, start, end), max(end, start + 1)) for start, end in spans]


def _skip(text: str, start: int, end: int) -> int:
    while start < end - 1 and text[start].isspace():
        start += 1
    return start
