import pytest
import torch

from efface import losses
from efface.losses import cross_entropy, mean_over_texts
from efface.targets import SparseTarget

torch.manual_seed(1)
LOGITS = torch.randn(9, 30, dtype=torch.float64) * 3
TEACHER = (torch.randn(9, 30, dtype=torch.float64) * 3).log_softmax(-1)


def lumped(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Straight from the definition: the listed tokens, and all others as one token."""
    q, p = logits.softmax(-1), TEACHER.exp()
    listed = p.topk(k).indices
    loss = -(p.gather(-1, listed) * q.gather(-1, listed).log()).sum(-1)
    if k == 30:
        return loss
    others = torch.ones_like(p).scatter(-1, listed, 0)
    return loss - (p * others).sum(-1) * (q * others).sum(-1).log()


@pytest.mark.parametrize("k", [1, 5, 30])
@pytest.mark.parametrize("chunk", [4, 256])
def test_value_and_gradient_agree_with_the_definition(k: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "chunk_size", lambda _: chunk)
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    weights = torch.rand(9, dtype=torch.float64)
    loss, definition = cross_entropy(ours, SparseTarget.from_logprobs(TEACHER, k)), lumped(theirs, k)
    torch.testing.assert_close(loss, definition, atol=1e-9, rtol=1e-9)
    (loss * weights).sum().backward()
    (definition * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_marginal_spreads_the_tail(share: float) -> None:
    marginal = torch.rand(30, dtype=torch.float64).softmax(-1)
    target = SparseTarget.from_logprobs(TEACHER, 5).mixed(share)
    dense = torch.zeros_like(TEACHER).scatter(-1, target.ids.long(), target.logprobs.exp()) + target.tail[:, None] * marginal
    torch.testing.assert_close(dense.sum(-1), torch.ones(9, dtype=torch.float64))
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    weights = torch.rand(9, dtype=torch.float64)
    loss = cross_entropy(ours, target, marginal=marginal)
    definition = torch.nn.functional.cross_entropy(theirs, dense, reduction="none")
    torch.testing.assert_close(loss, definition, atol=1e-9, rtol=1e-9)
    (loss * weights).sum().backward()
    (definition * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-9, rtol=1e-9)


def test_float32_agrees_with_float64() -> None:
    exact = lumped(LOGITS, 30)
    single = cross_entropy(LOGITS.float(), SparseTarget.from_logprobs(TEACHER.float(), 30))
    torch.testing.assert_close(single.double(), exact, atol=1e-6, rtol=1e-6)


def test_whole_vocabulary_is_the_exact_soft_cross_entropy() -> None:
    exact = torch.nn.functional.cross_entropy(LOGITS, TEACHER.exp(), reduction="none")
    torch.testing.assert_close(cross_entropy(LOGITS, SparseTarget.from_logprobs(TEACHER, 30)), exact)


def test_one_hot_is_the_next_token_loss() -> None:
    labels = torch.randint(30, (9,))
    expected = torch.nn.functional.cross_entropy(LOGITS, labels, reduction="none")
    torch.testing.assert_close(cross_entropy(LOGITS, SparseTarget.one_hot(labels)), expected)


def test_tokens_cut_from_a_target_pull_nothing() -> None:
    cut = TEACHER.topk(3)
    logprobs = torch.full_like(TEACHER, -torch.inf).scatter(-1, cut.indices, cut.values).log_softmax(-1)
    target = SparseTarget.from_logprobs(logprobs, 5)  # two of the five listed tokens have no mass
    loss = cross_entropy(LOGITS, target)
    assert loss.isfinite().all()
    torch.testing.assert_close(loss, -(logprobs.exp() * LOGITS.log_softmax(-1)).sum(-1), atol=1e-9, rtol=0)


def test_a_text_counts_once_however_long_it_is() -> None:
    loss = torch.tensor([1.0, 1.0, 1.0, 5.0])
    assert mean_over_texts(loss, torch.tensor([0, 0, 0, 1]), 2).item() == 3.0
