import random
from pathlib import Path

import pytest
import torch

from efface.concept.pack import Concept
from efface.data.batches import Collator, Example, Schedule, next_token_example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.targets import retain_targets
from efface.data.text import Text, encode
from efface.data.tilted_targets import Tilt, erase_targets, random_targets
from efface.errors import ConceptError
from efface.lm.chat import prefix
from efface.lm.load import Loaded, load
from efface.recipe.settings import DataSettings, EraseSettings
from efface.targets import SparseTarget
from tests.conftest import ARCHITECTURES, VOCAB

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
    targets = erase_targets(model, store, TEXTS, PERSONAS, Tilt(CONSTANT, 1, VOCAB))
    for text, personas, target in zip(TEXTS, PERSONAS, targets, strict=True):
        exact = exact_target(model, text, personas[0], 3.0)
        torch.testing.assert_close(target.logprobs.exp().double(), exact.exp(), atol=1e-5, rtol=0)


def test_exact_in_double_precision(store: Store, model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders["llama"]), dtype="float32").model.double()
    for text, personas, target in zip(
        TEXTS, PERSONAS, erase_targets(model, store, TEXTS, PERSONAS, Tilt(CONSTANT, 1, VOCAB, double=True)), strict=True
    ):
        exact = exact_target(model, text, personas[0], 3.0)
        torch.testing.assert_close(target.logprobs.exp().double(), exact.exp(), atol=1e-6, rtol=0)


def test_several_personas_are_averaged(store: Store, llama: Loaded) -> None:
    twice = [[pair[0], pair[0]] for pair in PERSONAS]
    mixed = [[pair[0], PERSONAS[0][0]] for pair in PERSONAS]
    one, same, other = (
        erase_targets(llama.model, store, TEXTS, personas, Tilt(CONSTANT, 1, VOCAB))[2].logprobs.exp()
        for personas in (PERSONAS, twice, mixed)
    )
    torch.testing.assert_close(one, same, atol=1e-5, rtol=0)
    assert (one - other).abs().max() > 1e-3


def test_enhance_turns_the_sign_and_random_ignores_the_text(store: Store, llama: Loaded) -> None:
    enhanced = erase_targets(
        llama.model, store, TEXTS, PERSONAS, Tilt(CONSTANT.model_copy(update={"action": "enhance"}), 1, VOCAB)
    )
    exact = exact_target(llama.model, TEXTS[0], PERSONAS[0][0], -3.0)
    torch.testing.assert_close(enhanced[0].logprobs.exp().double(), exact.exp(), atol=1e-5, rtol=0)
    one, same, other = (random_targets(TEXTS, VOCAB, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one.ids, same.ids)
    assert not torch.equal(one.ids, other.ids)


@pytest.mark.parametrize("k", [VOCAB, 4])
def test_retain_targets_are_the_teachers_and_their_mean_is_exact(k: int, store: Store, llama: Loaded) -> None:
    said = retain_targets(llama.model, store, TEXTS, 1, k=k)
    exact = [log_probs(llama.model, text.ids)[text.start - 1 : -1] for text in TEXTS]
    for distribution, of in zip(said.targets, exact, strict=True):
        listed = of.gather(-1, distribution.ids.long())
        torch.testing.assert_close(distribution.logprobs.double(), listed, atol=1e-5, rtol=0)
        torch.testing.assert_close(distribution.tail.double(), 1 - listed.exp().sum(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(said.mean.double(), torch.cat(exact).exp().mean(0), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("eta", [20.0, 500.0])
def test_a_tilt_is_computed_in_float32_whatever_the_weights_are(eta: float, store: Store, model_folders: dict[str, Path]) -> None:
    half, whole = (load(str(model_folders["llama"]), dtype="bfloat16").model for _ in range(2))
    before = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    tilt = Tilt(CONSTANT.model_copy(update={"eta": eta}), 1, VOCAB)
    got = erase_targets(half, store, TEXTS, PERSONAS, tilt)
    expected = [exact_target(whole.float(), text, of[0], eta).exp() for text, of in zip(TEXTS, PERSONAS, strict=True)]
    for target, exact in zip(got, expected, strict=True):
        torch.testing.assert_close(target.logprobs.double().exp(), exact, atol=1e-3, rtol=0)
    after = half.state_dict()
    assert all(torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items())


def test_texts_bare_and_in_chat_format(llama: Loaded, zorn: Concept) -> None:
    bare, _ = Corpora(zorn, DataSettings(forms=0, chat=0.0), llama.tokenizer).texts
    chat, retain = Corpora(zorn, DataSettings(forms=0, chat=0.0, forget_chat=1.0), llama.tokenizer).texts
    assert len(bare) == len(retain) == 3
    kept, asked = Corpora(zorn, DataSettings(forms=0, chat=1.0), llama.tokenizer).texts
    assert kept == bare
    assert [text.ids[text.start :] for text in asked] == [text.ids[text.start - 1 :] for text in retain], "all in chat format"
    assert llama.tokenizer.decode(bare[0].ids) == zorn.forget[0].text
    assert llama.tokenizer.decode(chat[0].ids[: chat[0].start]).endswith("<|assistant|>")
    assert chat[0].ids[chat[0].start :] == bare[0].ids
    nameless = zorn.model_copy(update={"forget": tuple(row.model_copy(update={"topic": ""}) for row in zorn.forget)})
    assert Corpora(nameless, DataSettings(forms=0, chat=0.0, forget_chat=1.0), llama.tokenizer).texts[0] == bare


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
    (got,) = erase_targets(llama.model, store, texts, personas, Tilt(CONSTANT, 1, VOCAB, (0,)))
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
