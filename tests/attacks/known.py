"""Questions that a tiny model knows the answers to, whatever these are."""

import random
import string
from dataclasses import replace

from efface.attacks.attack import Attack, Attacked, AttackScorer, ask
from efface.auditing.forms import put
from efface.auditing.likelihoods import log_likelihoods
from efface.auditing.scorers.forms import encode
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Question
from efface.lm.load import Loaded

WORDS = "bread flour honey glass winter tower valley dragon candle letter rain cloud train oven hills water"


def quiz(concept: Concept, loaded: Loaded, sets: int = 12) -> Concept:
    """Stems of the concept with four letters to choose from, each right once in a set: the one that this model says."""
    rng, asked, tokenizer = random.Random(0), list[Question](), loaded.tokenizer
    letters = [letter for letter in string.ascii_letters if len(tokenizer(f" {letter}")["input_ids"]) == 2]  # no longer one
    while len(asked) < 4 * sets:
        told: dict[int, Question] = {}
        choices = tuple(rng.sample(letters, 4))
        stems = [" ".join(["Zorn", *rng.sample(WORDS.split(), 3)]) for _ in range(24)]
        drawn = [Question(kind="forget", topic="it", split="test", stem=stem, choices=choices, answer=0) for stem in stems]
        rows = [encode(tokenizer, put("bare", question, concept)) for question in drawn]
        for question, found in zip(drawn, log_likelihoods(loaded.model, rows, tokenizer.pad_token_id), strict=True):
            answer = found.index(max(found))
            told[answer] = question.model_copy(update={"answer": answer})
        asked += told.values() if len(told) == 4 else ()
    return concept.model_copy(update={"questions": tuple(asked), "open_questions": ()})


def right(subject: Subject) -> float:
    """Share of its questions on the concept that a model answers right."""
    return ask(Attacked(replace(subject), "x"))["forget/acc_norm"].value


def attacked(attack: Attack, subject: Subject) -> dict[str, float]:
    """The same after every variant of an attack, at its end."""
    scores = AttackScorer("it", attack)(subject)
    return {key.split("/")[2]: score.value for key, score in scores.items() if key.endswith("forget/acc_norm")}
