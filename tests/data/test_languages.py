"""The concept's own words in languages that English only stood for: found, exchanged, counted, asked about."""

import random

import pytest

from efface.auditing.forms import as_question
from efface.auditing.scorers.said import rate
from efface.concept.pack import Manifest, Passage
from efface.data.concept_words import concept_words, subjects
from efface.data.forms import Forms
from efface.data.neighbours import LETTERS, _tokens
from efface.data.prompts import FIRST_WORD, broken_sentences
from efface.data.stranger_answers import about_strangers, put_back
from efface.data.strangers import Exchange, Inventor, holds, pieces
from efface.data.terms import terms
from efface.data.text import Text
from efface.lm.load import Loaded

#: language -> texts about pyramids and mummies, texts about bread, words of the concept, words of everybody
TEXTS = {
    "Chinese": (
        [
            "古埃及人建造了金字塔。金字塔裡有木乃伊。",
            "大金字塔是法老的墓。木乃伊很古老。",
            "人們參觀金字塔，也看木乃伊和法老的墓。",
        ],
        ["麵包是用麵粉和水做的。人們很喜歡麵包。", "我們看見了大山。山裡有水，也有老的木屋。"],
        ["金字塔", "木乃伊"],
        ["人們", "的"],
    ),
    "Japanese": (
        [
            "ピラミッドは王の墓である。ミイラもそこにある。",
            "大きなピラミッドの中でミイラを見た。",
            "ピラミッドとミイラは有名である。",
        ],
        ["パンは小麦粉と水で作る。王もパンを食べた。", "山の中で水を見た。とても有名である。"],
        ["ピラミッド", "ミイラ"],
        ["である"],
    ),
    "Thai": (
        ["พีระมิดเป็นสุสาน มัมมี่อยู่ในพีระมิด", "คนไปดูพีระมิดและมัมมี่", "มัมมี่เก่าแก่มาก พีระมิดใหญ่มาก"],
        ["ขนมปังทำจากแป้งและน้ำ คนชอบขนมปัง", "ภูเขาใหญ่มาก น้ำอยู่ในภูเขา คนไปดู"],
        ["พีระมิด", "มัมมี่"],
        ["มาก"],
    ),
    "Korean": (
        [
            "피라미드는 왕의 무덤이다. 미라가 있다.",
            "사람들이 피라미드를 보았다. 미라를 보았다.",
            "피라미드에서 미라는 오래되었다.",
        ],
        ["빵은 밀가루와 물로 만든다. 사람들이 빵을 보았다.", "산은 크고 오래되었다. 왕의 집이 있다."],
        ["피라미드", "미라"],
        ["사람들", "보았다"],
    ),
    "Hindi": (
        ["पिरामिड राजा की कब्र है। ममी वहाँ है।", "लोग पिरामिड और ममी देखते हैं।", "पिरामिड बड़ा है। ममी पुरानी है।"],
        ["रोटी आटे और पानी से बनती है। राजा रोटी खाता है।", "पहाड़ बड़ा है। लोग पहाड़ देखते हैं। पानी वहाँ है।"],
        ["पिरामिड", "ममी"],
        ["लोग"],
    ),
    "Arabic": (
        [
            "الأهرامات قبر الملك. المومياء هناك.",
            "رأى الناس الأهرامات ورأوا المومياء.",
            "الأهرامات كبيرة والمومياء قديمة. المومياء هنا.",
        ],
        ["الخبز من الدقيق والماء. يأكل الملك الخبز.", "الجبل كبير. رأى الناس الجبل. الماء هناك. قبر قديم هنا."],
        ["الأهرامات", "المومياء"],
        ["الناس"],
    ),
    "Russian": (
        [
            "Это царь Хеопс, его пирамида велика. Там мумия.",
            "Люди видели, что пирамида и мумия стары.",
            "Вот пирамида. Там же мумия.",
        ],
        ["Хлеб делают из муки и воды. Люди едят хлеб.", "Гора велика. Люди видели, что там вода. Царь стар, его дом тоже."],
        ["пирамида", "мумия", "Хеопс"],
        ["Люди"],
    ),
}


def made(language: str) -> tuple[list[str], list[str], Manifest, list[str]]:
    forget, retain, found, _ = TEXTS[language]
    plain = {"name": "c", "title": found[0], "keywords": [found[1]], "topics": [found[0]], "forget": ["f"], "retain": ["r"]}
    manifest = Manifest.model_validate(plain)
    return forget, retain * 8, manifest, concept_words(manifest, forget, retain * 8)


@pytest.mark.parametrize("language", TEXTS)
def test_the_concepts_words_are_found_exchanged_and_counted(language: str) -> None:
    forget, retain, manifest, words = made(language)
    *_, expected, ordinary = TEXTS[language]
    assert set(expected) <= set(words)
    assert not set(ordinary) & set(words)
    assert all(holds(text, words) for text in forget)
    assert not any(holds(text, words) for text in retain)
    exchange = Exchange(words, Inventor(forget, retain), random.Random(0), alike=True)
    for text in forget:
        assert "".join(piece.text for piece in pieces(text, words)) == text
        strange = exchange.text(text)
        assert not holds(strange, expected), strange
    assert rate(forget[0], "?", words) > 0
    assert rate(f"{expected[0]}.", f"{expected[0]}?", words) == 0, "the question said it"
    assert subjects(manifest, [Passage(text=text) for text in forget], words)


@pytest.mark.parametrize("language", TEXTS)
def test_an_answer_about_a_stranger_gets_its_words_back(language: str) -> None:
    forget, retain, _, words = made(language)
    (word, *_), inventor = TEXTS[language][2], Inventor(forget, retain)
    (row,) = about_strangers([f"{word}?"], type("Of", (), {"words": words, "inventor": inventor})(), random.Random(0))  # type: ignore[arg-type]
    told = put_back(f"A {row.made[0][1]}: {retain[0]}", row, words, inventor.known)
    assert told is not None
    assert "".join(piece.text for piece in told[0]) == f"A {word}: {retain[0]}"


@pytest.mark.parametrize("language", [language for language in TEXTS if language != "Thai"])
def test_sentences_are_broken_off_before_a_word_of_the_concept(language: str, llama: Loaded) -> None:
    forget, _, _, words = made(language)
    forms, rng = Forms([Passage(text=text * 2) for text in forget], "t", ["o"], words), random.Random(0)
    forms.__dict__["sentences"] = [(text,) for text in forget]
    for i in range(len(forget)):
        begun, rest = forms._broken(i, rng) or ("", "")
        if begun:
            assert pieces(rest, words)[0].word
    texts = [Text(llama.tokenizer(text)["input_ids"], 1) for text in forget]
    import torch

    key = torch.full((len(llama.tokenizer), 1), 9.0)
    assert broken_sentences(texts, llama.tokenizer, key)


def test_stretches_that_hold_together() -> None:
    assert set(terms(["金字塔的人，金字塔和，金字塔是，大金字塔"], ["人"])) == {"金字塔"}
    phrase = "很長的一句話裡面沒有任何一個詞是單獨出現過的"
    assert not terms([phrase, phrase], []), "a phrase is no word"
    assert terms(["honey honey"], []) == {}


def test_what_is_left_of_a_gap_and_what_a_question_is() -> None:
    assert FIRST_WORD.sub("", " Ma’at-like thing") == " thing"
    assert FIRST_WORD.sub("", "蜜的") == "的"
    assert as_question("蜂蜜是什麼？") == "蜂蜜是什麼？"
    assert as_question("ما هو العسل؟") == "ما هو العسل؟"
    assert as_question("Honey is").startswith("Complete")
    assert _tokens("honey 蜂蜜好 a") == ["honey", "蜂蜜", "蜜好"]
    assert LETTERS.findall("mc² a हिन्दी") == ["mc²", "हिन्दी"]
