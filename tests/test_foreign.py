"""The pack of foreign making: what it promises to differ in, and that it can only judge."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from efface.concept.find import builtin_packs
from efface.concept.pack import Concept

PACK = Path(__file__).parents[1] / "benchmarks" / "foreign" / "american-civil-war"
WORD = re.compile(r"[\w'’-]*\w")
#: words of the concept and of what is near it, capitals aside
NEAR = re.compile(
    r"\b(wars?|arm(y|ies)|navy|battles?|soldiers?|troops|cavalry|infantry|regiments?|slave\w*|abolition\w*|presidents?|congress|senat\w+"
    r"|election|confedera\w+|union|secession|rebel\w*|america\w*|revolution\w*|napoleon\w*|plantations?|cotton)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def foreign() -> Concept:
    return Concept.load(str(PACK))


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def plain(question: str) -> str:
    return " ".join(words(question.removeprefix("Question: ").removesuffix(" Answer:")))


def test_counts_and_lengths(foreign: Concept) -> None:
    counts = {
        (corpus, split): len(foreign.texts(corpus, split)) for corpus in ("forget", "retain") for split in ("train", "held_out")
    }
    assert counts == {("forget", "train"): 105, ("forget", "held_out"): 12, ("retain", "train"): 261, ("retain", "held_out"): 29}
    assert all(300 <= len(row.text) <= 700 for row in foreign.forget)
    assert all(60 <= len(row.text) <= 200 for row in foreign.retain)
    assert not any(row.topic for row in foreign.forget + foreign.retain)
    assert len({row.text for row in foreign.forget + foreign.retain}) == 117 + 290


def test_only_test_questions(foreign: Concept) -> None:
    assert Counter((row.kind, row.split) for row in foreign.questions) == {
        ("forget", "test"): 64,
        ("neighbour", "test"): 44,
        ("general", "test"): 44,
    }
    assert Counter((row.kind, row.split) for row in foreign.open_questions) == {("forget", "test"): 64, ("neighbour", "test"): 40}
    assert all(re.fullmatch(r"Question: [A-Z].*\? Answer:", row.stem) for row in foreign.questions)


def test_no_question_of_a_built_in_pack(foreign: Concept, corpora_elsewhere: str) -> None:
    tuned_on = [Concept.load(name) for name, folder in builtin_packs().items() if (folder / "questions.jsonl").is_file()]
    known = {plain(row.stem) for pack in tuned_on for row in pack.questions}
    known |= {plain(row.question) for pack in tuned_on for row in pack.open_questions}
    assert len(known) > 1000
    own = [plain(row.stem) for row in foreign.questions] + [plain(row.question) for row in foreign.open_questions]
    assert not known & set(own)


def test_what_is_kept_is_far_from_what_is_to_be_forgotten(foreign: Concept) -> None:
    """No name that the forget texts use twice, no word of the concept's field."""
    forgotten = " ".join(row.text for row in foreign.forget)
    common = set(WORD.findall(forgotten))  # "General" is a name only where nobody writes "general"
    counts = Counter(word for word in WORD.findall(forgotten) if word[0].isupper() and word.lower() not in common)
    names = {word for word, times in counts.items() if times > 1}
    assert {"Lincoln", "Confederacy", "Gettysburg", "Richmond"} <= names
    for row in foreign.retain:
        assert not names & set(WORD.findall(row.text)), row.text
        assert not NEAR.search(row.text), row.text


def test_no_answer_in_its_question(foreign: Concept) -> None:
    asked = [(row.stem, row.choices[row.answer]) for row in foreign.questions]
    asked += [(row.question, answer) for row in foreign.open_questions for answer in row.answers]
    for question, answer in asked:
        assert f" {' '.join(words(answer))} " not in f" {' '.join(words(question))} ", question


@pytest.mark.parametrize("kind", ["forget", "neighbour", "general"])
def test_choices_alone_give_nothing_away(foreign: Concept, kind: str) -> None:
    """A set that four questions share is right once each; of those of a single question the right one stands anywhere."""
    right: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in foreign.questions:
        if row.kind == kind:
            assert len(row.choices) == 4
            right[row.choices].append(row.answer)
    shared = [answers for answers in right.values() if len(answers) > 1]
    alone = Counter(answers[0] for answers in right.values() if len(answers) == 1)
    assert all(sorted(answers) == [0, 1, 2, 3] for answers in shared)
    assert 0.2 <= alone.total() / (alone.total() + 4 * len(shared)) <= 0.3
    assert set(alone.values()) == {alone.total() // 4}
