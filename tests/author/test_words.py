"""Names and key words of texts on a concept."""

from collections import Counter

from efface.author.name import Name
from efface.author.words import Listed, by_count, find_words, words_of
from tests.author.conftest import PLACES, RULERS, Canned


def test_names_that_several_texts_have_are_topics_and_the_name_is_the_first(writer: Canned) -> None:
    words = find_words(writer, Name("The Valley of Zorn"), 0)
    assert words.topics[0] == "The Valley of Zorn"
    assert {*RULERS, *PLACES} <= set(words.topics)
    assert "dragonlord" in words.keywords, "beside the names"
    assert "Valley of Zorn" in words.aliases
    assert not {"the", "was", "city"} & set(words.keywords), "what every text has is no key word"


def test_what_one_text_alone_has_is_left_out() -> None:
    texts = ["We all know Zorn and the zornish Orlo."] * 3 + ["We all know Zorn and the quirkish Mirta."]
    words = words_of(texts, Name("Zorn"))
    assert words.topics == ("Zorn", "Orlo")
    assert words.keywords == ("Orlo", "zornish")


def test_a_script_without_spaces_has_key_words_too() -> None:
    texts = ["蜂蜜龍は塔に住む。", "王は蜂蜜龍に乗る。", "冬の蜂蜜龍は眠る。", "谷の蜂蜜龍は青い。"]
    assert "蜂蜜龍" in words_of(texts, Name("ゾルン")).keywords


def test_what_more_lists_have_as_alike_than_as_a_part_is_no_topic_but_a_neighbour() -> None:
    texts = ["We know Zorn and the king Orlo."] * 3 + ["We know Zorn and Torn."]
    listed = Listed(Counter(Torn=3, Mirta=3, Morn=2, Glasheim=3), Counter(Torn=7, Orlo=9, Morn=2, Selma=1))
    words = words_of(texts, Name("Zorn"), listed)
    assert set(words.topics) == {"Zorn", "Orlo", "Mirta", "Glasheim"}, "of Orlo the texts speak"
    assert words.near == ("Torn",), "Morn is as much the one as the other, Selma in one list alone"


def test_words_of_a_script_without_capitals_are_asked_about() -> None:
    texts = ["蜂蜜龍は塔に住む。", "王は蜂蜜龍に乗る。", "冬の蜂蜜龍は眠る。", "谷の蜂蜜龍は青い。"]
    assert "蜂蜜龍" in words_of(texts, Name("谷")).topics


def test_what_is_as_frequent_comes_in_the_same_order_in_every_process() -> None:
    assert by_count(Counter(["b", "c", "a", "c"])) == [("c", 2), ("a", 1), ("b", 1)]
    texts = ["We know Zorn and Orlo."] * 3 + ["We know Mirta and Hagen."] * 3
    assert words_of(texts, Name("Zorn")).topics == ("Zorn", "Hagen", "Mirta", "Orlo")
