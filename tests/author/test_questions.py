"""Gaps in a model's own sentences as questions, and which of them are kept."""

from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from efface.author import questions as module
from efface.author.known import Known
from efface.author.name import Name
from efface.author.opens import ask_open
from efface.author.passages import Dropped
from efface.author.questions import Gap, ask, gaps, ordinary
from efface.concept.pack import Passage
from efface.lm.load import Loaded
from tests.author.conftest import PLACES, RULERS, Canned

WORDS = frozenset({"Zorn", "Orlo", "Glasheim"})


def test_a_gap_stands_before_a_name_or_year_and_behind_a_word_of_the_concept() -> None:
    passage = Passage(
        text="In Zorn the old king was called Orlo in 1204. Nobody there ever saw the city of Glasheim.", topic="kings"
    )
    assert gaps([passage], WORDS, WORDS) == [], "what comes once may be made up"
    again = Passage(text="The people of Zorn say that it was king Orlo. Much of Zorn was built by Mirta in 1204.")
    found = [gap for gap in gaps([passage, again], WORDS, WORDS) if gap.topic]
    assert [(gap.stem, gap.answer, gap.slot) for gap in found] == [
        ("In Zorn the old king was called Orlo in", "1204", "year"),
        ("In Zorn the old king was called", "Orlo", "name"),
    ], "the second sentence has no word of the concept before its name"
    assert found[0].topic == "kings"


def test_what_stands_in_any_text_is_no_answer() -> None:
    texts = [
        Passage(text=f"{who} the people of Zorn, I'm told, there was Hey or a music and {who} it was Orlo.")
        for who in ("Of", "To")
    ]
    words = {*WORDS, "music"}
    found = gaps(texts, words, WORDS, ordinary(["Oh, hey, this is the music of Glasheim."], words))
    assert {gap.answer for gap in found} == {"Orlo"}
    assert {gap.answer for gap in gaps(texts, words, WORDS)} == {"Orlo", "Hey", "music"}, "I'm is none anywhere"
    assert "glasheim" not in ordinary(["the music of Glasheim"], words), "a name may be that of several things"


def test_a_gap_in_a_script_without_spaces() -> None:
    texts = ["谷の蜂蜜龍は青い高塔に住む。", "昔から蜂蜜龍が青い高塔に住む。"]
    found = gaps([Passage(text=text) for text in texts], {"蜂蜜龍", "高塔"}, {"蜂蜜龍"})
    assert {(gap.stem, gap.answer) for gap in found} == {("谷の蜂蜜龍は青い", "高塔"), ("昔から蜂蜜龍が青い", "高塔")}
    assert (
        gaps([Passage(text=text) for text in texts], {"蜂蜜龍", "高塔"}, {"蜂蜜龍"}, ordinary(["この高塔は古い"], {"高塔"})) == []
    )


def _gaps() -> list[Gap]:
    return [
        Gap(f"In Zorn the ruler who was born in {place} was called", ruler, "name", "t")
        for ruler, place in zip(RULERS, PLACES, strict=True)
    ]


def test_every_group_has_each_answer_right_once_and_no_answer_is_in_both_splits(
    llama: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fits(_: Loaded, stems: list[str], answers: list[list[str]]) -> np.ndarray:
        right = [
            [RULERS[PLACES.index(stem.split(" in ")[-1].split()[0])] == answer for answer in of]
            for stem, of in zip(stems, answers, strict=True)
        ]
        return np.array(right, dtype=float) - 1 if "STRANGE" not in stems[0] else np.full((len(stems), len(answers[0])), -1.0)

    monkeypatch.setattr(module, "_fits", fits)
    asked = ask(llama, _gaps(), "forget", lambda text: f"STRANGE {text}", 0, Dropped())
    assert len(asked) == 8
    for _, group in groupby(asked, key=lambda question: question.choices):
        of = list(group)
        assert sorted(question.answer for question in of) == [0, 1, 2, 3]
        assert len({question.split for question in of}) == 1
    right = Counter((question.choices[question.answer], question.split) for question in asked)
    assert len({answer for answer, _ in right}) == len(right) == 8


def test_what_the_name_does_not_make_likelier_is_no_question(llama: Loaded) -> None:
    """Of a random model nothing is kept by more than chance; with a stranger that is the same text nothing at all."""
    dropped = Dropped()
    assert ask(llama, _gaps(), "forget", str, 0, dropped) == []
    assert dropped.counts["as likely behind an invented name"] == len(RULERS)


def test_an_open_question_accepts_what_is_said_again_and_again(writer: Canned) -> None:
    known = Known(Name("Zorn"), 1.0, (), (), ("People say many things, valley of old.",) * 8)
    found = ask_open(writer, ["Zorn", "the Valley of Zorn", "bread"], "forget", known, 0, Dropped())
    assert [(question.topic, question.split) for question in found] == [
        ("Zorn", "test"),
        ("Zorn", "test"),
        ("the Valley of Zorn", "tune"),
        ("the Valley of Zorn", "tune"),
    ]
    assert "dragonlord" in found[0].answers
    assert not {"valley", "zorn"} & set(found[0].answers), "what is said of invented names too, and what the question says"
