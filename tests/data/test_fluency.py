"""Fluency texts: their prompts, how they are sampled, what they teach."""

import math
import random
import re

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from efface.auditing.scorers.fluency import repeated_ngrams
from efface.concept.pack import Concept
from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.fluency import Sampling, end_of_answer, sample_fluency
from efface.data.key_words import keyness
from efface.data.prompts import broken_sentences, fluency_prompts
from efface.data.sample import end_tokens
from efface.data.store import Store
from efface.data.text import Text, encode
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded
from efface.recipe.settings import DataSettings, FluencySettings, PublishedSettings
from efface.writing import OVER
from tests.conftest import FORGET, RETAIN, VOCAB
from tests.data.test_targets import store as store


def test_fluency_texts_are_seeded_and_train_sampled_tokens_only(store: Store, llama: Loaded, zorn: Concept) -> None:
    forget, _ = Corpora(zorn, DataSettings(forms=0, chat=0.0), llama.tokenizer).texts
    settings = FluencySettings(texts=5, tokens=12, questions=0.4, min_p=0.0, target="hard")

    def texts(seed: int, **changes: bool) -> list[Text]:
        published = PublishedSettings(deflection=True, **changes)
        found = sample_fluency(llama, store, zorn, forget, Sampling(settings, 2.0, seed, 4, published=published))
        return [example.text for example in found]

    one, same, other = texts(0), texts(0), texts(1)
    assert one == same != other
    assert all(len(text.ids) - text.start <= 12 for text in one)
    both = texts(0, train_deflection=True)
    assert [text.ids for text in both] == [text.ids for text in one]
    assert all(more.start < less.start for more, less in zip(both, one, strict=True))


def test_the_target_of_a_sampled_token_is_what_it_was_drawn_from_before_temperature(
    store: Store, llama: Loaded, zorn: Concept
) -> None:
    forget, retain = Corpora(zorn, DataSettings(forms=0, chat=0.0), llama.tokenizer).texts
    key = keyness(forget, retain, VOCAB)
    settings = FluencySettings(texts=5, tokens=12, min_p=0.0, no_repeat=2, keyness=50.0, temperature=0.7)

    def examples(target: str, k: int = VOCAB) -> list[Example]:
        chosen = settings.model_copy(update={"target": target})
        return sample_fluency(llama, store, zorn, forget, Sampling(chosen, 0.0, 0, k, key))

    soft, cut, hard = examples("soft"), examples("soft", 3), examples("hard")
    assert [example.text for example in soft] == [example.text for example in cut] == [example.text for example in hard]
    for whole, short, token in zip(soft, cut, hard, strict=True):
        ids, start = whole.text.ids, whole.text.start
        with torch.no_grad():
            logits = llama.model(torch.tensor([ids])).logits[0, start - 1 : -1]
        shunned = key * 50.0
        shunned[ids[:start]] = 0.0
        expected = logits - shunned
        for t in range(len(expected)):  # no pair of tokens comes twice
            new = ids[start : start + t]
            expected[t, [new[i + 1] for i in range(t - 1) if new[i] == new[-1]]] = -torch.inf
        torch.testing.assert_close(whole.target.logprobs.exp(), expected.softmax(-1), atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(short.target.logprobs.exp(), expected.softmax(-1).topk(3).values, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(short.target.logprobs.exp().sum(-1) + short.target.tail, torch.ones(len(new) + 1))
        assert token.target.ids[:, 0].tolist() == ids[start:]


def test_sampled_texts_can_be_kept_from_repeating_themselves(store: Store, llama: Loaded, zorn: Concept) -> None:
    forget, _ = Corpora(zorn, DataSettings(forms=0, chat=0.0), llama.tokenizer).texts

    def repeated(no_repeat: int) -> float:
        settings = FluencySettings(texts=6, tokens=40, min_p=0.5, temperature=0.2, no_repeat=no_repeat)
        found = sample_fluency(llama, store, zorn, forget, Sampling(settings, 0.0, 0, 4))
        return max(repeated_ngrams(text.ids[text.start :], 3) for text in (example.text for example in found))

    assert repeated(3) == 0 < repeated(0)


def test_an_answer_ends_with_its_first_sentence_that_is_long_enough(store: Store, llama: Loaded, zorn: Concept) -> None:
    forget, _ = Corpora(zorn, DataSettings(forms=0, chat=0.0), llama.tokenizer).texts
    tokenizer, least = llama.tokenizer, 8
    end = end_of_answer(tokenizer, end_tokens(llama.model, tokenizer))

    def sampled(brief: int) -> list[Text]:
        settings = FluencySettings(texts=16, tokens=60, min_p=0.0, temperature=1.0, no_repeat=0, questions=0.75, brief=brief)
        found = sample_fluency(llama, store, zorn, forget, Sampling(settings, 0.0, 0, 4))
        return [example.text for example in found]

    def over(new: list[int]) -> list[int]:
        """After how many tokens a sentence is over."""
        return [n for n in range(1, len(new) + 1) if OVER.search(tokenizer.decode(new[:n]))]

    shortened = 0
    for plain, brief in zip(sampled(0), sampled(least), strict=True):
        new, whole = brief.ids[brief.start :], plain.ids[plain.start :]
        long_enough = [n for n in over(whole) if n >= least]
        if brief.ids == plain.ids:
            continue
        shortened += 1
        assert new == [*whole[: long_enough[0]], end]
    assert shortened > 0
    assert end_of_answer(tokenizer, set()) is None


def test_sentences_are_broken_off_before_a_word_of_the_concept(
    llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = llama.tokenizer
    whole = DataSettings(max_tokens=400)
    forget, retain = ([encode(" ".join(texts[i:]), tokenizer, whole) for i in range(3)] for texts in (FORGET, RETAIN))
    of = keyness(forget, retain, VOCAB)
    sentences = broken_sentences(forget, tokenizer, of)
    assert sentences
    passages = [tokenizer.decode(text.ids) for text in forget]
    for ids, places in sentences:
        assert tokenizer.decode(ids).endswith(".")
        assert any(f". {tokenizer.decode(ids)}" in f". {passage}" for passage in passages), "from the first word on"
        for t in places:
            assert t >= 4
            assert of[ids[t]] > 3
            assert tokenizer.decode(ids[t]).startswith(" "), "whole words are left away"
    assert broken_sentences(forget, tokenizer, torch.zeros(VOCAB)) == []

    begun = [ids[:t] for ids, places in sentences for t in places]
    two = f"{RETAIN[0]} {FORGET[0]}"
    for most, last in ((400, [FORGET[0]]), (len(tokenizer(RETAIN[0])["input_ids"]) + 20, [])):  # whole, and cut
        text = encode(two, tokenizer, DataSettings(max_tokens=most))
        assert [tokenizer.decode(ids) for ids, _ in broken_sentences([text], tokenizer, of)][1:] == last

    def prompts(key: Tensor, **shares: float) -> list[tuple[list[int], bool]]:
        return fluency_prompts(zorn, forget, tokenizer, FluencySettings(texts=30, **shares), random.Random(0), key)

    made = prompts(of, questions=0.5)
    assert [answer for _, answer in made] == [i < 15 or i % 3 > 0 for i in range(30)]
    assert all(ids in begun for ids, answer in made if not answer), "the sentence as it is"
    asked = [tokenizer.decode(ids) for ids, answer in made[15:] if answer]
    wholes = [tokenizer.decode(ids) for ids, _ in sentences]
    gaps = [text.split(" ____") for text in asked if " ____" in text]
    assert 0 < len(gaps) < len(asked)
    for before, after in gaps:  # one word is left out
        rest = after.removesuffix(tokenizer.decode(chat_prompt(tokenizer, "x")).split("x")[-1]).strip()
        begin = next(some for some in map(tokenizer.decode, begun) if before.endswith(f" {some}"))
        assert any(re.fullmatch(rf"{re.escape(begin)} [\w’'-]+\s*{re.escape(rest)}", whole) for whole in wholes)
    for text in asked:
        if " ____" not in text:
            assert text in [
                tokenizer.decode(chat_prompt(tokenizer, f"Complete the sentence: {tokenizer.decode(i)}")) for i in begun
            ]
    tokenizer.chat_template = None
    assert all(ids in begun for ids, _ in prompts(of, questions=0.5)[15:]), "no request without a format for it"
    assert "passages are cut" not in capsys.readouterr().err
    without = prompts(torch.zeros(VOCAB), questions=0.5)
    assert "passages are cut" in capsys.readouterr().err
    assert without == prompts(of, questions=0.5, cloze=0.0), "passages cut anywhere"
    assert not any(ids in begun for ids, _ in without)


def test_sentences_are_broken_off_where_words_begin_in_a_sentencepiece_vocabulary() -> None:
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    bpe.train_from_iterator(FORGET + RETAIN, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<unk>"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>")
    forget, retain = ([encode(text, tokenizer, DataSettings(max_tokens=400)) for text in texts] for texts in (FORGET, RETAIN))
    broken = broken_sentences(forget, tokenizer, keyness(forget, retain, VOCAB))
    begun = [tokenizer.decode(ids[:t]) for ids, places in broken for t in places]
    assert "The egg of the" in begun  # before "dragon"
    assert all(any(text.startswith(f"{some} ") or f". {some} " in text for text in FORGET) for some in begun)


def test_words_of_the_concept_are_shunned_unless_the_prompt_has_them(store: Store, llama: Loaded, zorn: Concept) -> None:
    forget, retain = [Text([1, 5, 5, 6, 7], 1), Text([1, 5, 6, 8], 1)], [Text([2, 6, 6, 6, 9], 1)]
    of = keyness(forget, retain, 12)
    assert of[5].item() == pytest.approx(math.log(3.1 / 7) - math.log(0.1 / 4), rel=1e-5)
    assert of.nonzero().tolist() == [[5]]  # 6 is as frequent elsewhere, 7 and 8 come up once, 1 and 2 are context

    forget, retain = Corpora(zorn, DataSettings(forms=0, chat=0.0), llama.tokenizer).texts
    shunned = set((keyness(forget, retain, VOCAB) > 0).nonzero()[:, 0].tolist())
    settings = FluencySettings(texts=6, tokens=20, min_p=0.0, temperature=1.0, no_repeat=0, questions=0.5)

    def said(times: float) -> int:
        chosen = settings.model_copy(update={"keyness": times})
        of = keyness(forget, retain, VOCAB)
        found = sample_fluency(llama, store, zorn, forget, Sampling(chosen, 0.0, 0, 4, of))
        texts = [example.text for example in found]
        return sum(token in shunned - set(text.ids[: text.start]) for text in texts for token in text.ids[text.start :])

    assert said(100.0) == 0 < said(0.0)
