"""GCG's gradient against finite differences, and which exchanges are tried."""

from pathlib import Path

import pytest
import torch
from torch import nn

from efface.attacks.gcg import TOKENS, exchanged, gcg, gradient, promising
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.lm.layers import bare
from efface.lm.load import load
from tests.attacks.test_suffix import QUESTIONS, ids, wanted
from tests.auditing.test_scorers import student


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_the_gradient_is_that_of_finite_differences(architecture: str, model_folders: dict[str, Path], zorn: Concept) -> None:
    loaded = load(str(model_folders[architecture]), dtype="float32")
    model = student(loaded).double()
    of = wanted(loaded, zorn)
    object.__setattr__(of, "subject", Subject(model, loaded.tokenizer, zorn, "test"))
    suffix, embedding = ids(loaded, " x tower 7"), bare(model).get_input_embeddings()
    one_hot = nn.functional.one_hot(torch.tensor(suffix), 300).double()

    def loss(rows: torch.Tensor) -> float:
        losses = []
        for slot in of.slots:
            before, behind = (embedding(torch.tensor([part])) for part in (slot.before, slot.between + slot.opening))
            embedded = torch.cat([before, (rows @ embedding(torch.arange(300)))[None], behind], 1)
            with torch.no_grad():
                logits = model(inputs_embeds=embedded).logits[0, -len(slot.opening) - 1 : -1]
            losses.append(nn.functional.cross_entropy(logits, torch.tensor(slot.opening)))
        return float(sum(losses) / len(QUESTIONS))

    found = gradient(of, suffix)
    assert found.shape == (len(suffix), 300)
    step = 1e-2  # some norms compute in float32
    for place, token in enumerate(found.abs().argmax(1).tolist()):
        moved = torch.zeros_like(one_hot)
        moved[place, token] = step
        slope = (loss(one_hot + moved) - loss(one_hot - moved)) / (2 * step)
        assert float(found[place, token]) == pytest.approx(slope, rel=1e-2)
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert not embedding._forward_hooks


def test_exchanges_are_of_one_token_that_is_allowed_and_promising() -> None:
    gradients = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    allowed = torch.arange(30) % 3 > 0
    hopeful = promising(gradients, allowed)
    assert hopeful.shape == (5, 20)
    for place, row in enumerate(hopeful.tolist()):
        assert all(token % 3 for token in row)
        assert row == sorted(row, key=lambda token: float(gradients[place, token]))
    suffix = [1, 2, 4, 5, 7]
    tried = exchanged(suffix, hopeful[:, :4], 200, torch.Generator().manual_seed(1))
    changed = [[i for i in range(5) if row[i] != suffix[i]] for row in tried]
    assert {tuple(of) for of in changed} == {(i,) for i in range(5)}
    assert all(row[i] in hopeful[i, :4].tolist() for row, (i,) in zip(tried, changed, strict=True))


def test_it_begins_at_x_and_the_least_loss_that_was_met_is_kept(model_folders: dict[str, Path], zorn: Concept) -> None:
    loaded = load(str(model_folders["llama"]), dtype="float32")
    of = wanted(loaded, zorn)
    begun = gcg(of, candidates=1, steps=0)
    assert len(begun) == TOKENS
    assert of.text(begun) == " x" * (TOKENS // 2)  # two tokens each, for this tokenizer
    found = [gcg(of, candidates=8, steps=steps) for steps in (2, 6)]
    losses = of.losses([begun, *found]).tolist()
    assert losses[2] <= losses[1] < losses[0]
    assert found[1] in of.typed([found[1]])
    assert all(of.allowed[token] for token in found[1])
