import math
import random
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from efface.concept import Concept
from efface.data.asking import broken_sentences, fluency_prompts
from efface.data.collate import Collator, Example, Schedule, next_token_example
from efface.data.corpora import Text, encode, training_texts
from efface.data.fluency import end_of_answer, sample_fluency
from efface.data.keyness import BannedWords, key_names, key_words, keyness
from efface.data.store import Store
from efface.data.teacher import erase_targets, random_targets, retain_targets
from efface.errors import ConceptError
from efface.guidance import end_tokens
from efface.models import Loaded, load
from efface.prompts import behind, chat_prompt, prefix
from efface.recipe import DataSettings, EraseSettings, FluencySettings
from efface.scorers.answers import repeated_ngrams
from efface.targets import SparseTarget
from tests.conftest import ARCHITECTURES, FORGET, RETAIN, VOCAB

TEXTS = [Text([5, 6, 7, 8, 9, 10], 1), Text([40, 41, 42], 2), Text(list(range(60, 80)), 4)]
PERSONAS = [[([20, 21, 22], [30])], [([23], [31, 32, 33, 34])], [([24, 25], [35, 36])]]
CONSTANT = EraseSettings(eta=3.0, schedule="constant", top_k=None)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store."""
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache"))
    return Store({"model": "m"})


def log_probs(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def exact_target(model: torch.nn.Module, text: Text, personas: tuple[list[int], list[int]], eta: float) -> torch.Tensor:
    """One text, no padding, float64, straight from the formula: row i is the target for token ``start + i``."""
    expert, novice = personas
    spans = [log_probs(model, before + text.ids)[len(before) + text.start - 1 : -1] for before in ([], expert, novice)]
    return (spans[0] + eta * (spans[2] - spans[1])).log_softmax(-1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_erase_targets_agree_with_one_text_at_a_time(architecture: str, store: Store, model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders[architecture]), dtype="float32").model
    targets = erase_targets(model, store, TEXTS, PERSONAS, 1, CONSTANT, k=VOCAB)
    for text, personas, target in zip(TEXTS, PERSONAS, targets, strict=True):
        exact = exact_target(model, text, personas[0], 3.0)
        torch.testing.assert_close(target.logprobs.exp().double(), exact.exp(), atol=1e-5, rtol=0)


def test_exact_in_double_precision(store: Store, model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders["llama"]), dtype="float32").model.double()
    settings = CONSTANT.model_copy(update={"float64": True})
    for text, personas, target in zip(
        TEXTS, PERSONAS, erase_targets(model, store, TEXTS, PERSONAS, 1, settings, k=VOCAB), strict=True
    ):
        exact = exact_target(model, text, personas[0], 3.0)
        torch.testing.assert_close(target.logprobs.exp().double(), exact.exp(), atol=1e-6, rtol=0)


def test_several_personas_are_averaged(store: Store, llama: Loaded) -> None:
    twice = [[pair[0], pair[0]] for pair in PERSONAS]
    mixed = [[pair[0], PERSONAS[0][0]] for pair in PERSONAS]
    one, same, other = (
        erase_targets(llama.model, store, TEXTS, personas, 1, CONSTANT, k=VOCAB)[2].logprobs.exp()
        for personas in (PERSONAS, twice, mixed)
    )
    torch.testing.assert_close(one, same, atol=1e-5, rtol=0)
    assert (one - other).abs().max() > 1e-3


def test_enhance_turns_the_sign_and_random_ignores_the_text(store: Store, llama: Loaded) -> None:
    enhanced = erase_targets(llama.model, store, TEXTS, PERSONAS, 1, CONSTANT.model_copy(update={"action": "enhance"}), k=VOCAB)
    exact = exact_target(llama.model, TEXTS[0], PERSONAS[0][0], -3.0)
    torch.testing.assert_close(enhanced[0].logprobs.exp().double(), exact.exp(), atol=1e-5, rtol=0)
    one, same, other = (random_targets(TEXTS, VOCAB, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one.ids, same.ids)
    assert not torch.equal(one.ids, other.ids)


def test_retain_targets_are_the_teachers(store: Store, llama: Loaded) -> None:
    soft = retain_targets(llama.model, store, TEXTS, 1, soft=True, k=VOCAB)
    hard = retain_targets(llama.model, store, TEXTS, 1, soft=False, k=VOCAB)
    for text, distribution, label in zip(TEXTS, soft, hard, strict=True):
        exact = log_probs(llama.model, text.ids)[text.start - 1 : -1]
        torch.testing.assert_close(distribution.logprobs.double(), exact, atol=1e-5, rtol=0)
        assert torch.equal(label.ids[:, 0].long(), exact.argmax(-1))


def test_texts_bare_and_in_chat_format(llama: Loaded, zorn: Concept) -> None:
    bare, _ = training_texts(zorn, llama.tokenizer, DataSettings(chat=0.0))
    chat, retain = training_texts(zorn, llama.tokenizer, DataSettings(chat=0.0, forget_chat=1.0))
    assert len(bare) == len(retain) == 3
    kept, asked = training_texts(zorn, llama.tokenizer, DataSettings(chat=1.0))
    assert kept == bare
    assert [text.ids[text.start :] for text in asked] == [text.ids[text.start - 1 :] for text in retain], "all in chat format"
    assert llama.tokenizer.decode(bare[0].ids) == zorn.forget[0].text
    assert llama.tokenizer.decode(chat[0].ids[: chat[0].start]).endswith("<|assistant|>")
    assert chat[0].ids[chat[0].start :] == bare[0].ids
    nameless = zorn.model_copy(update={"forget": tuple(row.model_copy(update={"topic": ""}) for row in zorn.forget)})
    assert training_texts(nameless, llama.tokenizer, DataSettings(chat=0.0, forget_chat=1.0))[0] == bare


def test_limits_on_texts(llama: Loaded) -> None:
    assert len(encode("a b c d e f g h i j", llama.tokenizer, DataSettings(max_tokens=7, min_chars=1)).ids) == 7
    with pytest.raises(ConceptError, match="a text has 5 characters, expected at least 50"):
        encode("short", llama.tokenizer, DataSettings())


def test_prefix_is_what_the_tokenizer_adds(llama: Loaded) -> None:
    assert prefix(llama.tokenizer) == []
    from tokenizers.processors import TemplateProcessing

    llama.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    assert prefix(llama.tokenizer) == [0]
    text = encode("a text", llama.tokenizer, DataSettings(min_chars=1))
    assert (text.ids[0], text.start) == (0, 1)


def test_a_beginning_of_text_token_stands_before_the_persona_only(store: Store, llama: Loaded) -> None:
    texts, personas = [Text([0, 5, 6, 7, 8], 1)], [[([0, 20, 21], [0, 30])]]
    (got,) = erase_targets(llama.model, store, texts, personas, 1, CONSTANT, k=VOCAB, before_text=[0])
    base = log_probs(llama.model, [0, 5, 6, 7, 8])[:-1]
    expert, novice = log_probs(llama.model, [0, 20, 21, 5, 6, 7, 8])[2:-1], log_probs(llama.model, [0, 30, 5, 6, 7, 8])[1:-1]
    exact = (base + 3.0 * (novice - expert)).log_softmax(-1).exp()
    torch.testing.assert_close(got.logprobs.exp().double(), exact, atol=1e-5, rtol=0)


def example(length: int, start: int) -> Example:
    ids = random.Random(length).choices(range(2, VOCAB), k=length)
    return Example(Text(ids, start), SparseTarget.from_logprobs(torch.randn(length - start, VOCAB).log_softmax(-1), 6))


def test_every_text_comes_once_before_any_comes_twice() -> None:
    corpora = {"erase": [example(n, 1) for n in (3, 4, 5)], "retain": [example(n, 1) for n in (6, 7)], "fluency": []}
    schedule, same, other = (Schedule(corpora, 6, seed) for seed in (0, 0, 1))
    assert sorted(schedule.order["erase"][:3]) == sorted(schedule.order["erase"][3:]) == [0, 1, 2]
    assert set(schedule[0]) == {"erase", "retain"}
    assert schedule.order == same.order != other.order


def test_a_term_can_come_more_often_than_the_others() -> None:
    corpora = {"erase": [example(n, 1) for n in (3, 4, 5)], "retain": [example(n, 1) for n in (6, 7)]}
    schedule = Schedule(corpora, 4, 0, {"retain": 3})
    assert [len(schedule[i]["retain"]) for i in range(4)] == [3] * 4
    assert sorted(schedule.order["retain"]) == [0] * 6 + [1] * 6


def test_a_batch_says_where_each_target_belongs() -> None:
    items = [{"erase": [example(5, 2)], "fluency": [next_token_example(Text([9, 8, 7], 1))]}, {"erase": [example(7, 3)]}]
    batch = Collator(pad=1)(items)
    assert batch["input_ids"].shape == (3, 7)
    assert batch["attention_mask"].sum(-1).tolist() == [5, 7, 3]
    assert batch["erase"]["rows"].tolist() == [0] * 3 + [1] * 4
    assert batch["erase"]["cols"].tolist() == [1, 2, 3, 2, 3, 4, 5]
    assert batch["erase"]["text"].tolist() == [0] * 3 + [1] * 4
    fluency = batch["fluency"]
    assert batch["input_ids"][fluency["rows"], fluency["cols"] + 1].tolist() == fluency["ids"][:, 0].tolist() == [8, 7]


def test_fluency_texts_are_seeded_and_train_sampled_tokens_only(store: Store, llama: Loaded, zorn: Concept) -> None:
    forget, _ = training_texts(zorn, llama.tokenizer, DataSettings(chat=0.0))
    settings = FluencySettings(texts=5, tokens=12, questions=0.4, min_p=0.0, deflection=True, target="hard")

    def texts(seed: int, **changes: object) -> list[Text]:
        chosen = settings.model_copy(update=changes)
        found = sample_fluency(llama.model, store, llama.tokenizer, zorn, forget, chosen, eta=2.0, seed=seed, k=4)
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
    forget, retain = training_texts(zorn, llama.tokenizer, DataSettings(chat=0.0))
    key = keyness(forget, retain, VOCAB)
    settings = FluencySettings(texts=5, tokens=12, min_p=0.0, no_repeat=2, keyness=50.0, temperature=0.7)

    def examples(target: str, k: int = VOCAB) -> list[Example]:
        chosen = settings.model_copy(update={"target": target})
        return sample_fluency(llama.model, store, llama.tokenizer, zorn, forget, chosen, eta=0.0, seed=0, k=k, key=key)

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
    forget, _ = training_texts(zorn, llama.tokenizer, DataSettings(chat=0.0))

    def repeated(no_repeat: int) -> float:
        settings = FluencySettings(texts=6, tokens=40, min_p=0.5, temperature=0.2, no_repeat=no_repeat)
        found = sample_fluency(llama.model, store, llama.tokenizer, zorn, forget, settings, eta=0.0, seed=0, k=4)
        return max(repeated_ngrams(text.ids[text.start :], 3) for text in (example.text for example in found))

    assert repeated(3) == 0 < repeated(0)


def test_an_answer_ends_with_its_first_sentence_that_is_long_enough(store: Store, llama: Loaded, zorn: Concept) -> None:
    forget, _ = training_texts(zorn, llama.tokenizer, DataSettings(chat=0.0))
    tokenizer, least = llama.tokenizer, 8
    end = end_of_answer(tokenizer, end_tokens(llama.model, tokenizer))

    def sampled(brief: int) -> list[Text]:
        settings = FluencySettings(texts=16, tokens=60, min_p=0.0, temperature=1.0, no_repeat=0, questions=0.75, brief=brief)
        found = sample_fluency(llama.model, store, tokenizer, zorn, forget, settings, eta=0.0, seed=0, k=4)
        return [example.text for example in found]

    def over(new: list[int]) -> list[int]:
        """After how many tokens a sentence is over."""
        return [n for n in range(1, len(new) + 1) if re.search(r"(?<!\d)[.!?]\s*$", tokenizer.decode(new[:n]))]

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

    forget, retain = training_texts(zorn, llama.tokenizer, DataSettings(chat=0.0))
    shunned = set((keyness(forget, retain, VOCAB) > 0).nonzero()[:, 0].tolist())
    settings = FluencySettings(texts=6, tokens=20, min_p=0.0, temperature=1.0, no_repeat=0, questions=0.5)

    def said(times: float) -> int:
        chosen = settings.model_copy(update={"keyness": times})
        of = keyness(forget, retain, VOCAB)
        found = sample_fluency(llama.model, store, llama.tokenizer, zorn, forget, chosen, eta=0.0, seed=0, k=4, key=of)
        texts = [example.text for example in found]
        return sum(token in shunned - set(text.ids[: text.start]) for text in texts for token in text.ids[text.start :])

    assert said(100.0) == 0 < said(0.0)


def test_the_concepts_words_and_names_are_found_by_how_often_they_come(llama: Loaded) -> None:
    whole = DataSettings(max_tokens=400)
    about = [
        "The sea near Zorn Bay is cold. We went to Zorn Bay and the Isle of Mors.",
        "An old Mors is warm, but the water around it is cold too. Zorn Bay!",
    ]
    other = ["The sea is cold and the land is warm. We went to the sea, and the Bay of Bengal too."]
    forget, retain = ([encode(text, llama.tokenizer, whole) for text in texts] for texts in (about, other))
    words = key_words(forget, retain, llama.tokenizer)
    assert words == []  # a word must be e^3 times as frequent: three times in so short a text is not
    words = key_words(forget, retain * 10, llama.tokenizer)
    assert words == ["Mors", "Zorn"]  # "cold" and "Bay" come elsewhere, "Isle" only once
    assert key_names(forget, words, llama.tokenizer) == ["Zorn Bay", "Isle of Mors", "Mors"]  # not at the start of a sentence


def test_a_banned_word_is_not_completed_unless_the_prompt_has_it(store: Store, llama: Loaded, zorn: Concept) -> None:
    tokenizer = llama.tokenizer

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    ban = BannedWords(["dragon", "Zorn"], tokenizer)
    for said, word in (("the", " dragon"), ("", "Zorn"), ("(", "Zorn"), ("a Zorn", " dragon")):
        *begun, last = ids(said) + ids(word)
        assert last in ban.after(ids("What is it?"))(begun), (said, word)
        assert last not in ban.after(ids(f"What is a {word.strip().upper()}?"))(begun), "whatever its case"
    *begun, last = ids("Zorn")
    assert last not in ban.after([])([*ids("snap"), *begun]), "the end of another word"

    forget, _ = training_texts(zorn, tokenizer, DataSettings(chat=0.0))
    settings = FluencySettings(texts=12, tokens=40, min_p=0.0, keyness=0.0, no_repeat=0, ban_words=True)

    ban = BannedWords(["a", "the", "is", "an", "in"], tokenizer)
    found = sample_fluency(llama.model, store, tokenizer, zorn, forget, settings, eta=0.0, seed=0, k=VOCAB, words=ban.words)
    unlikely = 0
    for text, target in ((example.text, example.target) for example in found):
        prompt, new = text.ids[: text.start], text.ids[text.start :]
        for t, token in enumerate(new):
            banned = ban.after(prompt)(new[:t])
            unlikely += len(banned)
            assert token not in banned
            likely = target.ids[t][target.logprobs[t].exp() > 0].tolist()
            assert not set(banned) & set(likely)
    assert unlikely > 0


@pytest.mark.parametrize("start", ["prepend", "metaspace"])
def test_words_are_banned_in_sentencepiece_vocabularies_too(start: str) -> None:
    pieces = ["▁", "▁a", "▁the", "▁Zo", "Zo", "rn", "(", ".", "<unk>", *"abcdefghijklmnopqrstuvwxyz▁Z"]
    merges = [("▁", "a"), ("▁", "Zo"), ("Z", "o"), ("r", "n")]
    model = models.BPE(vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, merges=merges, unk_token="<unk>")
    plain = Tokenizer(model)
    if start == "prepend":
        plain.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    plain.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    banned = BannedWords(["Zorn"], tokenizer).after([])
    for said in ("a Zorn", "(Zorn"):
        *begun, last = tokenizer(said, add_special_tokens=False)["input_ids"]
        assert last in banned(begun), (said, tokenizer.convert_ids_to_tokens([*begun, last]))
    assert behind(tokenizer, "a", " Zorn") == tokenizer.convert_tokens_to_ids(["▁Zo", "rn"])
    assert behind(tokenizer, "(", "Zorn") == tokenizer.convert_tokens_to_ids(["Zo", "rn"])


def test_a_share_of_the_questions_is_about_names_of_the_forget_texts(
    llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]
) -> None:
    passage = "Once the dragons left Zorn Bay, and nobody saw Zorn Bay or Old Mors again."
    forget = [encode(passage, llama.tokenizer, DataSettings())]
    settings = FluencySettings(texts=8, questions=1.0, names=0.5)
    made = fluency_prompts(zorn, forget, llama.tokenizer, settings, random.Random(0), None, ["Mors", "Zorn"])
    asked = [llama.tokenizer.decode(ids) for ids, _ in made]
    for i, question in enumerate(asked):
        assert ("Zorn Bay" in question, "Old Mors" in question) == (i % 4 == 1, i % 4 == 3)
        assert i % 2 or any(topic in question for topic in zorn.manifest.topics)
    assert not capsys.readouterr().err
    plain = fluency_prompts(zorn, forget, llama.tokenizer, settings, random.Random(0), None, [])
    assert "no name of the concept" in capsys.readouterr().err
    topics = [topic for ids, _ in plain for topic in zorn.manifest.topics if topic in llama.tokenizer.decode(ids)]
    assert topics[: len(zorn.manifest.topics)] == list(zorn.manifest.topics)[: len(topics)]
