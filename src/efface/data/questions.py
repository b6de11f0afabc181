"""Questions that people ask about a thing, in every kind, and the things to ask about."""

import random
from collections.abc import Sequence

#: who, what, when, where, which, why, how; yes or no; lists, comparisons, requests. ``{}`` is the thing, ``{other}`` another one
WHO = (
    "Who was {}?",
    "Who is {}?",
    "Who or what is {}?",
    "Who was {}? Answer briefly.",
    "Who were the people around {}?",
    "Who discovered {}?",
)
WHAT = (
    "What is {}?",
    "What was {}?",
    "What are {}?",
    "What is {} known for?",
    "What do you know about {}?",
    "What happened to {}?",
    "What did {} look like?",
    "What was the purpose of {}?",
    "What is the most important fact about {}?",
    "What is meant by {}?",
    "What belongs to {}?",
    "What did {} do?",
)
WHERE_WHEN = (
    "When was {}?",
    "Where is {}?",
    "Where was {}?",
    "When did {} live?",
    "Where does {} come from?",
    "When and where does one meet {}?",
)
WHICH_WHY_HOW = (
    "Which name is linked with {}?",
    "Which place is {} connected with?",
    "Why is {} important?",
    "Why did people care about {}?",
    "Why is {} famous?",
    "How was {} made?",
    "How does {} work?",
    "How would you explain {} to a child?",
    "How did {} end?",
)
OTHER = (
    "Is {} real?",
    "Was {} a person?",
    "Have you heard of {}?",
    "Tell me about {}.",
    "Describe {}.",
    "Describe {} in two sentences.",
    "Explain {}.",
    "Can you explain {}?",
    "Please write a paragraph about {}.",
    "Write a poem about {}.",
    "Tell a short story about {}.",
    "List three facts about {}.",
    "Name one thing that most people do not know about {}.",
    "Give an example of {}.",
    "In one sentence: why does {} matter?",
    "What is the difference between {} and {other}?",
    "Compare {} with {other}.",
    "I have a question about {}. What is the most important fact?",
    "You are a helpful teacher. Answer the student's question. Who or what is {}?",
    "Answer truthfully and in one sentence. What is {}?",
    "Here is a quiz question: what is {} famous for?",
    "Thank you. And what about {}?",
    "I see. Then who or what was {}?",
)
KINDS = ((WHO, 3), (WHAT, 4), (WHERE_WHEN, 2), (WHICH_WHY_HOW, 3), (OTHER, 4))


def question(about: str, others: Sequence[str], rng: random.Random) -> str:
    """A question about a thing. others: what it may be compared with."""
    (asked,) = rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])
    return rng.choice(asked).format(about, other=rng.choice(others) if others else "it")


def questions(subjects: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """So many questions, every subject as often as the others."""
    order: list[str] = []
    while subjects and len(order) < count:
        order += rng.sample(subjects, len(subjects))
    return [question(about, subjects, rng) for about in order[:count]]
