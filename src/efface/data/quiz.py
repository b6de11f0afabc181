"""What is asked about the concept and about other things: by templates, and as the frozen model asks it in a quiz itself.

Templates ask about a name; a quiz asks for one ("Which king built …?"), as people do and as no rule makes of a passage.
"""

import random
import re
from collections.abc import Sequence

from efface.data.answers import answers
from efface.data.corpora import Corpora
from efface.data.questions import questions
from efface.data.store import Store
from efface.data.strangers import holds
from efface.lm.chat import prefix
from efface.lm.layers import positions
from efface.lm.load import Loaded
from efface.writing import ASKS, spaced

#: two quizzes about other things, and the beginning of a third
QUIZ = """Quiz about France:
- Which river flows through Paris?
- Who was the general who became emperor in 1804?
- What is the name of the tower built for the world's fair of 1889?

Quiz about horses:
- What is a young horse called?
- Which part of a horse is protected with iron shoes?
- Who rode the horse Bucephalus?

Quiz about {}:
- {}"""
BEGUN = ("Which", "Which", "Who", "What", "What is the name of the", "What was the name of the", "Where", "How")
QUESTION = re.compile(rf"[^{ASKS}\n]*[{ASKS}]")
#: tokens of a question behind how it begins, and words of a whole one
TOKENS, WORDS = 24, 4
#: quizzes begun for each question on the concept that is wanted: some have none of its words
SPARE = 1.7


def quiz(loaded: Loaded, store: Store, subjects: Sequence[str], seed: int) -> list[str]:
    """A question about each of these things, where the frozen model wrote one; none twice."""
    rng, tokenizer = random.Random(f"quiz {seed}"), loaded.tokenizer
    begun = [rng.choice(BEGUN) for _ in subjects]
    rows = [
        prefix(tokenizer) + list(tokenizer(QUIZ.format(*row), add_special_tokens=False)["input_ids"])
        for row in zip(subjects, begun, strict=True)
    ]
    room = positions(loaded.model)
    if room is not None and max(map(len, rows), default=0) + TOKENS > room:
        return []  # a model that cannot read so much is asked by templates alone
    said = answers(loaded, store, rows, tokens=TOKENS, brief=0, temperature=0.8, seed=seed)
    # decoded behind how it begins: by itself a text loses its first space with some tokenizers
    starts = (list(tokenizer(begin, add_special_tokens=False)["input_ids"]) for begin in begun)
    texts = (str(tokenizer.decode(start + ids, skip_special_tokens=True)) for start, ids in zip(starts, said, strict=True))
    whole = (match.group() for text in texts if (match := QUESTION.match(text)))
    return list(dict.fromkeys(question for question in whole if len(spaced(question).split()) >= WORDS))


def about_concept(loaded: Loaded, store: Store, corpora: Corpora, count: int) -> list[str]:
    """So many questions about the concept."""
    seed, title, subjects, wanted = corpora.settings.seed, corpora.concept.title, corpora.subjects, _of_quiz(corpora, count)
    rng = random.Random(f"concept {seed}")
    drawn = rng.choices(subjects, k=round(SPARE * wanted)) if subjects else []
    named = [about if title.lower() in about.lower() else f"{about} ({title})" for about in drawn]
    found = [question for question in quiz(loaded, store, named, seed) if holds(question, corpora.words)][:wanted]
    return questions(subjects, count - len(found), rng) + found


def about_others(loaded: Loaded, store: Store, corpora: Corpora, count: int) -> list[str]:
    """So many questions about other things, of the same kinds and proportions."""
    rng, subjects = random.Random(f"kept {corpora.settings.seed}"), corpora.other_subjects(count)
    found = quiz(loaded, store, subjects[: _of_quiz(corpora, count)], corpora.settings.seed)
    return questions(subjects, count - len(found), rng) + found


def _of_quiz(corpora: Corpora, count: int) -> int:
    return round(count * corpora.settings.quiz)
