"""Words of scripts that put no space between them: stretches of their units that come again and hold together."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from efface.writing import WORD, unbroken, units

Stretch = tuple[str, ...]
#: units of a word, at most
LONGEST = 12
#: where more than this share of what is a part lies in one whole, the whole is the word; else the part
WITHIN = 0.8

_W = TypeVar("_W", bound=Hashable)


def terms(texts: Sequence[str], others: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Every stretch of two units or more that may be a word of these texts: how often they have it, and how often others."""
    often = _again(list(_runs(texts)))
    found = {stretch for stretch in coherent(often, lambda of: (of[1:], of[:-1])) if len(stretch) <= LONGEST}
    rarely = _counts(_runs(others), found) if found else Counter()
    return {"".join(stretch): (often[stretch], rarely[stretch]) for stretch in found}


def coherent(often: Mapping[_W, int], parts: Callable[[_W], Sequence[_W]]) -> set[_W]:
    """Of every word and its parts, those that are neither a piece of a longer word nor a word and its company."""
    pairs = ((whole, part) for whole in often for part in parts(whole) if part in often)
    return set(often) - {part if often[whole] > WITHIN * often[part] else whole for whole, part in pairs}


def _runs(texts: Sequence[str]) -> Iterator[list[str]]:
    return (units(run) for text in texts for run in WORD.findall(text) if unbroken(run))


def _again(runs: Sequence[list[str]]) -> Counter[Stretch]:
    """Stretches that come more than once; one unit longer than a word may be, to tell words from phrases."""
    found, shorter = Counter[Stretch](), set[Stretch]()
    for n in range(2, LONGEST + 2):
        windows = (tuple(run[i : i + n]) for run in runs for i in range(len(run) - n + 1))
        counts = Counter(of for of in windows if n == 2 or (of[1:] in shorter and of[:-1] in shorter))
        shorter = {of for of, times in counts.items() if times > 1}
        found.update({of: counts[of] for of in shorter})
    return found


def _counts(runs: Iterator[list[str]], wanted: Collection[Stretch]) -> Counter[Stretch]:
    lengths = sorted({len(of) for of in wanted})
    windows = (tuple(run[i : i + n]) for run in runs for n in lengths for i in range(len(run) - n + 1))
    return Counter(of for of in windows if of in wanted)
