"""The other methods' formulas on hand-made tensors."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from efface.data.text import Text
from efface.data.tilted_targets import random_targets
from efface.methods import NAMES, complete_recipe, find_method, make_method
from efface.methods.cir import breaking, directions
from efface.methods.circuit_breakers import rerouting
from efface.methods.dpo import dpo
from efface.methods.method import Method, Retain, Seen
from efface.methods.npo import npo
from efface.methods.repnoise import mmd
from efface.methods.rmu import direction, misdirection
from efface.methods.simnpo import simnpo
from efface.methods.whp import generic
from efface.targets import SparseTarget


def log(value: float) -> float:
    return math.log(1 / (1 + math.exp(-value)))


#: two texts of two and one tokens over a vocabulary of three; what was predicted, and log p of it
LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
LABELS, TEXT = torch.tensor([0, 0, 2]), torch.tensor([0, 0, 1])
LOG_P = [2 - math.log(math.exp(2) + 2), -math.log(math.e + 2), 3 - math.log(math.exp(3) + 2)]
NLL = -((LOG_P[0] + LOG_P[1]) / 2 + LOG_P[2]) / 2


def a_look(layers: dict[int, Tensor] | None = None, base: dict[int, Tensor] | None = None, **more: Any) -> Seen:
    """What a student made of these texts; its states are its logits."""
    target = SparseTarget.one_hot(LABELS)
    return Seen(LOGITS, layers or {}, target, TEXT, 2, head=lambda states: states, base=lambda: base or {}, **more)


def method(name: str, **settings: Any) -> Method:
    return make_method(complete_recipe({"model": "m", "concept": "c", "method": name, **settings}))


def test_next_token_losses() -> None:
    for name, sign in (("gradient_ascent", -1), ("grad_diff", -1), ("idk", 1), ("random_target", 1)):
        assert method(name).erase(a_look()).item() == pytest.approx(sign * NLL, rel=1e-5), name


def test_the_retain_term_is_the_same_injected_object_for_all() -> None:
    class Sentinel(Retain):
        def loss(self, seen: Seen) -> Tensor:
            return torch.tensor(7.0)

    for name in NAMES:
        recipe = complete_recipe({"model": "m", "concept": "c", "method": name})
        injected = Sentinel(recipe)
        assert find_method(name)(recipe, injected).retain is injected
    assert method("npo").retain.loss(a_look()).item() == pytest.approx(NLL, rel=1e-5)


def test_adaptive_rmu() -> None:
    states = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    base = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])  # lengths 5, 2, 1
    unit = direction(states, seed=0)
    each = [((states[i] - 5 * length * unit) ** 2).mean() for i, length in enumerate((5, 2, 1))]
    expected = ((each[0] + each[1]) / 2 + each[2]) / 2
    torch.testing.assert_close(method("adaptive_rmu").erase(a_look({3: states}, {3: base})), expected)


def test_circuit_breakers_fade_to_half() -> None:
    torch.manual_seed(0)
    base = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    states = torch.tensor([[2.0, 0.0], [0.0, 5.0], [4.0, 0.0]])  # cosines 1, 0, 1
    for progress, weight in ((0.0, 10.0), (1.0, 5.0)):
        loss = method("circuit_breakers").erase(a_look({3: states}, {3: base}, progress=progress))
        assert loss.item() == pytest.approx(weight * (0.5 + 1) / 2, rel=0.02)  # the jolt is a hundredth


def test_repnoise() -> None:
    layers = {1: LOGITS, 2: 2 * LOGITS}
    torch.manual_seed(0)
    loss = method("repnoise", options={"alpha": 3.0, "beta": 0.0}).erase(a_look(layers))
    twice = (2 * LOGITS).log_softmax(-1)[range(3), LABELS]
    deeper = -((twice[0] + twice[1]) / 2 + twice[2]) / 2
    assert loss.item() == pytest.approx(-3 * math.log1p((NLL + deeper.item()) / 2), rel=1e-5)
    noisy = method("repnoise", options={"alpha": 0.0, "beta": 1.0}).erase(a_look({1: LOGITS + 50.0}))
    assert noisy.item() > 1.0


def test_a_random_label_is_no_texts_own() -> None:
    texts = [Text(list(range(50)), 1), Text(list(range(50, 80)), 10)]
    targets = random_targets(texts, 49_152, seed=0)
    assert [target.ids.shape for target in targets] == [(49, 1), (20, 1)]
    assert torch.cat([target.logprobs for target in targets]).eq(0).all(), "all of the mass is on it"
    assert torch.cat([target.ids for target in targets]).float().mean().item() == pytest.approx(24_576, rel=0.2)


def test_nothing_is_erased_by_the_retain_term_alone() -> None:
    assert not method("retain_only").examples(None, None, None)  # type: ignore[arg-type]


def test_npo() -> None:
    ratio = torch.tensor([0.0, -20.0])
    assert npo(ratio, 0.1).item() == pytest.approx(-20 * (log(0.0) + log(2.0)) / 2)
    steep = torch.tensor([0.0], requires_grad=True)
    npo(steep, 0.1).backward()  # at the frozen model it is gradient ascent
    assert steep.grad is not None
    assert steep.grad.item() == pytest.approx(1.0)


def test_ratios_are_sums_over_a_text_less_the_frozen_models() -> None:
    reference = torch.tensor([[-1.0], [-2.0], [-0.5]])
    ratio = torch.tensor([LOG_P[0] + LOG_P[1] + 3.0, LOG_P[2] + 0.5])
    torch.testing.assert_close(method("npo").erase(a_look(values=reference)), npo(ratio, 0.1))
    pair = method("dpo").erase(a_look(values=reference))  # a text and its refusal
    torch.testing.assert_close(pair, dpo(preferred=ratio[1:], rejected=ratio[:1], beta=0.1))


def test_simnpo_is_about_a_token_of_each_text() -> None:
    each = torch.tensor([(LOG_P[0] + LOG_P[1]) / 2, LOG_P[2]])
    torch.testing.assert_close(method("simnpo").erase(a_look()), simnpo(each, 0.7, 0.0))


def test_simnpo() -> None:
    assert simnpo(torch.tensor([-3.0]), 2.5, 0.5).item() == pytest.approx(-2 / 2.5 * log(2.5 * 3.0 - 0.5))


def test_dpo() -> None:
    assert dpo(torch.tensor([2.0]), torch.tensor([-8.0]), 0.1).item() == pytest.approx(-log(1.0))


def test_rmu() -> None:
    unit = direction(torch.zeros(1, 16), seed=3)
    assert unit.norm().item() == pytest.approx(1.0)
    assert (unit >= 0).all()
    assert torch.equal(unit, direction(torch.zeros(5, 16), seed=3))
    states = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(misdirection(states, torch.tensor([3.0, 2.0])), torch.tensor([2.0, 6.5]))


def test_rmu_aims_at_c_times_the_direction() -> None:
    states = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    each = misdirection(states, 6.5 * direction(states, seed=0))
    torch.testing.assert_close(method("rmu").erase(a_look({3: states})), ((each[0] + each[1]) / 2 + each[2]) / 2)


def test_rerouting() -> None:
    base = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    states = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]])
    torch.testing.assert_close(rerouting(states, base), torch.tensor([1.0, 0.0, 0.0]))


def test_mmd_is_zero_for_the_same_sample_and_grows_with_distance() -> None:
    torch.manual_seed(0)
    one = torch.randn(40, 8)
    assert mmd(one, one.clone()).abs().item() < 1e-5
    near, far = mmd(one, torch.randn(40, 8)), mmd(one, torch.randn(40, 8) + 5)
    assert near < far / 5
    two, distance = torch.tensor([[0.0], [0.0]]), 9.0
    other = torch.tensor([[3.0], [3.0]])
    width = 8 * distance / 12 / 4  # the mean squared distance of 4 points, over 2^2
    expected = sum(2 - 2 * math.exp(-distance / (width * 2**i)) for i in range(5))
    assert mmd(two, other).item() == pytest.approx(expected, rel=1e-4)


def test_generic_predictions() -> None:
    base, reinforced = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 0.0, 0.0]])
    torch.testing.assert_close(generic(base, reinforced, 5.0), torch.tensor([[-3.0, 1.0, 0.0]]))


def test_breaking() -> None:
    base = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    torch.testing.assert_close(breaking(torch.tensor([[1.0, 7.0], [0.0, -1.0]]), base), torch.tensor([0.5, 0.0]))
    uneven = torch.tensor([[1.0, 0.0], [0.0, 3.0]])  # the square of the mean length, not the mean of the squares
    torch.testing.assert_close(breaking(uneven, uneven), torch.tensor([0.25, 2.25]))


def test_cir_breaks_what_each_layer_adds() -> None:
    states = {n: torch.randn(3, 2) for n in (1, 2, 5, 6)}
    base = {n: torch.randn(3, 2) for n in (1, 2, 5, 6)}
    each = [breaking(states[high] - states[low], base[high] - base[low]) for low, high in ((1, 2), (5, 6))]
    wanted = sum(((of[0] + of[1]) / 2 + of[2]) / 2 for of in each) / 2
    torch.testing.assert_close(method("cir").erase(a_look(states, base)), wanted)


def test_directions_span_mean_and_components() -> None:
    torch.manual_seed(0)
    vectors = torch.zeros(200, 6)
    vectors[:, 0], vectors[:, 1], vectors[:, 2] = 5.0, torch.randn(200) * 3, torch.randn(200) * 0.01
    found = directions(vectors, 1)
    torch.testing.assert_close(found.T @ found, torch.eye(2), atol=1e-5, rtol=0)
    kept = torch.eye(6) - found @ found.T
    assert kept[:2, :2].abs().max() < 1e-2
    torch.testing.assert_close(kept[3:, 3:], torch.eye(3), atol=1e-4, rtol=0)
