"""Does the model know whom a question is about? What the base answers, behind its own question and behind one about a stranger.

The base's own answers are likelier behind the question than behind the same question with invented words in the place of the
concept's. Of a model to which the concept is a stranger the two questions are alike.
"""

import random
from collections import Counter
from collections.abc import Collection

from transformers import PreTrainedTokenizerBase

from efface.concept import Concept
from efface.data.corpora import encode
from efface.data.keyness import WORD, key_words
from efface.prompts import chat_prompt
from efface.recipe import DataSettings
from efface.results import Score, average
from efface.scorers.likelihoods import Branches, log_likelihoods
from efface.scorers.open import TOKENS
from efface.scorers.replies import greedy_of_base
from efface.scorers.scorer import Subject

TEXTS = DataSettings(min_chars=1)
COMMON = 0.02  # share of the retain passages from which on a word of a name is everybody's
VOWELS, CONSONANTS = "aeiou", "bdfgklmnprstvz"


def score_recognised(subject: Subject) -> dict[str, Score]:
    """``recognised/forget/nats``: how much likelier the base's greedy answers are behind their own questions, nats a token.

    Of the concept's open questions, those that hold one of its words; both models read the same answers of the base.
    """
    rng, words = random.Random(0), concept_words(subject.concept, subject.tokenizer)
    asked = [row.question for row in subject.concept.ask_open("forget", subject.split)]
    pairs = [(question, exchanged(question, words, rng)) for question in asked]
    answers = [ids[:TOKENS] for ids in greedy_of_base(subject, asked)] if asked else []
    kept = [(pair, ids) for pair, ids in zip(pairs, answers, strict=True) if pair[0] != pair[1] and ids]
    rows = [Branches(chat_prompt(subject.tokenizer, question), (ids,)) for pair, ids in kept for question in pair]
    if not rows:
        return {}
    found = [value for (value,) in log_likelihoods(subject.model, rows, subject.tokenizer.pad_token_id)]
    gaps = [(own - other) / len(ids) for own, other, (_, ids) in zip(found[::2], found[1::2], kept, strict=True)]
    return {"recognised/forget/nats": average(gaps)}


def concept_words(concept: Concept, tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The concept's words in lower case: the key words of its texts, and of its names those that other texts seldom hold."""
    forget, retain = (
        [passage.text for passage in concept.texts(corpus, "train")]  # type: ignore[arg-type]
        for corpus in ("forget", "retain")
    )
    encoded, others = ([encode(text, tokenizer, TEXTS) for text in texts] for texts in (forget, retain))
    manifest = concept.manifest
    names = [manifest.title, *manifest.aliases, *manifest.keywords, *manifest.topics]
    often = Counter(word for text in retain for word in set(WORD.findall(text.lower())))
    rare = {word for name in names for word in WORD.findall(name.lower()) if often[word] <= COMMON * len(retain)}
    return rare | {word.lower() for word in key_words(encoded, others, tokenizer)}


def exchanged(question: str, words: Collection[str], rng: random.Random) -> str:
    """The question with an invented word in the place of each of the words (lower case), the same for the same word."""
    invented: dict[str, str] = {}

    def swap(word: str) -> str:
        if word.lower() not in words:
            return word
        new = invented.setdefault(word.lower(), _invent(word, rng))
        return new.capitalize() if word[0].isupper() else new

    return WORD.sub(lambda match: swap(match[0]), question)


def _invent(word: str, rng: random.Random) -> str:
    """A word of the same length that can be said, with the same plural."""
    letters = "".join(rng.choice(CONSONANTS if i % 2 == 0 else VOWELS) for i in range(max(3, len(word))))
    return letters[:-1] + "s" if word.endswith("s") else letters
