import numpy as np
import pytest
import torch

from efface.targets import SparseTarget, erased_logprobs, eta_schedule

torch.manual_seed(0)
BASE, EXPERT, NOVICE = torch.randn(3, 7, 40).mul(3).unbind()


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def independent(eta: object, temperature: float = 1.0, top_k: int | None = None) -> np.ndarray:
    """The formula of the paper in numpy and float64."""
    base, expert, novice = (log_softmax(x.numpy().astype(np.float64) / temperature) for x in (BASE, EXPERT, NOVICE))
    tilted = base + eta * (novice - expert)
    if top_k:
        cut = np.sort(tilted, -1)[:, -top_k][:, None]
        tilted = np.where(tilted >= cut, tilted, -np.inf)
    return log_softmax(tilted)


@pytest.mark.parametrize(("eta", "temperature", "top_k"), [(0.0, 1.0, None), (3.0, 1.0, None), (3.0, 1.2, 5), (-2.0, 0.7, 12)])
def test_agrees_with_float64(eta: float, temperature: float, top_k: int | None) -> None:
    ours = erased_logprobs(BASE, EXPERT, NOVICE, eta=eta, temperature=temperature, top_k=top_k)
    np.testing.assert_allclose(ours.exp(), np.exp(independent(eta, temperature, top_k)), atol=1e-6)


def test_large_eta_in_double_precision() -> None:
    ramp = eta_schedule(7, 1000.0, "ramp")
    ours = erased_logprobs(*(x.double() for x in (BASE, EXPERT, NOVICE)), eta=ramp.double(), temperature=1.2, top_k=50)
    np.testing.assert_allclose(ours.exp(), np.exp(independent(ramp.numpy().astype(float), 1.2)), atol=1e-6)


def test_a_constant_on_the_logits_changes_nothing() -> None:
    moved = erased_logprobs(BASE + 5, EXPERT - 3, NOVICE + 1, eta=2.0)
    torch.testing.assert_close(moved, erased_logprobs(BASE, EXPERT, NOVICE, eta=2.0), atol=1e-5, rtol=1e-5)


def test_eta_zero_is_the_base_and_sign_turns_the_tilt() -> None:
    token = int((NOVICE.log_softmax(-1) - EXPERT.log_softmax(-1))[0].argmax())
    plain, erased, enhanced = (erased_logprobs(BASE, EXPERT, NOVICE, eta=eta)[0, token] for eta in (0.0, 1.0, -1.0))
    torch.testing.assert_close(plain, BASE.log_softmax(-1)[0, token])
    assert erased > plain > enhanced


def test_min_p_is_the_bases_own() -> None:
    plausible = erased_logprobs(BASE, EXPERT, NOVICE, eta=1000.0, min_p=0.1)
    p = BASE.softmax(-1)
    assert torch.equal(plausible.isfinite(), p >= 0.1 * p.amax(-1, keepdim=True))


def test_ramp_rises_from_one_in_equal_steps() -> None:
    torch.testing.assert_close(eta_schedule(5, 1000.0, "ramp")[:, 0], torch.tensor([1.0, 250.75, 500.5, 750.25, 1000.0]))
    assert eta_schedule(3, 500.0, "constant").tolist() == [[500.0]] * 3


def test_sparse_target_keeps_the_likeliest_and_their_rest() -> None:
    logprobs = BASE.log_softmax(-1)
    target = SparseTarget.from_logprobs(logprobs, 4)
    p = logprobs.exp().sort(descending=True).values
    torch.testing.assert_close(target.logprobs.exp(), p[:, :4])
    torch.testing.assert_close(target.tail, p[:, 4:].sum(-1))
    whole = SparseTarget.from_logprobs(logprobs, 40)
    torch.testing.assert_close(whole.logprobs, logprobs)
    assert whole.tail.sum() == 0
    assert len(SparseTarget.cat([target, target])) == 14
