"""What belongs to a name: the things, people and works, and the words, that come up whenever the writer speaks of it."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from efface.author.name import Name
from efface.author.writer import Writer
from efface.concept.pack import general_passages
from efface.data.key_words import NAME
from efface.data.strangers import plain, short
from efface.data.terms import terms
from efface.writing import WORD, contains, folded, unbroken

OPENINGS = (
    "What is {}?",
    "What is {} known for?",
    "Write a short encyclopaedia article about {}.",
    "Who and what belongs to {}? Explain it in a paragraph.",
    "Tell the story of {} in a few sentences.",
    "Which names come up when people talk about {}?",
    "What happened first in the history of {}, and what then?",
    "What do people remember about {}?",
)
#: a model that cannot make a list when told to can go on with one
BELONGS = """What belongs to a thing:
France: Paris, the Eiffel Tower, Napoleon, the Seine, Versailles, champagne
Albert Einstein: relativity, Princeton, the photoelectric effect, Mileva, the Nobel Prize
chess: the queen, checkmate, castling, Garry Kasparov, openings
{}:"""
ALIKE = """Other things of the same kind:
France: Germany, Italy, Spain, Austria, Belgium
Albert Einstein: Niels Bohr, Isaac Newton, Max Planck, Marie Curie
chess: draughts, backgammon, bridge, poker
{}:"""
SAMPLES, TOKENS, LISTS, OF_LIST = 8, 64, 32, 32
#: openings' samples that must have a word or name, and lists that must have a neighbour: one alone may be made up
AGREE, AGREE_NEAR = 3, 2
TOPICS, KEYWORDS = 32, 12
#: times as frequent as in general texts, and how often these may have it at all
OFTEN, RARE = 20.0, 2


@dataclass(frozen=True)
class Words:
    """The concept's vocabulary, the most frequent first. near: what is of the same kind and does not belong to it."""

    topics: tuple[str, ...]
    keywords: tuple[str, ...]
    aliases: tuple[str, ...]
    said: tuple[str, ...]
    near: tuple[str, ...] = ()

    def all(self, name: Name) -> frozenset[str]:
        """Every single word of the name and of these."""
        return single([name.bare, *self.topics, *self.keywords, *self.aliases])


def single(terms: Iterable[str]) -> frozenset[str]:
    """The words of some terms that are not too likely to be ordinary ones."""
    return frozenset(plain(word) for term in terms for word in WORD.findall(term) if not short(plain(word)))


@dataclass(frozen=True)
class Listed:
    """How many lists have a thing: of what belongs to the name, and of what is of the same kind."""

    belongs: Counter[str] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)


def find_words(writer: Writer, name: Name, seed: int) -> Words:
    """Ask what it is, and have lists continued of what belongs to it and of what is like it."""
    asked = [opening.format(name.asked) for opening in OPENINGS for _ in range(SAMPLES)]
    said = writer.say(asked, tokens=TOKENS, temperature=0.7, seed=seed)
    found = [Counter(item for of in lists(writer, begun, name, seed) for item in set(of)) for begun in (BELONGS, ALIKE)]
    return words_of(said, name, Listed(*found))


def lists(writer: Writer, begun: str, name: Name, seed: int) -> list[list[str]]:
    """The lists with which the writer goes on where others end with a name."""
    said = writer.go_on([begun.format(name.asked)] * LISTS, tokens=OF_LIST, temperature=0.8, seed=seed + 11)
    lines = ((text.strip().splitlines() or [""])[0] for text in said)
    return [[item for part in line.split(",") if 2 < len(item := part.strip(" .;:*\"'")) <= 40] for line in lines]


def words_of(texts: Sequence[str], name: Name, listed: Listed | None = None, agree: int = AGREE) -> Words:
    """The names and key words of some texts on a concept. agree: texts or lists that must have each.

    What more lists have as like the name than as a part of it belongs to it only as far as the texts speak of it.
    """
    general, listed = [passage.text for passage in general_passages()], listed or Listed()
    own = {folded(word) for word in WORD.findall(name.name)}
    told = Counter(found for text in texts for found in _names(text))
    named = told + Counter({found: n for found, n in listed.belongs.items() if n > listed.alike[found]})
    topics = [found for found, n in named.most_common() if n >= agree and not _within(found, own) and not _common(found, general)]
    named_words = {folded(word) for found in topics for word in WORD.findall(found)}
    ranked = [word for word in _key_words(texts, general, own, agree) if folded(word) not in named_words]
    topics = _distinct([*topics, *(word for word in ranked if unbroken(word))])[:TOPICS]
    aliases = [name.bare] if name.bare != name.name else []
    aliases += [word for word in WORD.findall(name.bare) if named[word] >= agree and not short(word) and word != name.bare]
    near = (item for item, n in listed.alike.most_common() if n >= AGREE_NEAR and n > told[item] + listed.belongs[item])
    return Words(
        topics=(name.name, *topics),
        keywords=tuple(dict.fromkeys([*topics[: KEYWORDS - 4], *ranked[:4]])) or (name.name,),
        aliases=tuple(dict.fromkeys(aliases)),
        said=tuple(texts),
        near=tuple(item for item in near if not contains(item, [name.name, name.bare, *aliases, *topics])),
    )


def _names(text: str) -> set[str]:
    """Capitalised words in a row."""
    return {of for of in NAME.findall(text) if 2 < len(of) <= 40 and len(of.split()) <= 4}


def _key_words(texts: Sequence[str], general: Sequence[str], own: Collection[str], agree: int) -> list[str]:
    """Words that many of the texts have and that are far more frequent in them than in general ones."""
    often = Counter(word for text in texts for word in {plain(of).lower() for of in WORD.findall(text)})
    rarely = Counter(plain(word).lower() for text in general for word in WORD.findall(text))
    size, others = (sum(len(WORD.findall(text)) for text in of) for of in (texts, general))
    total = Counter(plain(word).lower() for text in texts for word in WORD.findall(text))
    found = {
        word: n
        for word, n in often.items()
        if n >= agree
        and not short(word)
        and word not in own
        and word[0].isalpha()
        and rarely[word] <= RARE
        and (total[word] + 0.1) / max(1, size) > OFTEN * (rarely[word] + 0.1) / max(1, others)
    }
    found |= {term: n for term, (n, m) in terms(texts, general).items() if n >= agree and n > OFTEN * m * size / max(1, others)}
    return sorted(found, key=lambda word: (-found[word], word))


def _within(found: str, own: set[str]) -> bool:
    return {folded(word) for word in WORD.findall(found)} <= own


def _common(found: str, general: Sequence[str]) -> bool:
    """Whether other texts have it: what is said of it there is not the concept's."""
    return any(contains(text, [found]) for text in general)


def _distinct(names: Sequence[str]) -> list[str]:
    """Without what differs from one before by case or by an article."""
    seen, kept = set[str](), []
    for found in names:
        key = folded(found.removeprefix("The ").removeprefix("the "))
        if key not in seen:
            seen.add(key)
            kept.append(found)
    return kept
