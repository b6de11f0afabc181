"""The pack's choice questions in every form: bare is the harness's (:mod:`.choice`), the others are asked here.

Choices are encoded and normalised as the harness does it: ``acc`` by log-likelihood, ``acc_norm`` by log-likelihood over the
number of characters of the choice, ``probability`` of the right choice among the choices. Of lettered choices the letters are
scored, so there the two accuracies are the same figure.
"""

from typing import get_args

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from efface.auditing.forms import FORMS, IN_CHAT, Asked, put, solved_examples
from efface.auditing.likelihoods import Branches, log_likelihoods
from efface.auditing.scorers.choice import alike, chance
from efface.auditing.scores import Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Kind, Question
from efface.lm.chat import chat_text, encoded
from efface.lm.layers import positions
from efface.progress import track


def score_forms(subject: Subject) -> dict[str, Score]:
    """``form/{form}/{kind}/acc``, ``acc_norm`` and ``probability`` of forget, neighbour and general questions.

    A form that the model cannot be asked in is left out: a chat without a chat template, a text longer than it can read.
    """
    concept, tokenizer = subject.concept, subject.tokenizer
    asked = {kind: concept.ask(kind, subject.split) for kind in get_args(Kind)}
    questions, scores = [question for of in asked.values() for question in of], dict[str, Score]()
    solved, room = solved_examples(concept), positions(subject.model)
    chat = tokenizer.chat_template is not None
    forms = [form for form in FORMS if form != "bare" and (chat or form not in IN_CHAT)] if questions else []
    for form in track(forms, "forms of the questions"):
        try:
            rows = [encode(tokenizer, put(form, question, concept, solved)) for question in questions]
        except (TemplateError, TypeError, ValueError):  # a template may refuse such a conversation
            continue
        if room is not None and max(row.longest for row in rows) > room:
            continue
        found = log_likelihoods(subject.model, rows, tokenizer.pad_token_id)
        for kind, of in asked.items():
            if of:
                scores |= figures(f"form/{form}/{kind}", of, found[: len(of)], lettered=form == "letters")
                found = found[len(of) :]
    return scores


def figures(key: str, questions: list[Question], found: list[list[float]], lettered: bool) -> dict[str, Score]:
    """``{key}/acc``, ``acc_norm`` and ``probability`` of questions, from the log-likelihoods of their choices."""
    guessing, groups, likelihoods = chance(questions), alike(questions), [np.array(values) for values in found]
    lengths = [np.array([1.0 if lettered else len(choice) for choice in question.choices]) for question in questions]
    right = [question.answer for question in questions]
    chosen = [values.argmax() == answer for values, answer in zip(likelihoods, right, strict=True)]
    normed = [(values / n).argmax() == answer for values, n, answer in zip(likelihoods, lengths, right, strict=True)]
    weights = [np.exp(values - values.max()) for values in likelihoods]
    shares = [float(of[answer] / of.sum()) for of, answer in zip(weights, right, strict=True)]
    return {
        f"{key}/acc": proportion(list(map(bool, chosen)), guessing, groups),
        f"{key}/acc_norm": proportion(list(map(bool, normed)), guessing, groups),
        f"{key}/probability": average(shares, guessing, groups),
    }


def shown(tokenizer: PreTrainedTokenizerBase, asked: Asked) -> str:
    """What stands before the answer, as text."""
    return chat_text(tokenizer, asked.turns) + asked.text if asked.turns else asked.text


def encode(tokenizer: PreTrainedTokenizerBase, asked: Asked) -> Branches:
    """Token ids as the harness makes them: a context, and what each choice adds to it."""
    specials, text = not asked.turns, shown(tokenizer, asked)
    spaces = text[len(text.rstrip(" ")) :] if specials else ""
    context = encoded(tokenizer, text.removesuffix(spaces), specials=specials)
    wholes = [encoded(tokenizer, text + choice, specials=specials) for choice in asked.choices]
    return Branches(context, tuple(whole[len(context) :] or whole[-1:] for whole in wholes))
