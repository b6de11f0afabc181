"""The terms of the loss: pure tensor mathematics.

All three terms are one formula, the cross-entropy of the student to a target distribution; they differ in the target:

=========  ======================================  ===============================================
term       on                                      target
=========  ======================================  ===============================================
erase      forget corpus                           the tilted teacher, or a mean of the teacher
retain     retain corpus                           the teacher (soft), or its likeliest token (hard)
fluency    texts sampled from the tilted teacher   the tilted teacher, or the sampled token
=========  ======================================  ===============================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efface.targets import SparseTarget

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LossTerms:
    """Weighted terms of one batch, scalars in nats; a term that the batch does not have is None."""

    erase: Tensor | None = None
    retain: Tensor | None = None
    fluency: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """The terms that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def total(self) -> Tensor:
        """Sum of all terms."""
        return sum(self.named().values())  # type: ignore[return-value]


def cross_entropy(
    states: Float[Tensor, "n size"],
    target: SparseTarget,
    head: Head | None = None,
    marginal: Float[Tensor, " vocab"] | None = None,
) -> Float[Tensor, " n"]:
    """``- sum_x target(x) log student(x)`` in nats at each of n positions.

    states: what enters ``head``, a frozen output layer ``[n, size] -> [n, vocab]``; without one, the logits themselves.
    marginal: probabilities of all tokens, in their shares the target's ``tail`` is spread over the vocabulary.

    Without ``marginal`` the tokens outside the target's list count as one lumped token of mass ``tail``, so a target that lists
    the whole vocabulary gives the exact cross-entropy, and a one-hot target the usual next-token loss.
    """
    loss: Tensor = _SparseCrossEntropy.apply(states, target, head or (lambda logits: logits), marginal)  # type: ignore[no-untyped-call]
    return loss


def chunk_size(device: torch.device) -> int:
    """Positions whose logits are held at a time: few enough for a processor's cache, enough to keep an accelerator busy."""
    return 64 if device.type == "cpu" else 2048


class _SparseCrossEntropy(torch.autograd.Function):
    """Loss and gradient of one chunk of positions after the other: the logits of all are never held, and none is made twice.

    The gradient at the states is linear in what comes from above, one number a position, so it is there after the forward pass.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, target: SparseTarget, head: Head, marginal: Tensor | None) -> Tensor:
        wanted, chunk = ctx.needs_input_grad[0], chunk_size(states.device)
        losses, gradients, work = [], torch.empty_like(states) if wanted else None, None
        for first in range(0, len(states), chunk):
            part = states[first : first + chunk].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                logits = head(part)
            if work is None:  # one float32 buffer for all chunks
                work = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32), requires_grad=False)
            loss, gradient = _loss_and_gradient(logits.detach(), target[first : first + chunk], work[: len(logits)], marginal)
            losses.append(loss)
            if gradients is not None:
                (gradients[first : first + chunk],) = torch.autograd.grad(logits, part, gradient)
        ctx.save_for_backward(gradients)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (gradients,) = ctx.saved_tensors
        return (gradients * grads[0][:, None]).to(gradients.dtype), None, None, None


def _loss_and_gradient(logits: Tensor, target: SparseTarget, work: Tensor, marginal: Tensor | None) -> tuple[Tensor, Tensor]:
    """Loss ``[n]`` and its gradient at the logits ``[n, vocab]``; work: a buffer of that shape, in at least float32.

    With student probabilities q, listed target probabilities p of sum P, tail t and student mass r outside the list::

        loss   = - sum_listed p log q - t log r
        d/dz_j = q_j (P + t) - p_j   if j is listed,   q_j (P - t (1 - r) / r)   if not

    and with a marginal u of all tokens::

        loss   = - sum_listed p log q - t sum_all u log q
        d/dz_j = q_j (P + t) - p_j - t u_j   (p_j = 0 if j is not listed)
    """
    ids, tail = target.ids.long(), target.tail[:, None].to(work)
    listed, highest = logits.gather(-1, ids).to(work), logits.amax(-1, keepdim=True).to(work)
    work.copy_(logits)
    under = None if marginal is None else (work @ marginal.to(work))[:, None]  # mean logit under the marginal
    q_all = torch.softmax(work, -1, out=work)
    log_q = listed - highest + q_all.amax(-1, keepdim=True).log()
    q, p = log_q.exp(), target.logprobs.to(work).exp()
    loss, mass = -torch.where(p > 0, p * log_q, 0).sum(-1), p.sum(-1, keepdim=True)
    if marginal is not None and under is not None:
        loss = loss - (tail * (under - highest + q_all.amax(-1, keepdim=True).log())).squeeze(-1)
        q_all.mul_(mass + tail).addcmul_(tail, marginal.to(work), value=-1).scatter_add_(-1, ids, -p)
        return loss, q_all.to(logits.dtype)
    rest = (1 - q.sum(-1, keepdim=True)).clamp(min=1e-6)
    loss = loss - (tail * rest.log()).squeeze(-1)
    q_all.mul_(mass - tail * (1 - rest) / rest).scatter_(-1, ids, q * (mass + tail) - p)
    return loss, q_all.to(logits.dtype)


def mean_over_texts(loss: Float[Tensor, " n"], text: Int[Tensor, " n"], texts: int) -> Float[Tensor, ""]:
    """Mean over texts of the mean over each text's positions, so that neither padding nor batching changes the result.

    text: which text (0 to texts - 1) a position belongs to.
    """
    sums = loss.new_zeros(texts).index_add(0, text, loss)
    counts = loss.new_zeros(texts).index_add(0, text, torch.ones_like(loss))
    return (sums / counts.clamp(min=1)).mean()
