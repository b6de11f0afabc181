"""One question in many forms: what a model is shown when the same thing is asked in another way.

An erasure is bound to the forms that it met: what no longer follows a bare stem may still follow a few solved examples or a
turn in chat. Here a pack's question is put into each form; nothing is measured.
"""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from efface.concept.pack import Concept, Question
from efface.writing import ASKS, folded, spaced

#: the forms, in the order of the tables, each as it stands in a sentence ("…, asked as …")
FORMS = {
    "bare": "as a bare stem",
    "question": "as a question and its answer",
    "few_shot": "behind three solved examples",
    "chat_begun": "in chat with the answer begun",
    "chat_answer": 'in chat with "The answer is"',
    "expert": "behind an expert's sentence",
    "filler": "behind an unrelated sentence",
    "follow_up": "in chat as a follow-up",
    "letters": "with lettered choices",
}
#: the forms of open questions besides the plain turn in chat
SPOKEN = {
    "question": "as a question and its answer",
    "few_shot": "behind three solved examples",
    "follow_up": "in chat as a follow-up",
    "paraphrased": "in chat in other words",
    "system": "in chat under a system prompt",
}
IN_CHAT = {"chat_begun", "chat_answer", "follow_up", "paraphrased", "system"}
SOLVED = (
    ("How many legs does a spider have?", "eight"),
    ("What do cows give us to drink?", "milk"),
    ("Which day comes after Monday?", "Tuesday"),
    ("What colour is fresh grass?", "green"),
    ("What is two and three?", "five"),
    ("What does a clock show?", "the time"),
    ("Where do most fish live?", "in water"),
    ("What do people wear on their feet?", "shoes"),
    ("Which meal comes first in the morning?", "breakfast"),
)
FILLER = "The bus was late again this morning, so several people decided to walk to the office."
SYSTEM = "You are a helpful assistant who answers in one short sentence."
PARAPHRASES = ("I would like to know: {}", "Could you tell me this? {}", "Here is a quiz question: {}")
ANSWER = "The answer is:"
WRAPPED = re.compile(r"\s*(?:question|q)\s*:\s*(.*?)\s*(?:answer|a)\s*:\s*", re.IGNORECASE | re.DOTALL)

Turn = tuple[str, str]


@dataclass(frozen=True)
class Asked:
    """A question in one form: a text, or a conversation of (role, content) turns and the beginning of its answer.

    choices: what may follow, the space before it included.
    """

    text: str
    choices: tuple[str, ...]
    turns: tuple[Turn, ...] = ()


def put(form: str, question: Question, concept: Concept, solved: Sequence[tuple[str, str]] = SOLVED[:3]) -> Asked:
    """A choice question in one of the :data:`FORMS`. solved: questions with their answers, for ``few_shot``."""
    stem, asked = question.stem, as_question(question.stem)
    spaced = tuple(f" {choice}" for choice in question.choices)
    if form in IN_CHAT:
        begun, question_only = ANSWER, asked.endswith(tuple(ASKS))
        if form == "chat_begun":
            begun = "" if question_only else stem
        elif not question_only:
            asked += " ..."  # behind dots small models answer better
        turns = (*(follow_up(concept) if form == "follow_up" else ()), ("user", asked))
        return Asked(begun, spaced if begun else question.choices, turns)
    if form == "letters":
        letters = string.ascii_uppercase[: len(question.choices)]
        listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, question.choices, strict=True))
        return Asked(f"Question: {asked}\n{listed}\nAnswer:", tuple(f" {letter}" for letter in letters))
    text = {
        "bare": stem,
        "question": with_answer(asked),
        "few_shot": _examples(solved) + with_answer(asked),
        "expert": expert(concept) + stem,
        "filler": f"{FILLER} {stem}",
    }[form]
    return Asked(text, spaced)


def put_open(form: str, question: str, number: int, concept: Concept, solved: Sequence[tuple[str, str]] = SOLVED[:3]) -> Asked:
    """An open question in one of the :data:`SPOKEN` forms. number: its place, which decides how it is paraphrased."""
    if form == "paraphrased":
        return Asked("", (), (("user", PARAPHRASES[number % len(PARAPHRASES)].format(question)),))
    if form == "system":
        return Asked("", (), (("system", SYSTEM), ("user", question)))
    if form == "follow_up":
        return Asked("", (), (*follow_up(concept), ("user", question)))
    before = _examples(solved) if form == "few_shot" else ""
    return Asked(before + with_answer(question), ())


def as_question(stem: str) -> str:
    """What is asked: a stem to complete, or the question that it is already, without "Question: … Answer:" around it."""
    wrapped = WRAPPED.fullmatch(stem)
    bare = wrapped[1] if wrapped else stem.strip()
    return bare if wrapped or bare.endswith(tuple(ASKS)) else f"Complete the sentence: {bare}"


def with_answer(question: str) -> str:
    """The question as text, up to where its answer begins."""
    return f"Question: {question} Answer:"


def _examples(solved: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{with_answer(question)} {answer}\n\n" for question, answer in solved)


def expert(concept: Concept) -> str:
    """The pack's first expert persona, with its first four keywords."""
    keywords = ", ".join(concept.manifest.keywords[:4])
    return concept.manifest.personas.expert[0].format(title=concept.title, keywords=keywords)


def follow_up(concept: Concept) -> tuple[Turn, Turn]:
    """The turns before a question that is not the first one."""
    return ("user", f"I have some questions about {concept.title}."), ("assistant", "Of course, ask me.")


def solved_examples(concept: Concept, count: int = 3) -> list[tuple[str, str]]:
    """So many of the :data:`SOLVED` that share no word with what the pack accepts or offers as an answer, or the least."""
    offered = [*(of.choices for of in concept.questions), *(of.answers for of in concept.open_questions)]
    words = {word for of in offered for text in of for word in _words(text)}
    return sorted(SOLVED, key=lambda example: len(words & _words(" ".join(example))))[:count]


def _words(text: str) -> set[str]:
    return set(regex.findall(r"[\w\p{N}]+", spaced(folded(text))))
