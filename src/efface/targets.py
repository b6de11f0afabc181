"""The erased distribution and its sparse form: pure tensor mathematics.

Source: Gandikota et al., "Erasing Conceptual Knowledge from Language Models", arXiv 2410.02760, section 4::

    log p_erased(x_t) = log p(x_t|x_<t) + eta * [ log p(x_t|c+, x_<t) - log p(x_t|c-, x_<t) ] + const

with c+ the novice and c- the expert persona. Training targets and decoding-time guidance both call :func:`erased_logprobs`.
"""

import math
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
    min_p: float = 0.0,
) -> Float[Tensor, "*batch vocab"]:
    """Tilt the base distribution from expert to novice; returns normalised log-probabilities.

    Logits stand in for the log-probabilities of the formula: what normalises each of the three is a constant of its row.

    base, expert, novice: logits (any constant may be added to a row) ``[..., vocab]``.
    eta: strength of the tilt, a number or one per position ``[..., 1]``; negative enhances the concept.
    temperature: divides all three logits before the tilt.
    top_k: keep the k likeliest tokens after the tilt.
    min_p: only tokens at least this likely relative to the base's likeliest can be chosen.
    """
    tilted = (base + eta * (novice - expert)) / temperature
    if min_p > 0:
        tilted = tilted.masked_fill(base < base.amax(-1, keepdim=True) + math.log(min_p), -torch.inf)
    if top_k is not None and top_k < tilted.shape[-1]:
        kept = tilted.topk(top_k, dim=-1).indices
        tilted = torch.full_like(tilted, -torch.inf).scatter(-1, kept, tilted.gather(-1, kept))
    return tilted.log_softmax(-1)


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
        zeros = torch.zeros(len(labels), 1, device=labels.device)
        return cls(labels.int()[:, None], zeros, zeros[:, 0])

    @classmethod
    def cat(cls, parts: "list[SparseTarget]") -> "SparseTarget":
        """All rows of several targets of the same k, one after the other."""
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.logprobs for part in parts]),
            torch.cat([part.tail for part in parts]),
        )

    def likeliest(self) -> Int[Tensor, " n"]:
        """The likeliest token of each row."""
        return self.ids.gather(-1, self.logprobs.argmax(-1, keepdim=True))[:, 0]

    def mixed(self, share: float) -> "SparseTarget":
        """All probabilities times 1 - share; the share goes to the tail, to be spread with what was there already."""
        rest = math.log1p(-share) if share < 1 else -math.inf
        return SparseTarget(self.ids, self.logprobs + rest, self.tail * (1 - share) + share)

    def split(self, counts: list[int]) -> "list[SparseTarget]":
        """Consecutive rows, ``counts`` of them at a time."""
        parts = (torch.split(tensor, counts) for tensor in (self.ids, self.logprobs, self.tail))
        return [SparseTarget(*part) for part in zip(*parts, strict=True)]

    def __getitem__(self, rows: slice) -> "SparseTarget":
        return SparseTarget(self.ids[rows], self.logprobs[rows], self.tail[rows])

    def to(self, device: torch.device | str) -> "SparseTarget":
        """The same target on another device."""
        return SparseTarget(self.ids.to(device), self.logprobs.to(device), self.tail.to(device))

    def __len__(self) -> int:
        return len(self.ids)
