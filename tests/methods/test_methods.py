import pytest
import torch

from efface.concept.pack import Concept
from efface.data.batches import Collator, Example, Item, next_token_example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.text import Text
from efface.lm.adapters import attach_adapter
from efface.lm.load import Loaded
from efface.methods import elm, make_method
from efface.recipe.resolve import resolve
from efface.recipe.settings import LoraSettings

SMALL = {
    "data": {"max_tokens": 24, "chat": 0.5, "forget_chat": 0.5, "forms": 0, "kept": 0, "neighbours": 0},
    "fluency": {"source": "tilted", "texts": 4, "tokens": 10, "min_p": 0.0},
    "lora": {"layers": "1-2"},
}


@pytest.fixture
def prepared(llama: Loaded, zorn: Concept) -> tuple[object, Loaded, dict[str, list[Example]]]:
    recipe = resolve(
        {
            "model": "m",
            "concept": "c",
            **SMALL,
            "erase": {"weight": 1.0, "target": "tilted"},
            "retain": {"weight": 2.0},
            "fluency": {**SMALL["fluency"], "weight": 0.5},
        }
    )
    method = make_method(recipe)
    corpora = method.prepare(llama, zorn, Store({"model": "llama"}))
    torch.manual_seed(3)
    student = attach_adapter(llama.model, LoraSettings(rank=2, layers="1-2"), 0)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return method, Loaded(student, llama.tokenizer, "", ""), corpora


def one_by_one(model: torch.nn.Module, examples: list[Example]) -> torch.Tensor:
    """Mean cross-entropy over texts, each in a pass of its own, dense and in float64."""
    losses = []
    for example in examples:
        start, target = example.text.start, example.target
        logits = model(torch.tensor([example.text.ids])).logits[0, start - 1 : -1].double()
        q = logits.log_softmax(-1)
        listed = q.gather(-1, target.ids.long())
        p = target.logprobs.double().exp()
        loss = -(p * listed).sum(-1) - target.tail.double() * torch.log1p(-listed.exp().sum(-1)).nan_to_num(neginf=0.0)
        losses.append((loss if example.values is None else loss * example.values[:, 0]).mean())
    return torch.stack(losses).mean()


def test_terms_of_a_batch_are_those_of_its_texts(prepared: tuple[object, Loaded, dict[str, list[Example]]]) -> None:
    method, loaded, corpora = prepared
    assert corpora.keys() == {"erase", "retain", "fluency"}
    items = [{term: [examples[i]] for term, examples in corpora.items()} for i in range(3)]
    terms = method.loss(loaded.model, Collator(loaded.tokenizer.pad_token_id)(items)).named()
    for term, weight in (("erase", 1.0), ("retain", 2.0), ("fluency", 0.5)):
        expected = weight * one_by_one(loaded.model, [item[term][0] for item in items])
        torch.testing.assert_close(terms[term].double(), expected, atol=1e-5, rtol=1e-5)


def test_neither_batch_nor_padding_changes_loss_or_gradient(prepared: tuple[object, Loaded, dict[str, list[Example]]]) -> None:
    method, loaded, corpora = prepared
    collate = Collator(loaded.tokenizer.pad_token_id)
    items = [{term: [examples[i]] for term, examples in corpora.items()} for i in range(3)]

    def gradient(batches: list[list[Item]]) -> tuple[float, torch.Tensor]:
        loaded.model.zero_grad()
        total = sum(method.loss(loaded.model, collate(batch)).total() for batch in batches) / len(batches)
        total.backward()
        return total.item(), torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None])

    together, one_at_a_time, shuffled = gradient([items]), gradient([[item] for item in items]), gradient([items[::-1]])
    for other in (one_at_a_time, shuffled):
        assert other[0] == pytest.approx(together[0], abs=1e-5)
        torch.testing.assert_close(other[1], together[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("retain", [1.0, 0.0])
def test_the_marginal_is_the_mean_prediction_on_the_retain_texts(retain: float, llama: Loaded, zorn: Concept) -> None:
    settings = {**SMALL, "fluency": {"weight": 0}, "retain": {"weight": retain}, "data": {**SMALL["data"], "store_top_k": 300}}
    method = make_method(resolve({"model": "m", "concept": "c", **settings, "erase": {"target": "marginal", "weight": 1.0}}))
    corpora = method.prepare(llama, zorn, Store({"model": "llama"}))
    _, texts = Corpora(zorn, method.recipe.data, llama.tokenizer).texts
    with torch.no_grad():
        said = [llama.model(torch.tensor([text.ids])).logits[0, text.start - 1 : -1].softmax(-1) for text in texts]
    mean = torch.cat(said).mean(0)
    torch.testing.assert_close(method.marginal, mean, atol=1e-6, rtol=1e-3)

    example = corpora["erase"][0]
    batch = Collator(llama.tokenizer.pad_token_id)([{"erase": [example]}])
    with torch.no_grad():
        logits = llama.model(torch.tensor([example.text.ids])).logits[0, example.text.start - 1 : -1]
        loss = method.loss(llama.model, batch).named()["erase"]
    of_tokens = -(logits.log_softmax(-1) @ mean)
    torch.testing.assert_close(loss, (of_tokens * example.values[:, 0]).mean(), atol=1e-4, rtol=1e-4)


def test_words_of_the_concept_weigh_more() -> None:
    key = torch.tensor([0.0, 0.1, 2.0, 9.0])
    examples = [next_token_example(Text(ids, 1)) for ids in ([3, 0, 1], [0, 2, 3, 3])]
    weights = [example.values[:, 0].tolist() for example in elm.emphasised(examples, key, 1.0)]
    mean = (0.2 + 0.2 + 2 + 4 + 4) / 5  # context has none; least .2, most 4
    assert weights == [pytest.approx([0.2 / mean] * 2), pytest.approx([2 / mean, 4 / mean, 4 / mean])]
    for example in elm.emphasised(examples, key, 0.0):
        torch.testing.assert_close(example.values, torch.ones_like(example.values))
    assert [example.text for example in elm.emphasised(examples, key, 1.0)] == [example.text for example in examples]


def test_only_erasing_has_a_marginal(llama: Loaded, zorn: Concept) -> None:
    for action in ("enhance", "random"):
        recipe = resolve({"model": "m", "concept": "c", **SMALL, "erase": {"action": action, "target": "tilted"}})
        method = make_method(recipe)
        corpora = method.prepare(llama, zorn, Store({"model": "llama"}))
        assert method.marginal is None
        example = corpora["erase"][0]
        assert (
            example.target.ids.shape[1] > 1
            if action == "enhance"
            else example.target.likeliest().tolist() != example.text.ids[1:]
        )


@pytest.mark.parametrize(("action", "sign"), [("erase", 1), ("enhance", -1)])
def test_fluency_texts_are_sampled_the_way_the_erase_term_tilts(
    action: str, sign: int, llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, sampled = {}, [next_token_example(Text([1, 2, 3], 1))]
    monkeypatch.setattr(elm, "sample_fluency", lambda *given: seen.update(vars(given[-1])) or sampled)
    recipe = resolve({"model": "m", "concept": "c", **SMALL, "erase": {"action": action, "target": "tilted"}})
    make_method(recipe).prepare(llama, zorn, Store({"model": "llama"}))
    assert seen["eta"] == sign * recipe.fluency.eta
    assert (seen["key"] is not None) == (sign > 0)  # only who erases shuns the concept's words


def test_a_term_of_weight_zero_is_not_prepared(llama: Loaded, zorn: Concept) -> None:
    recipe = resolve({"model": "m", "concept": "c", **SMALL, "erase": {"weight": 0}, "fluency": {"weight": 0}})
    assert make_method(recipe).prepare(llama, zorn, Store({"model": "llama"})).keys() == {"retain"}


def test_preset_reference_on_hand_computed_tensors() -> None:
    """Three tokens, ramp to 1000, temperature 1.2, top-50 (all of them here): worked out by hand."""
    from efface.targets import erased_logprobs, eta_schedule

    base = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]).double()
    expert = torch.tensor([[1.2, 0.0, 0.0], [0.0, 0.0012, 0.0]]).double()
    novice = torch.zeros(2, 3).double()
    settings = resolve({"model": "m", "concept": "c", "preset": "reference"}).erase
    eta = eta_schedule(2, settings.eta, settings.schedule).double()
    got = erased_logprobs(base, expert, novice, eta=eta, temperature=settings.temperature, top_k=settings.top_k).exp()
    # position 0, eta 1: exponents (2/1.2 - 1, 1/1.2, 0); position 1, eta 1000: (2/1.2, 1/1.2 - 1, 0)
    by_hand = torch.tensor([[0.66666667, 0.83333333, 0.0], [1.66666667, -0.16666667, 0.0]]).double().softmax(-1)
    torch.testing.assert_close(got, by_hand, atol=1e-6, rtol=0)


def test_preset_paper_on_hand_computed_tensors() -> None:
    """Constant eta 500 over the whole vocabulary at temperature 1."""
    from efface.targets import erased_logprobs, eta_schedule

    base = torch.tensor([[2.0, 1.0, 0.0]]).double()
    expert, novice = torch.tensor([[0.004, 0.0, 0.002]]).double(), torch.zeros(1, 3).double()
    settings = resolve({"model": "m", "concept": "c", "preset": "paper"}).erase
    eta = eta_schedule(1, settings.eta, settings.schedule).double()
    got = erased_logprobs(base, expert, novice, eta=eta, temperature=settings.temperature, top_k=settings.top_k).exp()
    torch.testing.assert_close(got, torch.tensor([[0.0, 1.0, -1.0]]).double().softmax(-1), atol=1e-6, rtol=0)
