"""Strangers: invented words, texts in pieces, and which tokens a text shares with the same text about a stranger."""

import random
import re
from itertools import pairwise

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from efface.data.strangers import Exchange, Inventor, Piece, holds, pair, pieces, spelled
from efface.writing import WORD
from tests.conftest import FORGET, RETAIN

WORDS = {"Zorn", "dragon", "Orlo"}
TEXTS = (
    *FORGET,
    "Zorn",
    "Zorn's dragon, Orlo’s Zorn.",
    "A Zorn-born child and the half-dragon Orlo met (Orlo won): 'Zorn!' — \"dragon\"",
    " the dragon of Zorn\nand a new line of Zorn ",
    "dragonDragon dragons stay as they are, so does zorn",
    "Zwölf Jahre später kam Orlo zurück; Zorn schlief.",
)


class SlowTokenizer(PreTrainedTokenizer):
    """One that cannot say where its tokens stand: at most three letters each, a word's first with what marks its beginning."""

    def __init__(self) -> None:
        self.known = ["<pad>"]
        super().__init__(pad_token="<pad>")

    @property
    def vocab_size(self) -> int:
        return 5000

    def get_vocab(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.known)}

    def _tokenize(self, text: str, **_: object) -> list[str]:
        return re.findall(r"▁?[^▁]{1,3}|▁", f"▁{text}".replace(" ", "▁"))

    def _convert_token_to_id(self, token: str) -> int:
        if token not in self.known:
            self.known.append(token)
        return self.known.index(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.known[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).replace("▁", " ").removeprefix(" ")


@pytest.fixture(params=["byte-level", "sentencepiece", "slow"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    if request.param == "slow":
        return SlowTokenizer()
    if request.param == "byte-level":
        plain = Tokenizer(models.BPE())
        plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        plain = Tokenizer(models.BPE(unk_token="<unk>"))
        plain.pre_tokenizer, plain.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"])
    plain.train_from_iterator([*FORGET, *RETAIN], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=plain)


@pytest.fixture(scope="module")
def inventor() -> Inventor:
    return Inventor(FORGET, RETAIN)


def test_an_invented_word_is_none_of_the_texts(inventor: Inventor) -> None:
    rng = random.Random(0)
    known = {part.lower() for text in (*FORGET, *RETAIN) for part in re.findall(r"\w+", text)}
    for word in [*sorted(known), "Tutankhamun", "Ra", "sun-king"]:
        for _ in range(20):
            made = inventor.invent(word, rng)
            assert made.lower() not in known
            assert made.lower() != word.lower()
            assert WORD.fullmatch(made), "one word, so that it can be exchanged back"


def test_a_word_that_texts_have_only_with_an_ending_is_theirs_too() -> None:
    """From these texts only "abab…" can be made."""
    inventor = Inventor(["abab's abababa-ababab"], [])
    for seed in range(20):
        assert inventor.invent("abab", random.Random(seed)).lower() not in {"abab", "abab's", "abababa", "ababab"}


def test_an_invented_word_has_the_shape_of_its_model(inventor: Inventor) -> None:
    rng = random.Random(1)
    for _ in range(50):
        assert inventor.invent("Tutankhamun", rng).istitle()
        assert inventor.invent("dragon", rng).islower()
        assert inventor.invent("NASA", rng).isupper()
    many = Inventor([" ".join(f"{first}{second}{first}ing {first}{second}a" for first in "bdfgkl" for second in "aeiou")], [])
    assert all(many.invent("mummifying", rng).endswith("ing") for _ in range(20)), "an ending that many words have"
    assert {len(many.invent("abcdefgh", rng)) for _ in range(20)} == {8}
    greek = Inventor(["το μικρό σπίτι στο λιβάδι", "the small house"], [])
    assert all("α" <= char <= "ώ" for char in greek.invent("Ζορν", rng).lower())
    assert set(inventor.invent("Ζορν", rng).lower()) <= set("ζορν"), "a script that no text has"


def test_invented_words_are_seeded(inventor: Inventor) -> None:
    one, same, other = ([inventor.invent("Zorn", rng) for _ in range(9)] for rng in map(random.Random, (0, 0, 1)))
    assert one == same != other
    assert len(set(one)) > 3


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text(text: str) -> None:
    found = pieces(text, WORDS)
    assert "".join(piece.text for piece in found) == text
    assert all(piece.text for piece in found)
    assert {piece.text for piece in found if piece.word} <= WORDS
    for piece in found:
        if not piece.word:
            assert not re.search(r"\b(Zorn|dragon|Orlo)\b", piece.text)
            assert not holds(piece.text, WORDS)


def test_what_a_word_of_the_concept_is() -> None:
    assert [piece.text for piece in pieces("Zorn's egg, Orlo’s egg, the dragons' egg", WORDS | {"dragons"}) if piece.word] == [
        "Zorn",
        "Orlo",
        "dragons",
    ]
    assert [piece.text for piece in pieces("half-dragon Zorn-born Zorn-dragon", WORDS) if piece.word] == [
        "dragon",
        "Zorn",
        "Zorn",
        "dragon",
    ]
    assert [piece.text for piece in pieces("a Sun-King's king", {"Sun-King"}) if piece.word] == ["Sun-King"]
    assert not holds("Zornian snapdragon", WORDS)
    assert holds("Dragon", WORDS), "at the start of a sentence"
    assert not holds("set", {"Set"}), "a name is no ordinary word"
    assert holds("ZORN'S LAND", {"Zorn"}), "in capitals it is one"
    assert not holds("Dart", {"DART"})


def test_exchanged_alike_or_each_time_anew(inventor: Inventor) -> None:
    text = "Zorn met Orlo. Zorn's dragon saw Zorn and a Dragon."
    alike = Exchange(WORDS, inventor, random.Random(0), alike=True)
    made = alike(text)
    assert "".join(made) == alike.text(text), "every time the same"
    words = [new for new, piece in zip(made, pieces(text, WORDS), strict=True) if piece.word]
    assert words[0] == words[2] == words[4]
    assert words[3].capitalize() == words[5]
    assert len({word.lower() for word in words}) == 3
    assert [new for new, piece in zip(made, pieces(text, WORDS), strict=True) if not piece.word] == [
        piece.text for piece in pieces(text, WORDS) if not piece.word
    ]
    anew = Exchange(WORDS, inventor, random.Random(0), alike=False)(" ".join(["Zorn"] * 20))
    assert len(set(anew)) > 10


def letters_of_words(whole: list[Piece], texts: list[str]) -> set[int]:
    """Where letters of the words stand in a text that has ``texts`` in the place of the pieces."""
    found, at = set[int](), 0
    for piece, text in zip(whole, texts, strict=True):
        found |= set(range(at, at + len(text))) if piece.word else set()
        at += len(text)
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_that_both_texts_share_stand_outside_the_words(
    text: str, tokenizer: PreTrainedTokenizerBase, inventor: Inventor
) -> None:
    whole = pieces(text, WORDS)
    swapped = Exchange(WORDS, inventor, random.Random(len(text)), alike=False)(text)
    paired = pair(tokenizer, whole, swapped)
    assert paired.ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert paired.strange == tokenizer("".join(swapped), add_special_tokens=False)["input_ids"]
    for places in (paired.shared, paired.first):
        for ours, theirs in pairwise(places):
            assert ours[0] < theirs[0]
            assert ours[1] < theirs[1]
    (_, spans), (_, other) = spelled(tokenizer, text), spelled(tokenizer, "".join(swapped))
    ours, theirs = (letters_of_words(whole, texts) for texts in ([piece.text for piece in whole], swapped))
    for here, there in paired.shared:
        assert paired.ids[here] == paired.strange[there]
        assert not ours & set(range(*spans[here]))
        assert not theirs & set(range(*other[there]))
    for here, there in paired.first:
        assert ours & set(range(*spans[here]))
        assert theirs & set(range(*other[there]))
    for here in paired.inner:
        assert ours & set(range(*spans[here]))
    of_words = {i for i, span in enumerate(spans) if ours & set(range(*span))}
    assert of_words == {here for here, _ in paired.first} | set(paired.inner)
    assert not {here for here, _ in paired.shared} & of_words


@pytest.mark.parametrize("text", [*RETAIN, " A text of two lines\nwithout a word of it "])
def test_a_text_without_a_word_of_the_concept_is_shared_whole(
    text: str, tokenizer: PreTrainedTokenizerBase, inventor: Inventor
) -> None:
    paired = pair(tokenizer, pieces(text, WORDS), Exchange(WORDS, inventor, random.Random(0), alike=False)(text))
    assert paired.ids == paired.strange
    assert paired.shared == tuple((i, i) for i in range(len(paired.ids)))
    assert paired.first == paired.inner == ()


@pytest.mark.parametrize("text", FORGET)
def test_most_of_what_stands_between_the_words_is_shared(
    text: str, tokenizer: PreTrainedTokenizerBase, inventor: Inventor
) -> None:
    """Only beside a word may the same letters be cut another way."""
    whole = pieces(text, WORDS)
    paired = pair(tokenizer, whole, Exchange(WORDS, inventor, random.Random(0), alike=False)(text))
    of_words = len(paired.first) + len(paired.inner)
    assert len(paired.first) == sum(piece.word for piece in whole)
    assert len(paired.ids) - of_words - len(paired.shared) <= 2 * len(paired.first)


@pytest.mark.parametrize("text", ["The dragon of Zorn", "A café — “quoted”", "two  spaces", "line\nline"])
def test_where_tokens_stand(text: str, tokenizer: PreTrainedTokenizerBase) -> None:
    ids, spans = spelled(tokenizer, text)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(spans)
    covered = {at for start, end in spans for at in range(start, end)}
    assert {at for at, char in enumerate(text) if not char.isspace()} <= covered
    for start, end in spans:
        assert end == start + 1 or not text[start].isspace(), "without the spaces before it"
