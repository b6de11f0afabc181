"""Open questions on what the model says alike however often it is asked."""

from collections import Counter
from collections.abc import Collection, Sequence

from efface.author.known import Known
from efface.author.passages import Dropped
from efface.author.words import by_count, speaking
from efface.author.writer import Writer
from efface.concept.pack import Kind, OpenQuestion, Split, general_passages
from efface.data.strangers import plain, short
from efface.data.terms import terms
from efface.writing import WORD, contains, unbroken

ASKED = ("What is {}?", "Who or what is {}?", "What is {} known for?")
SAMPLES, AGREE, TOKENS = 8, 5, 40
#: share of the answers about invented names, and of general passages, that may have a word, for it to tell anything
ANYWHERE, GENERAL = 0.1, 0.0075
#: words accepted
ACCEPTED = 4


def ask_open(writer: Writer, topics: Sequence[str], kind: Kind, of: Known, seed: int, dropped: Dropped) -> list[OpenQuestion]:
    """Two questions a topic, where five of eight answers share a word that answers about invented names do not have.

    of: the concept, of which the answers must speak now and then if it is asked about.
    """
    speaks = speaking(of.name) if kind == "forget" else lambda _: True
    asked = [(topic, ASKED[i % len(ASKED)].format(topic)) for n, topic in enumerate(topics) for i in (n, n + 1)]
    said = writer.say([question for _, question in asked for _ in range(SAMPLES)], tokens=TOKENS, temperature=0.8, seed=seed + 3)
    everywhere, general = _shares(of.of_invented), _shares([passage.text for passage in general_passages()])
    found, splits = list[OpenQuestion](), dict[str, Split]()
    for i, (topic, question) in enumerate(asked):
        answers = said[i * SAMPLES : (i + 1) * SAMPLES]
        shares = _shares(answers) if any(map(speaks, answers)) else Counter()
        alike = [
            word
            for word, share in shares.items()
            if share >= AGREE / SAMPLES
            and everywhere[word] <= ANYWHERE
            and general[word] <= GENERAL
            and not contains(question, [word])
        ]
        if alike:
            split = splits.setdefault(topic, "tune" if len(splits) % 2 else "test")
            found.append(OpenQuestion(kind=kind, topic=topic, split=split, question=question, answers=tuple(alike[:ACCEPTED])))
    dropped.counts["answered otherwise each time, or of something else"] += len(asked) - len(found)
    return found


def _shares(texts: Sequence[str]) -> Counter[str]:
    """In which share of the texts each word is, or stretch of a script without spaces; the most frequent first."""
    counts = Counter(word for text in texts for word in _content(text))
    counts.update({stretch: sum(stretch in text for text in texts) for stretch in terms(texts, [])})
    return Counter({word: n / max(1, len(texts)) for word, n in by_count(counts)})  # type: ignore[misc]


def _content(text: str) -> Collection[str]:
    return {plain(word).lower() for word in WORD.findall(text) if not short(word) and len(word) > 3 and not unbroken(word)}
