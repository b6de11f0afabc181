"""Names and key words of texts on a concept."""

from efface.author.name import Name
from efface.author.words import find_words, words_of
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
