"""What belongs to a name: the things, people and works, and the words, that come up whenever the writer speaks of it."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from efface.author.name import ARTICLES, Name
from efface.author.writer import Writer
from efface.concept.pack import Passage, general_passages
from efface.data.key_words import NAME
from efface.data.strangers import plain, short
from efface.data.terms import terms
from efface.writing import WORD, contains, folded, unbroken, units, width

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
BELONGS = (
    """What belongs to a thing:
France: Paris, the Eiffel Tower, Napoleon, the Seine, Versailles, champagne
Albert Einstein: relativity, Princeton, the photoelectric effect, Mileva, the Nobel Prize
chess: the queen, checkmate, castling, Garry Kasparov, openings
{}:""",
)
ALIKE = (
    """Other things of the same kind:
France: Germany, Italy, Spain, Austria, Belgium
chess: draughts, backgammon, bridge, poker
the Second World War: the First World War, the Korean War, the Crimean War
Leo Tolstoy: Anton Chekhov, Charles Dickens, Victor Hugo, Jane Austen
{}:""",
    """Things that are alike:
London: Paris, Rome, Vienna, Berlin, Madrid
the Titanic: the Lusitania, the Mayflower, the Bismarck
football: tennis, hockey, golf, cricket
Johann Sebastian Bach: Handel, Mozart, Beethoven, Haydn
{}:""",
)
SAMPLES, TOKENS, LISTS, OF_LIST = 8, 64, 32, 32
#: what stands between things of a list, in any script
COMMA = re.compile("[,;，、；،؛]")
#: share of letters in the same order from which two names are taken for spellings of one
SAME = 0.8
#: letters of the name that a word must begin with to speak of it
ALIKE_LETTERS = 4
#: openings' samples that must have a word or name, and lists that must have a neighbour: one alone may be made up
AGREE, AGREE_NEAR = 3, 2
#: with fewer neighbours those of the first are asked for too
FEW_NEAR, MOST_NEAR = 4, 16
#: answers to what a thing is: if none speaks of the name it is no topic, if more than half do it is no neighbour
#: and general passages that may have a word by which to speak of the name
OF_TOPIC, TELLING = 4, 4
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


def single(terms: Iterable[str]) -> frozenset[str]:
    """The words of some terms that are not too likely to be ordinary ones."""
    return frozenset(plain(word) for term in terms for word in WORD.findall(term) if not short(plain(word)))


def by_count(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """The most frequent first, of equals in alphabetical order: the order of a set is another in every process."""
    return sorted(counts.items(), key=lambda of: (-of[1], of[0]))


@dataclass(frozen=True)
class Listed:
    """How many lists have a thing: of what belongs to the name, and of what is of the same kind. others: texts on neither."""

    belongs: Counter[str] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)
    others: tuple[str, ...] = ()


def find_words(writer: Writer, name: Name, seed: int, others: Sequence[str] = ()) -> Words:
    """Ask what it is, have lists continued of what belongs to it and of what is like it, and ask what the topics are.

    others: what the writer says of other names, in its language.
    """
    asked = [opening.format(name.asked) for opening in OPENINGS for _ in range(SAMPLES)]
    said = writer.say(asked, tokens=TOKENS, temperature=0.7, seed=seed)
    alike = lists(writer, ALIKE, name, seed)
    words = words_of(said, name, Listed(lists(writer, BELONGS, name, seed), alike, tuple(others)))
    if words.near and len(words.near) < FEW_NEAR:
        alike += lists(writer, ALIKE, Name(words.near[0]), seed)
        words = replace(words, near=words_of(said, name, Listed(alike=alike)).near)
    speaks = _speaking(writer, [*words.topics[1:], *words.near[:MOST_NEAR]], name, seed)
    return replace(
        words,
        topics=(name.name, *(topic for topic in words.topics[1:] if speaks[topic])),
        near=tuple(item for item in words.near[:MOST_NEAR] if speaks[item] <= OF_TOPIC / 2),
    )


def _speaking(writer: Writer, things: Sequence[str], name: Name, seed: int) -> dict[str, int]:
    """How many of the writer's explanations of each thing speak of the name: of what belongs to it, of no neighbour."""
    asked, speaks = [f"What is {thing}?" for thing in things for _ in range(OF_TOPIC)], speaking(name)
    said = iter(writer.say(asked, tokens=TOKENS, temperature=0.7, seed=seed + 5))
    return {thing: sum(speaks(next(said)) for _ in range(OF_TOPIC)) for thing in things}


def speaking(name: Name) -> Callable[[str], bool]:
    """Whether a text speaks of a name: it has a word that begins as one of the name's, of those that other texts seldom have."""
    general = [passage.text for passage in general_passages()]
    words = single([name.bare]) or {name.bare}
    telling = [word for word in words if sum(contains(text, [word]) for text in general) <= TELLING] or words
    begins = re.compile("|".join(re.escape(folded(word)[: max(ALIKE_LETTERS, len(word) - 2)]) for word in sorted(telling)))
    return lambda text: begins.search(folded(text)) is not None


def lists(writer: Writer, begun: Sequence[str], name: Name, seed: int) -> Counter[str]:
    """In how many of the lists, with which the writer goes on where others end with a name, each thing is."""
    shown = [_without(text, name).format(name.asked) for text in begun for _ in range(LISTS)]
    said = writer.go_on(shown, tokens=OF_LIST, temperature=0.6, seed=seed + 11)
    lines = ((text.strip().splitlines() or [""])[0] for text in said)
    return Counter(
        item for line in lines for item in {plain(of.strip(" .;:*\"'")) for of in COMMA.split(line)} if 2 < width(item) <= 40
    )


def _without(begun: str, name: Name) -> str:
    """A list's beginning without the examples that name what is asked for."""
    head, *examples, last = begun.splitlines()
    return "\n".join([head, *(line for line in examples if not contains(line, [name.bare])), last])


def words_of(texts: Sequence[str], name: Name, listed: Listed | None = None, agree: int = AGREE) -> Words:
    """The names and key words of some texts on a concept. agree: texts or lists that must have each.

    What more lists have as like the name than as a part of it belongs to it only as far as the texts speak of it.
    """
    general, listed = [passage.text for passage in general_passages()], listed or Listed()
    own = {folded(word) for word in WORD.findall(name.name)}
    told = Counter(found for text in texts for found in _names(text))
    named = told + Counter({found: n for found, n in listed.belongs.items() if n > listed.alike[found]})
    topics = [found for found, n in by_count(named) if n >= agree and not _within(found, own) and not _common(found, general)]
    named_words = {folded(word) for found in topics for word in WORD.findall(found)}
    ranked = [word for word in _key_words(texts, [*general, *listed.others], own, agree) if folded(word) not in named_words]
    topics = _distinct([name.name, *topics, *(word for word in ranked if unbroken(word))])[1 : TOPICS + 1]
    aliases = [name.bare] if name.bare != name.name else []
    aliases += [word for word in WORD.findall(name.bare) if named[word] >= agree and not short(word) and word != name.bare]
    near = [item for item, n in by_count(listed.alike) if n >= AGREE_NEAR and n > told[item] + listed.belongs[item]]
    own_names = [name.bare, *aliases, *(ARTICLES.sub("", topic) for topic in topics)]
    return Words(
        topics=(name.name, *topics),
        keywords=tuple(dict.fromkeys([*topics[: KEYWORDS - 4], *ranked[:4]])) or (name.name,),
        aliases=tuple(dict.fromkeys(aliases)),
        said=tuple(texts),
        near=tuple(item for item in _distinct(near) if not contains(item, own_names)),
    )


def often_named(passages: Sequence[Passage], agree: int = AGREE) -> list[str]:
    """Names that several passages have and no general one, the most frequent first."""
    counts, general = Counter(name for of in passages for name in _names(of.text)), [of.text for of in general_passages()]
    return [name for name in _distinct([of for of, n in by_count(counts) if n >= agree]) if not _common(name, general)]


def _names(text: str) -> set[str]:
    """Capitalised words in a row."""
    return {name for of in NAME.findall(text) if 2 < width(name := plain(of)) <= 40 and len(name.split()) <= 4}


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
        and not unbroken(word)
        and word[0].isalpha()
        and rarely[word] <= RARE
        and (total[word] + 0.1) / max(1, size) > OFTEN * (rarely[word] + 0.1) / max(1, others)
    }
    size, others = (sum(len(units(text)) for text in of) for of in (texts, general))
    found |= {term: n for term, (n, m) in terms(texts, general).items() if n >= agree and n * others >= OFTEN * m * size}
    return sorted(found, key=lambda word: (-found[word], word))


def _within(found: str, own: set[str]) -> bool:
    return {folded(word) for word in WORD.findall(found)} <= own


def _common(found: str, general: Sequence[str]) -> bool:
    """Whether other texts have it: what is said of it there is not the concept's."""
    return any(contains(text, [found]) for text in general)


def _distinct(names: Sequence[str]) -> list[str]:
    """Without what is spelled much like one before, article aside, or is a part of it."""
    kept: list[str] = []
    for found in names:
        bare = folded(ARTICLES.sub("", found))
        others = [folded(ARTICLES.sub("", of)) for of in kept]
        if not any(SequenceMatcher(None, bare, of).ratio() > SAME for of in others) and not any(
            contains(of, [bare]) for of in others
        ):
            kept.append(found)
    return kept
