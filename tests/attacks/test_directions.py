"""The shift that an erasure adds to all states: found on texts about other things, and taken out."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from efface.attacks.attack import Attacked
from efface.attacks.directions import changed, direction, directions, mean_states, without
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.lm.layers import decoder_layers
from efface.lm.load import Loaded

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def test_no_component_is_left_along_the_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    states, unit = (
        torch.randn(3, 4, 16, generator=generator),
        torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0),
    )
    left = without(states, unit, 1e9)
    torch.testing.assert_close(left @ unit, torch.zeros(3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(left + (states @ unit)[..., None] * unit, states)
    assert torch.equal(without(states, unit, 0.0), states), "attention sinks stay as they are"


def test_a_direction_is_a_unit_vector_without_the_mean_state() -> None:
    generator = torch.Generator().manual_seed(1)
    shift, mean = torch.randn(2, 5, 16, generator=generator)
    unit = direction(shift, mean)
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close((unit * mean).sum(-1), torch.zeros(5), atol=1e-5, rtol=0)
    assert not direction(torch.zeros(5, 16), mean).any()


@pytest.fixture
def shifted(llama: Loaded, zorn: Concept) -> Subject:
    """A model whose answers are one switch away: the base with a constant added to the states after a layer."""
    erased = deepcopy(llama.model)
    layer = decoder_layers(erased)[1][0].mlp.down_proj
    layer.bias = torch.nn.Parameter(
        torch.randn(layer.out_features, generator=torch.Generator().manual_seed(2)), requires_grad=False
    )
    return Subject(erased, llama.tokenizer, zorn, "test", other_base=llama.model)


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits.log_softmax(-1)  # type: ignore[no-any-return]


def test_a_model_that_is_one_direction_away_is_recovered(shifted: Subject) -> None:
    base, before = logits(shifted.other_base or shifted.model), logits(shifted.model)
    found: dict[str, float] = {}

    def measure(attacked: Attacked) -> None:
        found[attacked.variant] = float((logits(attacked.subject.model) - base).norm())

    directions(shifted, measure)
    lost = float((before - base).norm())
    assert found["ablate"] < 0.7 * lost
    assert torch.equal(logits(shifted.model), before), "no hook is left"


def test_the_base_has_no_such_direction(llama: Loaded, zorn: Concept) -> None:
    seen: list[Attacked] = []
    directions(Subject(llama.model, llama.tokenizer, zorn, "test", other_base=llama.model), seen.append)
    assert seen == []


def test_mean_states_are_those_of_each_text_alone(llama: Loaded) -> None:
    texts = ["the dragon ate honey", "a ship sails on the sea"]
    means, norms = mean_states(llama.model, llama.tokenizer, texts)
    states = []
    for text in texts:
        ids = torch.tensor([llama.tokenizer(text)["input_ids"]])
        with torch.no_grad(), changed(llama.model, lambda layer, of: of):
            states.append(torch.stack(llama.model(ids, output_hidden_states=True).hidden_states[1:])[:, 0, 1:].double())
    together = torch.cat(states, 1)
    torch.testing.assert_close(means[:-1], together.mean(1)[:-1], atol=1e-5, rtol=1e-4)  # the last ones are behind the norm there
    torch.testing.assert_close(norms[:-1], together.norm(dim=-1).mean(1)[:-1], atol=1e-5, rtol=1e-4)
