"""Words, sentences and spellings in other languages than English, and that English is cut as ever."""

import re
import unicodedata

import pytest

from efface.writing import OVER, contains, joined, sentences, spaced, stems, whole, words

#: language, accepted answer, texts that hold it, texts that do not
ANSWERS = [
    ("Chinese", "蜂蜜", ["這是蜂蜜的。", "是honey，也就是蜂蜜"], ["這是蜂的蜜", "蜜蜂"]),
    ("Chinese, Latin answer", "Honey", ["這是honey的。"], ["這是honeymoon的。"]),
    (
        "Japanese",
        "ハチミツ",
        ["それはハチミツです。", "ﾊﾁﾐﾂだ", unicodedata.normalize("NFD", "バターとハチミツ")],
        ["ハチのミツ"],
    ),
    ("Japanese, voiced", "バター", [unicodedata.normalize("NFD", "パンとバターです")], ["ハター"]),
    ("Thai", "น้ำผึ้ง", ["มันคือน้ำผึ้งครับ", unicodedata.normalize("NFKC", "กินน้ำผึ้งทุกวัน")], ["น้ำ ผึ้ง"]),
    ("Khmer", "ទឹកឃ្មុំ", ["វាគឺជាទឹកឃ្មុំ។"], ["ទឹក"]),
    ("Burmese", "ပျားရည်", ["ဒါဟာပျားရည်ပါ။"], ["ပျား"]),
    (
        "Korean",
        "꿀",
        ["그것은 꿀입니다.", "꿀을 먹는다", "꿀이에요!", "곰은 꿀만으로 산다", "꿀이었다"],
        ["꿀벌이 난다", "벌꿀을", "꿀라면"],
    ),
    ("Korean, decomposed", "이집트", [unicodedata.normalize("NFD", "고대 이집트에서는")], ["이집"]),
    ("Hindi", "शहद", ["यह शहद है।", "शहद।"], ["शहदी है", "शह"]),
    ("Hindi, vowel sign at the end", "पानी", ["पानी चाहिए"], ["पानीपत"]),
    ("Arabic", "عسل", ["إنه العسل.", "هو عَسَلٌ", "بالعسل والحليب", "للعسل", "عســل"], ["عسلي جدا", "غسل"]),
    ("Arabic with its article", "النيل", ["نهر النيل", "والنيل", "للنيل"], ["نيلي"]),
    ("Hebrew", "דבש", ["זה דבש.", "בדבש", "והדבש", "דְּבַשׁ"], ["דבשת"]),
    ("Persian", "کتاب", ["این کتاب\u200cها", "کتاب است"], ["کتابی"]),
    ("Russian", "мёд", ["Это МЁД.", "это мед", unicodedata.normalize("NFD", "это мёд")], ["мёдовый"]),
    ("Greek", "Οδυσσεύς", ["ο ΟΔΥΣΣΕΎΣ", "Οδυσσεύς;"], ["Οδυσσέας"]),
    ("German", "Straße", ["die STRASSE", "Straße."], ["Straßen"]),
    ("Turkish", "Isparta", ["ISPARTA’da", "Isparta'da"], ["Ispartalı"]),
    ("Turkish, dotted", "İstanbul", ["istanbul'da", "İSTANBUL"], ["istanbullu"]),
    ("French", "Égypte", ["l’Égypte", unicodedata.normalize("NFD", "d'égypte")], ["Égyptien"]),
    ("Vietnamese", "mật ong", [unicodedata.normalize("NFD", "Đó là Mật ong.")], ["mat ong"]),
    ("Spanish", "el Niño", [unicodedata.normalize("NFD", "fue EL NIÑO")], ["el nino"]),
    ("English", "Ma'at", ["It was Ma’at.", "MA'AT's feather", "“Ma‘at”"], ["Ma'ats", "Mat"]),
    ("English, hyphen", "Deir el-Medina", ["Deir el‑Medina", "deir el-medina."], ["Deir el-Medinah"]),
    ("Arabic letters written either way", "أهرامات", ["الاهرامات", "كالأهرامات"], ["هرامات"]),
    ("digits of another script", "1945", ["سنة ١٩٤٥.", "१९४५ में", "1945年に"], ["11945"]),
    ("nothing but marks", "\u00ad", [], ["", "a"]),
    ("digits", "CO2", ["CO₂ rises", "ＣＯ２"], ["CO23"]),
]


@pytest.mark.parametrize(("language", "answer", "right", "wrong"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_an_accepted_answer_is_found_as_it_is_written(language: str, answer: str, right: list[str], wrong: list[str]) -> None:
    for text in right:
        assert contains(text, ["nothing", answer]), text
        assert contains(text, [unicodedata.normalize("NFD", answer)]), text
    for text in wrong:
        assert not contains(text, [answer]), text


@pytest.mark.parametrize(
    "of",
    [
        ["這是蜂蜜。", "他說：「好吃！」", "是嗎？"],
        ["それはハチミツです。", "本当ですか？", "はい！"],
        ["यह शहद है।", "क्या यह मीठा है?", "हाँ।"],
        ["هذا عسل.", "هل هو حلو؟", "نعم!"],
        ["นี่คือน้ำผึ้ง", "มันหวาน"],
        ["នេះជាទឹកឃ្មុំ។", "វាផ្អែម។"],
        ["ဒါဟာပျားရည်ပါ။", "ချိုတယ်။"],
        ["Սա մեղր է։", "Այո։"],
        ["ይህ ማር ነው።", "አዎ።"],
        ["이것은 꿀입니다.", "정말요?"],
        ["It is honey.", "Is it?", "Yes!"],
    ],
)
def test_sentences_end_where_their_script_ends_them(of: list[str]) -> None:
    assert sentences(joined(of)) == of
    assert all(map(whole, of))
    assert not whole("這是蜂")
    assert not whole("It is")


def test_what_is_over() -> None:
    for text in ("It is.", 'He said "yes."', "是的。", "「是的。」", "क्या।", "نعم؟ "):
        assert OVER.search(text), text
    for text in ("It is", "1.", "是的", "是的。還"):
        assert not OVER.search(text), text


def test_words_of_scripts_without_spaces_are_their_characters() -> None:
    assert words("這是 honey's 蜂蜜") == ["這", "是", "honey's", "蜂", "蜜"]
    assert words("हिन्दी में") == ["हिन्दी", "में"], "vowel signs are part of a word"
    assert words("น้ำผึ้ง")[0] == "น้ำ"[:2]
    assert stems("피라미드에서는") == ["피라미드에서는", "피라미드에서", "피라미드"]
    assert stems("고양이를") == ["고양이를", "고양이", "고양"]
    assert stems("pyramids") == ["pyramids"]


ENGLISH = "The \"Book of the Dead\" isn't one book. It's Ra's! E=mc² – well-known, “isn’t it?” Café Ōta… x_1 -- 3.5? No.\nEnd"


def test_english_is_cut_as_ever() -> None:
    assert words(ENGLISH) == re.findall(r"[\w’'-]*\w", ENGLISH)
    assert spaced(ENGLISH) == ENGLISH
    assert sentences(ENGLISH) == re.split(r"(?<=[.!?])\s+", ENGLISH)
    assert joined(sentences(ENGLISH)) == " ".join(re.split(r"(?<=[.!?])\s+", ENGLISH))
