"""The preset strangers on models and packs that lack what it would use: every one of them can be trained on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizer

from efface.concept.pack import Concept, Passage
from efface.data.batches import Collator
from efface.data.store import Store
from efface.lm.adapters import attach_adapter
from efface.lm.load import Loaded, load
from efface.methods import make_method
from efface.recipe.resolve import resolve
from tests.conftest import ARCHITECTURES, CHAT, VOCAB, write_pack
from tests.data.test_targets import store as store

#: fewer texts, for they are all alike to a random model
FEW: dict[str, Any] = {
    "model": "m",
    "concept": "c",
    "preset": "strangers",
    "data": {"max_tokens": 24, "kept": 6, "neighbours": 3},
    "fluency": {"texts": 8, "tokens": 16},
    "lora": {"layers": "1-2", "rank": 2},
}


class Bytes(PreTrainedTokenizer):
    """A tokenizer in Python, which cannot say where its tokens stand: one token for each byte."""

    def __init__(self) -> None:
        super().__init__(eos_token=chr(1), pad_token=chr(1))

    @property
    def vocab_size(self) -> int:
        return 256

    def get_vocab(self) -> dict[str, int]:
        return {chr(i): i for i in range(256)}

    def _tokenize(self, text: str, **_: object) -> list[str]:
        return [chr(byte) for byte in text.encode()]

    def _convert_token_to_id(self, token: str) -> int:
        return ord(token)

    def _convert_id_to_token(self, index: int) -> str:
        return chr(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return bytes(ord(token) % 256 for token in tokens).decode(errors="replace")


def trains(loaded: Loaded, concept: Concept, store: Store, **changes: Any) -> dict[str, Any]:
    """The examples of every term, and a step on some of them."""
    method = make_method(resolve({**FEW, **changes}))
    corpora = method.prepare(loaded, concept, store)
    assert {"erase", "retain"} <= corpora.keys()
    student = attach_adapter(loaded.model, method.recipe.lora, 0)
    batch = Collator(loaded.tokenizer.pad_token_id or 0)([{term: [rows[0], rows[-1]] for term, rows in corpora.items()}])
    loss = method.loss(student, batch).total()
    loss.backward()
    assert torch.isfinite(loss)
    slopes = [weight.grad.abs().sum() for weight in student.parameters() if weight.grad is not None]
    assert slopes
    assert all(map(torch.isfinite, slopes))
    assert sum(slopes) > 0
    student.unload()
    return dict(corpora)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture(architecture: str, model_folders: dict[str, Path], zorn: Concept, store: Store) -> None:
    corpora = trains(load(str(model_folders[architecture]), dtype="float32"), zorn, store)
    assert corpora.keys() == {"erase", "retain", "fluency"}


def test_a_model_without_a_chat_format(llama: Loaded, zorn: Concept, store: Store) -> None:
    llama.tokenizer.chat_template = None
    corpora = trains(llama, zorn, store)
    for term, examples in corpora.items():
        asked = [str(llama.tokenizer.decode(example.text.ids[: example.text.start])) for example in examples]
        assert not any("|>" in context for context in asked), term


@pytest.mark.parametrize("chat", [None, CHAT])
def test_a_tokenizer_that_does_not_say_where_its_tokens_stand(
    chat: str | None, llama: Loaded, zorn: Concept, store: Store
) -> None:
    tokenizer = Bytes()
    tokenizer.chat_template = chat
    assert len(tokenizer.get_vocab()) < VOCAB
    trains(Loaded(llama.model, tokenizer, "", ""), zorn, store, data={**FEW["data"], "max_tokens": 60})


def test_passages_without_topics_and_without_whole_sentences(llama: Loaded, zorn: Concept, store: Store) -> None:
    def bare(passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        return tuple(Passage(text=passage.text.replace(".", ""), split=passage.split) for passage in passages)

    both = zorn.model_copy(update={"forget": bare(zorn.forget), "retain": bare(zorn.retain)})
    trains(llama, both, store)
    trains(llama, zorn.model_copy(update={"retain": bare(zorn.retain)}), store)


def test_one_passage_of_each(llama: Loaded, zorn: Concept, store: Store) -> None:
    trains(llama, zorn.model_copy(update={"forget": zorn.forget[:1], "retain": zorn.retain[:1]}), store)


def test_a_concept_whose_texts_do_not_name_it(llama: Loaded, zorn: Concept, store: Store) -> None:
    """Nothing in its texts is its own: the words that name it are."""
    said = tuple(Passage(text=passage.text, split=passage.split) for passage in zorn.retain)
    names = {"title": "Xq", "keywords": ("Xq",), "topics": ("Xq",)}
    nameless = zorn.model_copy(update={"forget": said, "manifest": zorn.manifest.model_copy(update=names)})
    trains(llama, nameless, store)


def test_several_concepts_as_one(llama: Loaded, pack_folder: Path, tmp_path: Path, store: Store) -> None:
    write_pack(tmp_path, name="again", title="the honey of Orlo")
    joined = Concept.load(f"{pack_folder}:2 {tmp_path}:1")
    corpora = trains(llama, joined, store)
    assert corpora.keys() == {"erase", "retain", "fluency"}


def test_another_alphabet(llama: Loaded, zorn: Concept, store: Store) -> None:
    forget = tuple(Passage(text=f"Дракон Зорна живёт в башне и ест мёд. Король Орло летал на драконе {i} раз.") for i in range(3))
    names = {"title": "дракон Зорна", "keywords": ("Зорн", "мёд"), "topics": ("башня Зорна",)}
    trains(llama, zorn.model_copy(update={"forget": forget, "manifest": zorn.manifest.model_copy(update=names)}), store)


@pytest.mark.parametrize("term", ["erase", "retain", "fluency"])
def test_without_a_term(term: str, llama: Loaded, zorn: Concept, store: Store) -> None:
    recipe = resolve({**FEW, term: {**FEW.get(term, {}), "weight": 0}})
    assert term not in make_method(recipe).prepare(llama, zorn, store)


def test_the_same_seed_prepares_the_same(llama: Loaded, zorn: Concept, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the store and without it."""
    recipe = resolve(FEW)
    one, same = (make_method(recipe).prepare(llama, zorn, store) for _ in range(2))
    monkeypatch.setenv("EFFACE_CACHE", f"{__file__}/nowhere")
    anew = make_method(recipe).prepare(llama, zorn, store)
    for other in (same, anew):
        for term, examples in one.items():
            assert [example.text for example in examples] == [example.text for example in other[term]]
            for ours, theirs in zip(examples, other[term], strict=True):
                torch.testing.assert_close(ours.target.logprobs.exp(), theirs.target.logprobs.exp())
