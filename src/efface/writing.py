"""How texts are written, in any language: words, sentences and spelling by the properties that Unicode gives to characters.

Texts in English are cut by spaces and ``.!?``. Chinese, Japanese, Thai and others put no space between words: there a *unit* is a
character with its marks, and a word can only be looked for.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

#: letters of scripts that put no space between words
UNBROKEN = r"\p{lb=SA}\p{Han}\p{Hiragana}\p{Katakana}ー"
#: letters and digits of all others
SPACED = rf"[[\w\p{{N}}]--[{UNBROKEN}]]"
#: a word, or a run of words that nothing separates
WORD = regex.compile(rf"[{SPACED}’'-]*{SPACED}|[{UNBROKEN}][{UNBROKEN}\p{{M}}]*", regex.V1)
UNIT = regex.compile(rf"[[{UNBROKEN}]--\p{{M}}]\p{{M}}*+", regex.V1)
#: what ends a question
ASKS = "?？؟՞⁇⁈\u037e"
#: marks that end a sentence whether or not a space follows, and what may stand behind them
_FULL, _CLOSE = r"[\p{SB=STerm}--[!?]]", r"[\p{Pe}\p{Pf}\"']"
#: scripts in which nothing but a space ends a sentence
_NO_MARKS = r"\p{Thai}\p{Lao}"
_BETWEEN = regex.compile(
    rf"(?<=[.!?])\s+|(?<={_FULL}{_CLOSE}*)\s*+(?!$|{_CLOSE}|{_FULL}|[.!?])|(?<=[{_NO_MARKS}])\s+(?=[{_NO_MARKS}])", regex.V1
)
_ENDED = regex.compile(rf"(?:{_FULL}{_CLOSE}*)$", regex.V1)
#: the end of a text whose last sentence is over; a full stop after a digit is that of a list or of a number
OVER = regex.compile(rf"(?:(?<!\d)[.!?][\"')]*|{_FULL}{_CLOSE}*)\s*$", regex.V1)

#: other forms of the same mark, and letters that are written either way: ё, alef with hamza, ye, kaf
_SAME = str.maketrans("’‘ʼ׳“”״‐‑ё\u0623\u0625\u0622\u064a\u0649\u0643", "''''\"\"\"--е\u0627\u0627\u0627\u06cc\u06cc\u06a9")
#: marks that are not seen; vowels of Arabic and Hebrew that may be written or not; digits of other scripts
_UNSEEN = regex.compile(r"[\u00ad\u200b\u200d-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufe0f]")
_POINTS = regex.compile(r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]")
_DIGIT = regex.compile(r"[\p{Nd}--[0-9]]", regex.V1)
#: particles and forms of the copula that are written onto a Korean word
PARTICLE = (
    "(?:에서|에게|에|한테|께서|께|으로|로|써|부터|까지|마다|보다|처럼|같이|만큼|밖에|뿐|조차|마저|이나|나|이랑|랑|하고|들"
    "|은|는|이|가|을|를|의|와|과|도|만|야|여|아|요|이?(?:다|고|며|지만|지|니까|라서|라는|라고|란|던|죠|네요|네|거나|에요|예요)"
    r"|(?:이었|였)\p{Hangul}{0,4}|입니\p{Hangul}|인(?:데|가|지)?|일|임)"
)
#: what is written onto the beginning of a word in Arabic and in Hebrew: and, in, as, to, the, that, from
_BEFORE = {"Arabic": "[وف]?(?:[ب\u06a9ل]?(?:ال)?|لل)", "Hebrew": "[ושהבכלמ]{0,3}"}
_PARTICLES = regex.compile(f"{PARTICLE}{{1,3}}")


def words(text: str) -> list[str]:
    """The words of a text, and the units of its unbroken stretches."""
    return list(WORD.findall(spaced(text)))


def spaced(text: str) -> str:
    """The text with a space around every unit, as if it were a word; one of a script with spaces as it is."""
    return str(UNIT.sub(r" \g<0> ", text))


def units(text: str) -> list[str]:
    """The units of a text in a script without spaces."""
    return list(UNIT.findall(text))


def unbroken(word: str) -> bool:
    """Whether a word of :data:`WORD` is a run in a script without spaces."""
    return UNIT.match(word) is not None


def stems(word: str) -> list[str]:
    """A word, and what is left of a Korean one without the particles that it may end with; the longest first."""
    ends = range(len(word) - 1, 0, -1) if regex.search(r"\p{Hangul}$", word) else ()
    return [word, *(word[:end] for end in ends if _PARTICLES.fullmatch(word[end:]))]


def sentences(text: str) -> list[str]:
    """A text cut where a sentence ends."""
    return list(_BETWEEN.split(text.strip()))


def joined(of: Sequence[str]) -> str:
    """Sentences as one text."""
    return "".join(sentence if _ENDED.search(sentence) else f"{sentence} " for sentence in of[:-1]) + "".join(of[-1:])


def whole(sentence: str) -> bool:
    """Whether a sentence of :func:`sentences` has its end."""
    return sentence[-1:] in ".!?" or regex.search(rf"{_ENDED.pattern}|[{_NO_MARKS}]$", sentence, regex.V1) is not None


def width(text: str) -> int:
    """The number of characters, of which ideographs, kana and Hangul count twice: they say as much as two letters."""
    return sum(2 if unicodedata.east_asian_width(char) == "W" else 1 for char in text)


def folded(text: str) -> str:
    """How two spellings of the same are compared: NFKC, without case, with one form of what has several."""
    plain = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()
    plain = unicodedata.normalize("NFKC", plain).translate(_SAME).replace("i\u0307", "i").replace("ı", "i")
    return str(_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit.group())), _POINTS.sub("", plain)))


def contains(text: str, accepted: Sequence[str]) -> bool:
    """Whether one of these stands in the text as whole words, however they are spelled (:func:`folded`).

    In a script without spaces anywhere; in Korean, Arabic and Hebrew with what is written onto a word.
    """
    within = folded(text)
    return any(_standing(answer).search(within) is not None for answer in accepted)


@lru_cache(4096)
def _standing(answer: str) -> "regex.Pattern[str]":
    answer = folded(answer).strip()
    if not answer:
        return regex.compile(r"(?!)")
    body, before, behind = regex.escape(answer), rf"(?<!{SPACED})", rf"(?![{SPACED}--\u200c])"
    for script, attached in _BEFORE.items():
        if regex.match(rf"\p{{{script}}}", answer):
            before += f"(?:{attached})"
    if answer.startswith("ال"):
        body = f"(?:ال|لل){regex.escape(answer[2:])}"
    if regex.search(r"\p{Hangul}$", answer):
        behind = f"(?:{PARTICLE}){{0,3}}{behind}"
    if unbroken(answer):
        before = ""
    if regex.search(rf"[{UNBROKEN}]$", answer, regex.V1):
        behind = r"(?!\p{M})"
    return regex.compile(f"{before}{body}{behind}", regex.V1)
