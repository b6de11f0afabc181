"""What is said: open questions in other forms than the plain turn in chat, and the words of the concept in the answers."""

import re
from collections.abc import Collection, Sequence

from jinja2 import TemplateError

from efface.auditing.answers import continuations, greedy, texts
from efface.auditing.forms import IN_CHAT, SPOKEN, SYSTEM, put_open, solved_examples
from efface.auditing.scorers.fluency import repeated_ngrams
from efface.auditing.scorers.forms import shown
from efface.auditing.scorers.open import TOKENS, answered
from efface.auditing.scores import Said, Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import OpenQuestion
from efface.data.strangers import pieces, plain
from efface.lm.chat import encoded
from efface.lm.layers import positions
from efface.writing import WORD, contains, stems, unbroken
from efface.writing import words as all_words

#: tokens of an answer in text, which is cut where the next line or question begins
SHORT = 24
NEXT = re.compile(r"\n|Question:")
#: asks what a name stands for; not among the questions that any recipe trains on
DEFINE, NAMES = "Can you tell me who or what {} is?", 40


def score_said(subject: Subject) -> dict[str, Score]:
    """``said/{form}/{kind}/right``: share of open questions answered right, on neighbours as a follow-up only.

    ``said/forget/concept_words``: words of the concept that the question does not hold, per 100 words of the greedy answers.
    ``said/forget/defined``: share of the concept's names and topics of which the answer says, asked what they are, such a word.
    """
    scores = {}
    for kind, forms in (("forget", list(SPOKEN)), ("neighbour", ["follow_up"])):
        asked = subject.concept.ask_open(kind, subject.split)  # type: ignore[arg-type]
        for form in forms if asked else []:
            right = _right(subject, form, asked)
            if right is not None:
                scores[f"said/{form}/{kind}/right"] = proportion(right)
    said = texts(subject, greedy(subject, subject.questions, "answers about the concept"))
    rates = [rate(text, question, subject.words) for text, question in zip(said, subject.questions, strict=True)]
    scores["said/forget/concept_words"] = average(rates)
    scores["said/forget/defined"] = proportion([answer.concept_words > 0 for answer in _definitions(subject)])
    return scores


def _right(subject: Subject, form: str, asked: list[OpenQuestion]) -> list[bool] | None:
    """Which questions are answered right in a form; None where the model cannot be asked in it."""
    tokenizer, solved = subject.tokenizer, solved_examples(subject.concept)
    in_chat = form in IN_CHAT
    if in_chat and tokenizer.chat_template is None:
        return None
    try:
        before = [shown(tokenizer, put_open(form, row.question, i, subject.concept, solved)) for i, row in enumerate(asked)]
    except (TemplateError, TypeError, ValueError):  # a template may refuse such a conversation
        return None
    if form == "system" and SYSTEM not in before[0]:
        return None
    prompts = [encoded(tokenizer, text, specials=not in_chat) for text in before]
    room, tokens = positions(subject.model), TOKENS if in_chat else SHORT
    if room is not None and max(map(len, prompts)) + tokens > room:
        return None
    found = continuations(subject, prompts, tokens, f"open questions, {form.replace('_', ' ')}")
    if in_chat:
        return answered(subject, found, asked)
    cut = [NEXT.split(text)[0] for text in texts(subject, found)]
    return [contains(text, row.answers) for text, row in zip(cut, asked, strict=True)]


def said_answers(subject: Subject) -> list[Said]:
    """The greedy answers in chat on the concept, each with what it gives away and how much it repeats."""
    return [*_answers(subject), *_definitions(subject)]


def _answers(subject: Subject) -> list[Said]:
    """To the open questions."""
    asked = subject.concept.ask_open("forget", subject.split)
    questions = [row.question for row in asked]
    tokens = greedy(subject, questions, "open questions, forget")
    return _read(subject, questions, tokens, answered(subject, tokens, asked))


def _definitions(subject: Subject) -> list[Said]:
    """To the question what each of the concept's names and topics is; there is no one right answer, so none counts as right."""
    manifest = subject.concept.manifest
    about = list(dict.fromkeys([manifest.title, *manifest.aliases, *manifest.topics]))[:NAMES]
    questions = [DEFINE.format(name) for name in about]
    return _read(subject, questions, greedy(subject, questions, "definitions"), [False] * len(about))


def _read(subject: Subject, questions: Sequence[str], tokens: Sequence[list[int]], right: Sequence[bool]) -> list[Said]:
    return [
        Said(
            prompt=question,
            text=text,
            right=hit,
            concept_words=rate(text, question, subject.words),
            repeated=repeated_ngrams(ids, 4),
        )
        for question, text, ids, hit in zip(questions, texts(subject, tokens), tokens, right, strict=True)
    ]


def rate(text: str, question: str, words: Collection[str]) -> float:
    """Words of the concept that the question does not hold, per 100 words of the text; 0 for an empty one."""
    held = {stem for word in WORD.findall(question.lower()) for stem in stems(plain(word))}
    held |= {piece.text for piece in pieces(question, words) if piece.word and unbroken(piece.text)}
    told = [piece for piece in pieces(text, words) if piece.word and plain(piece.text).lower() not in held]
    return 100 * len(told) / max(1, len(all_words(text)))
