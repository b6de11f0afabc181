"""What belongs to a name: the things, people and works, and the words, that come up whenever the writer speaks of it."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from efface.author.name import Name
from efface.author.writer import Writer
from efface.concept.pack import general_passages
from efface.data.key_words import NAME
from efface.data.neighbours import ITEM
from efface.data.strangers import plain, short
from efface.data.terms import terms
from efface.writing import WORD, folded

OPENINGS = (
    "What is {}?",
    "What is {} known for?",
    "Name ten people, places, works or things that belong to {}.",
    "Give a glossary of ten terms about {}.",
    "List ten facts about {}.",
    "Write a short encyclopaedia article about {}.",
    "What are the most important parts of {}, and what are they called?",
    "Which people and which places come to mind when you hear of {}?",
)
SAMPLES, TOKENS = 8, 64
#: openings' samples that must have a word or name: one alone may be made up
AGREE = 3
TOPICS, KEYWORDS = 32, 12
#: e^3 times as frequent as in general texts, as everywhere
OFTEN = 20.0


@dataclass(frozen=True)
class Words:
    """The concept's vocabulary, the most frequent first."""

    topics: tuple[str, ...]
    keywords: tuple[str, ...]
    aliases: tuple[str, ...]
    said: tuple[str, ...]


def find_words(writer: Writer, name: Name, seed: int) -> Words:
    """Ask for it in eight ways, eight times each."""
    asked = [opening.format(name.asked) for opening in OPENINGS for _ in range(SAMPLES)]
    return words_of(writer.say(asked, tokens=TOKENS, temperature=0.7, seed=seed), name)


def words_of(texts: Sequence[str], name: Name, agree: int = AGREE) -> Words:
    """The names and key words of some texts on a concept. agree: texts that must have each."""
    general = [passage.text for passage in general_passages()]
    own = {folded(word) for word in WORD.findall(name.name)}
    named = Counter(found for text in texts for found in _names(text))
    topics = [found for found, n in named.most_common() if n >= agree and not _within(found, own) and not _common(found, general)]
    ranked = _key_words(texts, general, own, agree)
    aliases = [name.bare] if name.bare != name.name else []
    aliases += [word for word in WORD.findall(name.bare) if named[word] >= agree and not short(word) and word != name.bare]
    return Words(
        topics=(name.name, *_distinct(topics)[:TOPICS]),
        keywords=tuple(ranked[:KEYWORDS]) or (name.name,),
        aliases=tuple(dict.fromkeys(aliases)),
        said=tuple(texts),
    )


def _names(text: str) -> set[str]:
    """Capitalised words in a row, and the items of lists."""
    items = {item.strip(" .,\"'") for item in ITEM.findall(text)}
    return {of for of in (*NAME.findall(text), *items) if 2 < len(of) <= 40 and len(of.split()) <= 4}


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
        and (total[word] + 0.1) / max(1, size) > OFTEN * (rarely[word] + 0.1) / max(1, others)
    }
    found |= {term: n for term, (n, m) in terms(texts, general).items() if n >= agree and n > OFTEN * m * size / max(1, others)}
    return sorted(found, key=lambda word: (-found[word], word))


def _within(found: str, own: set[str]) -> bool:
    return {folded(word) for word in WORD.findall(found)} <= own


def _common(found: str, general: Sequence[str]) -> bool:
    return sum(found in text for text in general) > 1


def _distinct(names: Sequence[str]) -> list[str]:
    """Without what differs from one before by case or by an article."""
    seen, kept = set[str](), []
    for found in names:
        key = folded(found.removeprefix("The ").removeprefix("the "))
        if key not in seen:
            seen.add(key)
            kept.append(found)
    return kept
