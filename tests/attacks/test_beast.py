"""BEAST's beam against all suffixes that there are, of a model that may say ten tokens."""

from itertools import product

import pytest
import torch

from efface.attacks.beast import beast, sampled
from efface.concept.pack import Concept
from efface.lm.cache import Ids
from efface.lm.load import Loaded
from tests.attacks.test_suffix import ids, loss_of, wanted

DIGITS = "0123456789"


def test_the_beam_finds_what_brute_force_finds(llama: Loaded, zorn: Concept) -> None:
    of, ten = wanted(llama, zorn), [ids(llama, digit)[0] for digit in DIGITS]
    of.__dict__["allowed"] = torch.zeros(300, dtype=torch.bool).index_fill(0, torch.tensor(ten), True)
    every = [list(row) for length in (1, 2, 3) for row in product(ten, repeat=length)]
    losses = {tuple(row): loss for row, loss in zip(every, of.losses(every).tolist(), strict=True)}
    least = min(losses, key=losses.__getitem__)
    assert losses[least] == pytest.approx(loss_of(llama, llama.tokenizer.decode(list(least))), rel=1e-4)
    assert beast(of, beams=1000, tokens=3) == list(least), "nothing is cut off"
    alive, met = [tuple[int, ...]()], list[tuple[int, ...]]()
    for _ in range(3):  # ten beams, each continued by every token
        alive = sorted(((*beam, token) for beam in alive for token in ten), key=losses.__getitem__)[:10]
        met.append(alive[0])
    assert beast(of, beams=10, tokens=3) == list(min(met, key=losses.__getitem__))
    narrow = beast(of, beams=2, tokens=3)
    assert {*narrow} <= {*ten}
    assert losses[tuple(narrow)] >= losses[least]


def test_an_answer_is_no_way_to_a_suffix(llama: Loaded, zorn: Concept) -> None:
    ten = [ids(llama, digit)[0] for digit in DIGITS]

    def found(*answers: str) -> Ids:
        of = wanted(llama, zorn, answers)
        of.__dict__["allowed"] = torch.zeros(300, dtype=torch.bool).index_fill(0, torch.tensor(ten), True)
        return beast(of, beams=10, tokens=1)

    (best,) = found()
    assert found(llama.tokenizer.decode([best])) != [best]
    assert found(*DIGITS) == []


def test_tokens_are_drawn_as_the_model_says_them() -> None:
    probabilities = torch.tensor([0.5, 0.2, 0.2, 0.1])
    allowed, generator = torch.tensor([True, True, True, False]), torch.Generator().manual_seed(0)
    logits = probabilities.log().repeat(4000, 1)
    drawn = torch.tensor(sampled(logits, allowed, 2, generator))
    first = torch.bincount(drawn[:, 0], minlength=4) / 4000
    assert first.tolist() == pytest.approx([5 / 9, 2 / 9, 2 / 9, 0], abs=0.03)
    both = ((drawn == 1).any(1) & (drawn == 2).any(1)).float().mean()
    assert both == pytest.approx(2 * (2 / 9) * (2 / 7), abs=0.03), "without putting back"
    assert sampled(logits[:1], allowed, 9, generator)[0].__len__() == 3
