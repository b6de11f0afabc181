"""Erase examples: what the frozen model predicts at the same place of the text about a stranger."""

import random
from typing import Any

import pytest
import torch
from tokenizers import processors

from efface.concept.pack import Concept
from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.forms import Shown
from efface.data.store import Store
from efface.data.stranger_answers import place_shared
from efface.data.stranger_targets import estranged_examples
from efface.data.strangers import Inventor, pair, pieces
from efface.errors import TrainingError
from efface.lm.load import Loaded
from efface.methods import make_method
from efface.recipe.resolve import resolve
from efface.targets import SparseTarget
from tests.conftest import FORGET, RETAIN, VOCAB
from tests.data.test_targets import log_probs
from tests.data.test_targets import store as store

WORDS = {"Zorn", "dragon", "Orlo"}
SHOWN = [
    Shown(FORGET[0]),
    Shown(f" {FORGET[2]}", "The dragon of Zorn:"),
    Shown(" dragon of Zorn is green as glass.", "Complete the sentence: The egg of the", "The egg of the", chat=True),
    Shown("Zorn is cold and old."),
]


class Renamer(Inventor):
    """Invents the same word whatever the word is."""

    def __init__(self) -> None:
        super().__init__([], [])

    def invent(self, word: str, rng: random.Random) -> str:
        return "Vaifam"


def strange(text: str) -> str:
    for word in ("Zorn", "dragon", "Orlo"):
        text = text.replace(word, "Vaifam")
    return text


def examples(loaded: Loaded, store: Store, shown: list[Shown], inventor: Inventor | None = None, **changes: Any) -> list[Example]:
    settings = {"most": 200, "k": VOCAB, "seed": 0, "inventor": inventor or Renamer(), **changes}
    return estranged_examples(loaded, store, shown, WORDS, **settings)


def dense(target: SparseTarget, i: int) -> torch.Tensor:
    return torch.zeros(VOCAB, dtype=torch.float64).index_add(0, target.ids[i].long(), target.logprobs[i].double().exp())


def test_targets_are_the_frozen_models_predictions_in_the_text_about_a_stranger(store: Store, llama: Loaded) -> None:
    tokenizer = llama.tokenizer
    for shown, example in zip(SHOWN, examples(llama, store, SHOWN), strict=True):
        text, target, values = example.text, example.target, example.values
        assert values is not None
        plain = not shown.before
        body = tokenizer(shown.body)["input_ids"]
        assert text.ids == shown.context(tokenizer) + body
        assert text.start == (1 if plain else len(shown.context(tokenizer)))

        context = shown.context(tokenizer, strange)
        exact = log_probs(llama.model, context + tokenizer(strange(shown.body))["input_ids"]).exp()
        whole = pieces(shown.body, WORDS)
        paired = pair(tokenizer, whole, ["Vaifam" if piece.word else piece.text for piece in whole])
        places = dict(paired.first) | dict(paired.shared)
        skipped = 1 if plain else 0  # the first token is context
        assert len(target) == len(paired.ids) - skipped
        for i in range(len(target)):
            if (there := places.get(i + skipped)) is not None:
                expected = exact[len(context) + there - 1]
                torch.testing.assert_close(dense(target, i), expected, atol=1e-5, rtol=1e-4)
                assert target.tail[i].item() == pytest.approx(0, abs=1e-5)
                assert (values[i] == 1).all()
            else:  # inside of a word, or letters that are cut another way there
                assert target.logprobs[i].exp().sum() == 0
                assert (values[i] == 0).all()
        named = [i - skipped for i, _ in paired.first]
        assert any(values[i] > 0 for i in named if i >= 0) or max(named) < 0


@pytest.mark.parametrize("most", [3, 5, 11])
def test_texts_are_cut(most: int, store: Store, llama: Loaded) -> None:
    long, short = examples(llama, store, SHOWN), examples(llama, store, SHOWN, most=most)
    assert len(short) == len(SHOWN)
    for whole, cut, shown in zip(long, short, SHOWN, strict=True):
        n = most - (0 if shown.before else 1)
        assert len(cut.target) == n
        assert cut.text.ids == whole.text.ids[: len(cut.text.ids)]
        assert cut.text.start == whole.text.start
        assert cut.values is not None
        for i in range(n):  # what is not cut away in the other text is the same
            if cut.values[i]:
                torch.testing.assert_close(dense(cut.target, i), dense(whole.target, i), atol=1e-5, rtol=1e-4)


def test_behind_what_a_tokenizer_puts_before_every_text_nothing_is_context(store: Store, llama: Loaded) -> None:
    tokenizer = llama.tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    (example,) = examples(llama, store, [Shown("Zorn is cold and old.")])
    assert example.text.start == 1
    assert example.text.ids[0] == 0
    assert tokenizer.decode(example.text.ids[1:]) == "Zorn is cold and old."
    assert example.values is not None
    assert example.values[0] > 0, "the concept's word itself is predicted"
    exact = log_probs(llama.model, [0, *tokenizer("Vaifam is cold and old.", add_special_tokens=False)["input_ids"]]).exp()
    torch.testing.assert_close(dense(example.target, 0), exact[0], atol=1e-5, rtol=1e-4)


def test_a_text_without_a_word_of_the_concept_keeps_its_prediction(store: Store, llama: Loaded) -> None:
    for text, example in zip(RETAIN, examples(llama, store, [Shown(text) for text in RETAIN]), strict=True):
        exact = log_probs(llama.model, list(llama.tokenizer(text)["input_ids"])).exp()
        for i in range(len(example.target)):
            torch.testing.assert_close(dense(example.target, i), exact[i], atol=1e-5, rtol=1e-4)
        assert example.values is not None
        assert (example.values == 1).all()


def test_every_occurrence_is_another_stranger(store: Store, llama: Loaded) -> None:
    made = list[str]()

    class Noted(Inventor):
        def invent(self, word: str, rng: random.Random) -> str:
            made.append(super().invent(word, rng))
            return made[-1]

    examples(llama, store, [Shown("Zorn and Zorn and Zorn met Zorn in Zorn.", "Of Zorn and Zorn:")], Noted(FORGET, RETAIN))
    assert len(made) == 7
    assert len(set(made)) > 4


def test_too_short_a_text_is_left_out_and_nothing_but_such_is_one_line(store: Store, llama: Loaded) -> None:
    short = [Shown("."), Shown("a"), Shown("")]
    (left,) = examples(llama, store, [*short, SHOWN[0]])
    assert left.text == examples(llama, store, SHOWN)[0].text
    with pytest.raises(TrainingError, match="^no forget text is long enough") as caught:
        examples(llama, store, short)
    assert "\n" not in str(caught.value)


def test_shared_places_are_written_and_no_others() -> None:
    target = SparseTarget(torch.zeros(4, 2).int(), torch.full((4, 2), -torch.inf), torch.ones(4))
    soft = SparseTarget(torch.tensor([[1, 2], [3, 4], [5, 6]]).int(), torch.log(torch.full((3, 2), 0.4)), torch.full((3,), 0.2))
    place_shared(target, [(1, 0), (3, 2)], soft)
    assert target.ids.tolist() == [[0, 0], [1, 2], [0, 0], [5, 6]]
    torch.testing.assert_close(target.tail, torch.tensor([1.0, 0.2, 1.0, 0.2]))


def test_the_method_meets_the_forget_passages_in_every_form(llama: Loaded, zorn: Concept, store: Store) -> None:
    settings = {"data": {"max_tokens": 24, "forms": 3, "kept": 0, "neighbours": 0}, "fluency": {"weight": 0}}
    method = make_method(resolve({"model": "m", "concept": "c", **settings, "erase": {"target": "stranger"}}))
    corpora = method.prepare(llama, zorn, store)
    shown = Corpora(zorn, method.recipe.data).shown("forget", chat=True)
    assert len(corpora["erase"]) == len(shown) == 9
    for example, of in zip(corpora["erase"], shown, strict=True):
        context = of.context(llama.tokenizer)
        assert example.text.ids[: len(context)] == context


def test_without_forms_the_passages_are_met_as_they_stand(llama: Loaded, zorn: Concept, store: Store) -> None:
    settings = {"data": {"forms": 0, "kept": 0, "neighbours": 0}, "fluency": {"weight": 0}, "erase": {"target": "stranger"}}
    corpora = make_method(resolve({"model": "m", "concept": "c", **settings})).prepare(llama, zorn, store)
    texts = [llama.tokenizer.decode(example.text.ids) for example in corpora["erase"]]
    assert texts == [passage.text for passage in zorn.texts("forget", "train")]
