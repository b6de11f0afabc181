"""The erased distribution and its sparse form: pure tensor mathematics.

Source: Gandikota et al., "Erasing Conceptual Knowledge from Language Models", arXiv 2410.02760, section 4::

    log p_erased(x_t) = log p(x_t|x_<t) + eta * [ log p(x_t|c+, x_<t) - log p(x_t|c-, x_<t) ] + const

with c+ the novice and c- the expert persona. Training targets and decoding-time guidance both call :func:`erased_logprobs`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def erased_logprobs(
    base: Float[Tensor, "*batch vocab"],
    expert: Float[Tensor, "*batch vocab"],
    novice: Float[Tensor, "*batch vocab"],
    *,
    eta: float | Float[Tensor, "*batch 1"],
    temperature: float = 1.0,
    top_k: int | None = None,
    candidates: int | None = None,
    min_p: float = 0.0,
) -> Float[Tensor, "*batch vocab"]:
    """Tilt the base distribution from expert to novice; returns normalised log-probabilities.

    base, expert, novice: logits (any constant may be added to a row) ``[..., vocab]``.
    eta: strength of the tilt, a number or one per position ``[..., 1]``; negative enhances the concept.
    temperature: divides all three logits before the tilt.
    top_k: keep the k likeliest tokens after the tilt.
    candidates: only the k tokens likeliest under the base can be chosen at all.
    min_p: only tokens at least this likely relative to the base's likeliest can be chosen.
    """
    log_p = (base / temperature).log_softmax(-1)
    tilted = log_p + eta * ((novice / temperature).log_softmax(-1) - (expert / temperature).log_softmax(-1))
    if candidates is not None and candidates < log_p.shape[-1]:
        tilted = _keep_top(tilted, log_p, candidates)
    if min_p > 0:
        floor = base.log_softmax(-1)
        tilted = tilted.masked_fill(floor < floor.amax(-1, keepdim=True) + torch.tensor(min_p).log(), -torch.inf)
    if top_k is not None and top_k < log_p.shape[-1]:
        tilted = _keep_top(tilted, tilted, top_k)
    return tilted.log_softmax(-1)


def _keep_top(values: Float[Tensor, "*batch vocab"], by: Float[Tensor, "*batch vocab"], k: int) -> Float[Tensor, "*batch vocab"]:
    kept = by.topk(k, dim=-1).indices
    return torch.full_like(values, -torch.inf).scatter(-1, kept, values.gather(-1, kept))


def eta_schedule(length: int, eta: float, schedule: str) -> Float[Tensor, "{length} 1"]:
    """eta for each predicted token of one text: constant, or rising in equal steps from 1 to eta ("ramp")."""
    if schedule == "ramp":
        return torch.linspace(1.0, eta, length)[:, None]
    return torch.full((length, 1), float(eta))


@dataclass(frozen=True)
class SparseTarget:
    """Distributions over the vocabulary, kept as their likeliest tokens and the mass of all others.

    ids ``[n, k]``, logprobs ``[n, k]`` (natural logarithm, -inf for a token that is not used), tail ``[n]``: mass of the rest.
    """

    ids: Int[Tensor, "n k"]
    logprobs: Float[Tensor, "n k"]
    tail: Float[Tensor, " n"]

    @classmethod
    def from_logprobs(cls, logprobs: Float[Tensor, "n vocab"], k: int) -> "SparseTarget":
        """Keep the k likeliest tokens of each row (all of them, and no tail, if k reaches the vocabulary)."""
        if k >= logprobs.shape[-1]:
            ids = torch.arange(logprobs.shape[-1], device=logprobs.device).expand_as(logprobs)
            return cls(ids.int(), logprobs, logprobs.new_zeros(len(logprobs)))
        top = logprobs.topk(k, dim=-1)
        return cls(top.indices.int(), top.values, (1 - top.values.exp().sum(-1)).clamp(min=0))

    @classmethod
    def one_hot(cls, labels: Int[Tensor, " n"]) -> "SparseTarget":
        """All mass on one token a row: hard labels."""
        return cls(labels.int()[:, None], torch.zeros(len(labels), 1), torch.zeros(len(labels)))

    @classmethod
    def cat(cls, parts: "list[SparseTarget]") -> "SparseTarget":
        """All rows of several targets of the same k, one after the other."""
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.logprobs for part in parts]),
            torch.cat([part.tail for part in parts]),
        )

    def to(self, device: torch.device | str) -> "SparseTarget":
        """The same target on another device."""
        return SparseTarget(self.ids.to(device), self.logprobs.to(device), self.tail.to(device))

    def __len__(self) -> int:
        return len(self.ids)
