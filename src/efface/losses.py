"""The terms of the loss: pure tensor mathematics.

All three terms are one formula, the cross-entropy of the student to a target distribution; they differ in the target:

=========  ======================================  ==========================
term       on                                      target
=========  ======================================  ==========================
erase      forget corpus                           the tilted teacher
retain     retain corpus                           the teacher (soft), or its likeliest token (hard)
fluency    texts sampled from the tilted teacher   the sampled token
=========  ======================================  ==========================
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efface.targets import SparseTarget

CHUNK = 256  # positions whose logits are held in float32 at a time


def cross_entropy(logits: Float[Tensor, "n vocab"], target: SparseTarget) -> Float[Tensor, " n"]:
    """``- sum_x target(x) log student(x)`` in nats at each of n positions.

    Tokens outside the target's list count as one lumped token of mass ``tail``, so a target that lists the whole vocabulary
    gives the exact cross-entropy, and a one-hot target the usual next-token loss.
    """
    loss: Tensor = _SparseCrossEntropy.apply(logits, target.ids, target.logprobs, target.tail)  # type: ignore[no-untyped-call]
    return loss


class _SparseCrossEntropy(torch.autograd.Function):
    """The formula in chunks of positions, with its gradient written out, so that nothing of size n x vocab is kept in float32.

    With student probabilities q, listed target probabilities p of sum P, tail t, listed student mass S and the rest r = 1 - S::

        loss   = - sum_listed p log q - t log r
        d/dz_j = q_j (P + t) - p_j   if j is listed,   q_j (P - t S / r)   if not
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, logprobs: Tensor, tail: Tensor) -> Tensor:
        ctx.save_for_backward(logits, ids, logprobs, tail)
        return torch.cat([_listed(*chunk)[0] for chunk in _chunks(logits, ids, logprobs, tail)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        logits, ids, logprobs, tail = ctx.saved_tensors
        out = torch.empty_like(logits)
        pieces = _chunks(logits, ids, logprobs, tail)
        chunks = zip(pieces, torch.split(out, CHUNK), torch.split(grads[0], CHUNK), strict=True)
        for (z, chunk_ids, chunk_logprobs, chunk_tail), into, grad in chunks:
            _, log_z, q, p, rest = _listed(z, chunk_ids, chunk_logprobs, chunk_tail)
            mass, t = p.sum(-1, keepdim=True), chunk_tail[:, None]
            d = (z - log_z).exp_().mul_(grad[:, None] * (mass - t * (1 - rest) / rest))
            d.scatter_(-1, chunk_ids.long(), grad[:, None] * (q * (mass + t) - p))
            into.copy_(d)
        return out, None, None, None


def _chunks(*tensors: Tensor) -> "zip[tuple[Tensor, ...]]":
    """Row-wise pieces; logits in at least float32."""
    logits, *rest = tensors
    dtype = torch.promote_types(logits.dtype, torch.float32)
    pieces = (piece.to(dtype) for piece in torch.split(logits, CHUNK))
    return zip(pieces, *(torch.split(tensor, CHUNK) for tensor in rest), strict=True)


def _listed(z: Tensor, ids: Tensor, logprobs: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Loss ``[n]``, log-normaliser ``[n, 1]``, q and p of the listed tokens ``[n, k]``, rest of q ``[n, 1]``."""
    log_z = z.logsumexp(-1, keepdim=True)
    log_q = z.gather(-1, ids.long()) - log_z
    q, p = log_q.exp(), logprobs.to(z.dtype).exp()
    rest = (1 - q.sum(-1, keepdim=True)).clamp(min=1e-6)
    loss = -torch.where(p > 0, p * log_q, 0).sum(-1) - tail * rest.log().squeeze(-1)
    return loss, log_z, q, p, rest


def mean_over_texts(loss: Float[Tensor, " n"], text: Int[Tensor, " n"], texts: int) -> Float[Tensor, ""]:
    """Mean over texts of the mean over each text's positions, so that neither padding nor batching changes the result.

    text: which text (0 to texts - 1) a position belongs to.
    """
    sums = loss.new_zeros(texts).index_add(0, text, loss)
    counts = loss.new_zeros(texts).index_add(0, text, torch.ones_like(loss))
    return (sums / counts.clamp(min=1)).mean()
