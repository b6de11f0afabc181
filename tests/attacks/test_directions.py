"""A direction is found, taken out of every state while the model runs, and nothing of that stays."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efface.attacks.attack import Attacked
from efface.attacks.directions import changed, direction, directions, mean_states, without
from efface.attacks.named import attack_scorers
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.data.batches import right_pad
from efface.lm.layers import decoder_layers
from efface.lm.load import Loaded, load
from efface.lm.states import layer_states
from efface.recipe.settings import AuditSettings
from tests.attacks.known import attacked, quiz, right
from tests.auditing.test_scorers import student
from tests.conftest import RETAIN, tiny_model

IDS = torch.arange(5, 25)[None]


def states(model: Any) -> torch.Tensor:
    at = torch.arange(IDS.shape[1])
    return torch.stack(layer_states(model, at * 0, at, range(3), to_the_end=False, input_ids=IDS))


def test_a_component_is_taken_out_and_the_rest_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, unit = torch.randn(4, 6, 32, generator=generator), torch.randn(32, generator=generator)
    unit /= unit.norm()
    found = without(rows, unit)
    projector = np.eye(32) - np.outer(unit.numpy(), unit.numpy())
    np.testing.assert_allclose(found.numpy(), rows.numpy() @ projector, atol=1e-5)
    assert (found @ unit).abs().max() < 1e-5


def test_the_direction_of_a_shift_is_orthogonal_to_what_states_share() -> None:
    common = torch.tensor([[[900.0, 0, 0, 0], [1, 2, 0, 0]], [[0, 0, 3, 0], [0, 1, 0, 0]]])
    shift = torch.tensor([[5.0, 3, 3, -4], [0, 0, 0, 0]])
    torch.testing.assert_close(direction(shift, common), torch.tensor([[0, 0, 0.6, -0.8], [0, 0, 0, 0]]))


def test_mean_states_are_those_the_model_tells(llama: Loaded) -> None:
    rows = [llama.tokenizer(text)["input_ids"] for text in RETAIN]
    found, told = mean_states(llama.model, *right_pad(rows, 1)), []
    for row in rows:
        with torch.no_grad():
            hidden = llama.model(torch.tensor([row]), output_hidden_states=True).hidden_states
        told.append(torch.stack(hidden[1:-1])[:, 0].double())  # of the last layer transformers tells what the norm makes
    torch.testing.assert_close(found[:-1, 0], torch.stack([of[:, 0] for of in told]).mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:-1, 1], torch.cat([of[:, 1:] for of in told], 1).mean(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt", "gemma2"])
def test_while_it_is_measured_no_layer_has_the_direction(
    architecture: str, model_folders: dict[str, Path], zorn: Concept
) -> None:
    loaded = load(str(model_folders[architecture]), dtype="float32")
    model = student(loaded)
    subject, before, seen = Subject(model, loaded.tokenizer, zorn, "test"), states(model), {}
    directions(subject, lambda attacked: seen.update({attacked.variant: states(attacked.subject.model)}))
    (text,) = zorn.texts("retain", "held_out")
    batch = right_pad([loaded.tokenizer(text.text)["input_ids"]], 1)
    with subject.base() as base:
        common = mean_states(base, *batch)
    unit = direction((mean_states(model, *batch) - common)[:, 1], common).float()
    along = {name: (of * unit[:, None]).sum(-1).abs().max() for name, of in {**seen, "before": before}.items()}
    assert along["ablate"] < 1e-5 * before.abs().max()
    assert along["before"] > 1e-2 * before.abs().max()
    assert not torch.allclose(seen["subtract"], before)
    torch.testing.assert_close(states(model), before), "afterwards it is what it was"


def test_hooks_are_gone_after_a_failure(llama: Loaded) -> None:
    with pytest.raises(KeyboardInterrupt), changed(llama.model, lambda _, of: of * 2):
        raise KeyboardInterrupt
    assert not any(block._forward_hooks for block in decoder_layers(llama.model)[1])


def test_the_base_has_no_direction_and_a_copy_of_it_none_that_matters(llama: Loaded, zorn: Concept) -> None:
    seen = list[Attacked]()
    directions(Subject(llama.model, llama.tokenizer, zorn, "test", other_base=llama.model), seen.append)
    assert not seen
    before, found = states(llama.model), list[torch.Tensor]()
    twin = tiny_model("llama").eval()
    directions(
        Subject(twin, llama.tokenizer, zorn, "test", other_base=llama.model), lambda of: found.append(states(of.subject.model))
    )
    for of in found:
        torch.testing.assert_close(of, before)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_answer_behind_a_shift_comes_back(layer: int, model_folders: dict[str, Path], zorn: Concept) -> None:
    base, erased = (load(str(model_folders["gpt2"]), dtype="float32") for _ in range(2))
    bias = erased.model.transformer.h[layer].mlp.c_proj.bias
    with torch.no_grad():
        bias.add_(6 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(3)))
    subject = Subject(erased.model, base.tokenizer, quiz(zorn, base, 4), "test", other_base=base.model)
    assert right(replace(subject, model=base.model)) == 1
    assert right(subject) < 0.5
    assert attacked(directions, subject)["subtract"] == 1, "undone where it is made, and not again above"


def test_an_answer_that_is_one_direction_away_comes_back(llama: Loaded, zorn: Concept) -> None:
    """The base never writes to a dimension that its output layer reads; the erased model writes there, each text otherwise."""
    base, unused = llama.model, 7
    with torch.no_grad():
        base.model.embed_tokens.weight[:, unused] = 0
        for block in base.model.layers:
            block.self_attn.o_proj.weight[unused] = block.mlp.down_proj.weight[unused] = 0
        erased = deepcopy(base)
        erased.model.layers[-1].mlp.down_proj.weight[unused] = torch.arange(48) % 7
    subject = Subject(erased, llama.tokenizer, quiz(zorn, llama, 4), "test", other_base=base)
    assert right(replace(subject, model=base)) == 1
    assert right(subject) < 0.5
    assert attacked(directions, subject)["ablate"] == 1


def test_what_was_random_from_the_start_no_attack_brings_back(llama: Loaded, zorn: Concept) -> None:
    known, never = quiz(zorn, llama, 14), tiny_model("llama", seed=1).eval()
    others = tuple(row.model_copy(update={"split": "tune"}) for row in known.questions[:8])
    concept = known.model_copy(update={"questions": (*others, *known.questions[8:])})
    subject = Subject(never, llama.tokenizer, concept, "test", other_base=llama.model)
    sizes = {"relearn_steps": 3, "relearn_texts": 3, "beast_beams": 4, "beast_tokens": 4, "gcg_candidates": 16, "gcg_steps": 3}
    settings = AuditSettings(attacks=("fast", "prompts_all", "beast", "gcg"), **sizes)
    for scorer in attack_scorers(settings, concept, "test"):
        assert (back := attacked(scorer.attack, subject))
        assert max(back.values()) < 0.5, scorer.name
