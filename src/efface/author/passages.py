"""Texts about the concept and about its neighbours, in many genres, and what is dropped of them."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from efface.auditing.scorers.fluency import repeated_ngrams
from efface.author.name import Name
from efface.author.writer import Writer
from efface.concept.pack import Passage
from efface.data.store import Store
from efface.data.strangers import pieces, plain
from efface.data.targets import token_logprobs
from efface.data.text import Text
from efface.lm.chat import prefix
from efface.lm.load import Loaded
from efface.writing import OVER, contains, folded, joined, sentences, whole, width

GENRES = (
    "Write an encyclopaedia article about {}.",
    "Write a paragraph for a school book about {}.",
    "What is {}? Explain it in a paragraph.",
    "Write what an expert answers in an interview about {}.",
    "Write a list of facts about {}.",
    "Write a letter in which somebody tells a friend about {}.",
    "Write a short story about {}.",
    "Write a dialogue about {}.",
    "Write a review of a book about {}.",
    "Write the history of {} in a few sentences.",
    "Write a guide for visitors about {}.",
    "Write a newspaper article about {}.",
)
TOKENS = 112
#: different words of the concept that a passage without its name must have; share of repeated 4-grams that it may have
KEY_WORDS, REPEATED = 2, 0.25
#: cosine from which two passages are the same, and share of the likeliest and the least likely that is dropped at each end
ALIKE, TAIL = 0.8, 0.05
SHORTEST, MOST_TOKENS = 120, 256
#: one passage in so many is never trained on
HELD_OUT = 10


@dataclass
class Dropped:
    """How many passages each filter dropped, in the order of the filters."""

    counts: Counter[str] = field(default_factory=Counter)

    def keep(self, why: str, passages: Sequence[Passage], wanted: Callable[[Passage], bool]) -> list[Passage]:
        """Those that are wanted."""
        kept = [passage for passage in passages if wanted(passage)]
        self.counts[why] += len(passages) - len(kept)
        return kept


def write_passages(writer: Writer, name: Name | None, topics: Sequence[str], count: int, seed: int) -> list[Passage]:
    """So many passages: every topic in one genre after the other, so that neither collapses into one of the other.

    name: of the concept that the topics belong to; None: each stands for itself.
    """
    rng = random.Random(f"passages {seed}")
    order = [(topics[i % len(topics)], GENRES[(i + i // len(topics)) % len(GENRES)]) for i in range(count)]
    rng.shuffle(order)
    said = writer.say([way.format(_about(topic, name)) for topic, way in order], tokens=TOKENS, temperature=0.8, seed=seed + 1)
    return [Passage(text=whole_sentences(text), topic=topic) for (topic, _), text in zip(order, said, strict=True)]


def _about(topic: str, name: Name | None) -> str:
    if name is None:
        return topic
    return name.asked if topic == name.name else topic if name.bare.lower() in topic.lower() else f"{topic} ({name.name})"


def whole_sentences(text: str) -> str:
    """A text without its last sentence, where that is cut off and another one is left; in one line."""
    text = " ".join(text.split())
    of = sentences(text)
    return joined(of[:-1]).strip() if len(of) > 1 and not (whole(of[-1]) or OVER.search(of[-1])) else text


def filtered(passages: Iterable[Passage], names: Collection[str], words: Collection[str], dropped: Dropped) -> list[Passage]:
    """Passages that are long enough, on the concept, without loops, and no near duplicates of one before.

    names: what the concept is called, words: those of what belongs to it.
    """
    kept = dropped.keep("short", list(passages), lambda passage: width(passage.text) >= SHORTEST)
    kept = dropped.keep("neither its name nor two of its words", kept, lambda passage: _on_it(passage.text, names, words))
    kept = dropped.keep("repeats itself", kept, lambda passage: repeated_ngrams(_coded(passage.text), 4) <= REPEATED)
    return without_duplicates(kept, dropped)


def without_duplicates(passages: Sequence[Passage], dropped: Dropped) -> list[Passage]:
    """Of passages that are nearly the same the first."""
    originals = iter(_originals([passage.text for passage in passages]))
    return dropped.keep("near duplicate", passages, lambda _: next(originals))


def likely(loaded: Loaded, store: Store, passages: list[Passage], dropped: Dropped) -> list[Passage]:
    """Without those that the model finds least and most likely: loops, and what is no language."""
    if len(passages) < 1 / TAIL:
        return passages
    start, encode = prefix(loaded.tokenizer), loaded.tokenizer
    texts = [
        Text(start + list(encode(of.text, add_special_tokens=False)["input_ids"])[:256], max(1, len(start))) for of in passages
    ]
    nats = [-float(of.mean()) for of in token_logprobs(loaded.model, store, texts, int(encode.pad_token_id))]  # type: ignore[arg-type]
    low, high = np.quantile(nats, [TAIL, 1 - TAIL])
    of_text = dict(zip((passage.text for passage in passages), nats, strict=True))
    return dropped.keep("perplexity", passages, lambda passage: low <= of_text[passage.text] <= high)


def split(passages: Sequence[Passage]) -> list[Passage]:
    """One in ten held out."""
    return [of.model_copy(update={"split": "held_out"}) if i % HELD_OUT == HELD_OUT - 1 else of for i, of in enumerate(passages)]


def _on_it(text: str, names: Collection[str], words: Collection[str]) -> bool:
    """Whether a text has the name, or two different words of what belongs to it."""
    told = {folded(plain(piece.text)) for piece in pieces(text, words) if piece.word}
    return len(told) >= KEY_WORDS or contains(text, list(names))


def _coded(text: str) -> list[int]:
    """Words as numbers."""
    seen: dict[str, int] = {}
    return [seen.setdefault(word, len(seen)) for word in text.lower().split()]


def _originals(texts: Sequence[str]) -> list[bool]:
    """Whether each text is none that is nearly the same as one before it."""
    if len(texts) < 2:
        return [True] * len(texts)
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4), sublinear_tf=True).fit_transform(texts)
    alike = (vectors @ vectors.T).toarray() > ALIKE
    kept: list[int] = []
    for i in range(len(texts)):
        if not alike[i, kept].any():
            kept.append(i)
    return [i in kept for i in range(len(texts))]
