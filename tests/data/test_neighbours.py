"""Neighbours of a concept: whether the retain texts have any, and which ones the model finds and writes about."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from efface.concept.pack import Concept
from efface.data import neighbours as module
from efface.data.corpora import Corpora
from efface.data.neighbours import find_neighbours, has_neighbours, nearest, write_neighbours
from efface.data.store import Store
from efface.lm.load import Loaded
from efface.methods import make_method
from efface.recipe.resolve import resolve
from efface.recipe.settings import DataSettings
from tests.data.test_targets import store as store
from tests.test_foreign import PACK as FOREIGN


@pytest.mark.parametrize("name", ["ancient-egypt", "solar-system", "japanese-culture"])
def test_the_built_in_packs_have_neighbours(name: str) -> None:
    concept = Concept.load(name)
    assert has_neighbours(concept)
    far = [passage for passage in Concept.load(str(FOREIGN)).retain if passage.split == "train"]
    assert not has_neighbours(concept.model_copy(update={"retain": tuple(far)})), "with another pack's retain texts"


def test_a_pack_of_foreign_making_has_none() -> None:
    assert not has_neighbours(Concept.load(str(FOREIGN)))


def test_a_pack_of_a_few_passages_can_be_asked(zorn: Concept) -> None:
    assert has_neighbours(zorn) in (True, False)
    assert not has_neighbours(zorn.model_copy(update={"retain": zorn.retain[:1]}))


LISTS = (
    "1. Griffins: they have wings\n2. Unicorns (horses)\n3. The Hydra - many heads\n4. Zorn\n5. honey",
    "- Griffins\n- **Unicorns**\n- Trolls is a word\n* The Hydra, of Lerna\n- dragons",
    "Here is a list: griffins and unicorns.",
    "1) Griffins\n2) Griffins\n3) Kelpies",
)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, llama: Loaded) -> list[dict[str, Any]]:
    """The model's lists and paragraphs are those of this test, each in turn; what was asked is noted."""
    asked, turns = list[dict[str, Any]](), iter(range(10**6))

    def stubbed(_: Loaded, __: Store, prompts: list[list[int]], **how: Any) -> list[list[int]]:
        questions = [llama.tokenizer.decode(ids) for ids in prompts]
        asked.append({"questions": questions, **how})
        texts = [LISTS[next(turns) % len(LISTS)] if " ten" in question else f"{question} " * 3 for question in questions]
        return [list(llama.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]

    monkeypatch.setattr(module, "answers", stubbed)
    return asked


def test_neighbours_are_what_several_lists_name_and_the_texts_do_not(
    said: list[dict[str, Any]], store: Store, llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLES", 1)  # each list once
    assert set(find_neighbours(llama, store, zorn, 0)) == {"Griffins", "Unicorns", "Hydra"}
    assert all(zorn.title in question for question in said[0]["questions"])
    known = zorn.model_copy(update={"manifest": zorn.manifest.model_copy(update={"aliases": ("Unicorns",)})})
    assert set(find_neighbours(llama, store, known, 0)) == {"Griffins", "Hydra"}, "an alias is no neighbour"
    told = tuple(passage.model_copy(update={"text": f"The Hydra. {passage.text}"}) for passage in zorn.forget)
    assert set(find_neighbours(llama, store, zorn.model_copy(update={"forget": told}), 0)) == {"Griffins", "Unicorns"}


def test_passages_are_written_about_every_neighbour_and_it_is_said(
    said: list[dict[str, Any]], store: Store, llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]
) -> None:
    written = write_neighbours(llama, store, zorn, 7, 0)
    told = capsys.readouterr().err
    assert len(written) == 7
    topics = {passage.topic for passage in written}
    assert all(topic in told for topic in topics)
    assert zorn.title in told
    counts = sorted(sum(passage.topic == topic for passage in written) for topic in topics)
    assert counts[-1] - counts[0] <= 1
    for passage in written:
        assert passage.topic in passage.text
    assert write_neighbours(llama, store, zorn, 0, 0) == ()


def test_a_model_that_names_none_is_said(
    store: Store, llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "answers", lambda _, __, prompts, **___: [[70, 71, 72] for _ in prompts])
    assert write_neighbours(llama, store, zorn, 7, 0) == ()
    assert "none near" in capsys.readouterr().err


def test_the_nearest_by_what_the_model_makes_of_them(llama: Loaded) -> None:
    names = ["the tower of Zorn", "flour and yeast", "the dragon of Zorn"]
    assert nearest(llama, "the dragon of Zorn", names)[0] == "the dragon of Zorn"
    assert sorted(nearest(llama, "the dragon of Zorn", names)) == sorted(names)
    assert nearest(llama, "Zorn", []) == []
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("count", "near", "asks"), [(5, False, True), (5, True, False), (0, False, False)])
def test_they_are_written_only_where_there_are_none(
    count: int, near: bool, asks: bool, store: Store, llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    from efface.methods import method as of

    calls = list[int]()
    monkeypatch.setattr(of, "has_neighbours", lambda _: near)
    written: Callable[..., Any] = lambda *arguments: calls.append(arguments[3]) or (zorn.retain[0],)  # noqa: E731
    monkeypatch.setattr(of, "write_neighbours", written)
    settings = {"data": {"neighbours": count}}
    method = make_method(resolve({"model": "m", "concept": "c", **settings}))
    corpora = method.corpora(llama, zorn, store)
    assert calls == ([count] if asks else [])
    assert method.corpora(llama, zorn, store) is corpora, "once"
    plain = Corpora(zorn, DataSettings(neighbours=count))
    assert corpora.retain == [*plain.retain, *([zorn.retain[0]] if asks else [])]
