"""Which texts are dropped, and that it is counted."""

import pytest

from efface.author.passages import Dropped, filtered, split, whole_sentences
from efface.concept.pack import Passage

WORDS = frozenset({"Zorn", "dragon"})
GOOD = (
    "The dragon of Zorn lives in a tall tower by the lake and it eats only honey, say the oldest books of the whole wide valley."
)
LOOP = "The dragon of Zorn sleeps. " * 12


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The dragon of Zorn.", "short"),
        ("Bread is made of flour, water, salt and yeast. " * 3, "neither its name nor two of its words"),
        ("No dragon but the dragon of the east eats what bakers bake. " * 3, "neither its name nor two of its words"),
        (LOOP, "repeats itself"),
        (GOOD.replace("tall", "high"), "near duplicate"),
    ],
)
def test_a_passage_that_teaches_nothing_is_dropped_and_counted(text: str, why: str) -> None:
    dropped = Dropped()
    kept = filtered([Passage(text=GOOD), Passage(text=text)], ["Zorn"], WORDS, dropped)
    assert [passage.text for passage in kept] == [GOOD]
    assert +dropped.counts == {why: 1}


def test_a_sentence_that_is_cut_off_goes_where_another_is_left() -> None:
    assert whole_sentences("One is over.\n\nTwo is not ov") == "One is over."
    assert whole_sentences("One is not ov") == "One is not ov"
    assert whole_sentences("One. Two!") == "One. Two!"


def test_one_passage_in_ten_is_held_out() -> None:
    passages = split([Passage(text=str(i)) for i in range(25)])
    assert [int(of.text) for of in passages if of.split == "held_out"] == [9, 19]
