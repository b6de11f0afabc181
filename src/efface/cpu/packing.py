"""Batches without padding: the texts of a batch stand behind each other in one row, and each attends only to itself.

On a processor, where every padded position costs as much as a token. The lengths of the texts travel in the place of the
attention mask, in the four-dimensional form that transformers hands to every layer as it is.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

PACKED = "packed"
KNOWN = {"is_causal", "layer_idx", "position_ids", "position_embeddings", "use_cache", "cache_position", "past_key_values"}


def is_packed(model: PreTrainedModel) -> bool:
    """Whether the model attends text by text."""
    return bool(model.config._attn_implementation == PACKED)


def packed(rows: Tensor, cols: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A right-padded batch ``[batch, seq]`` as one row of all its tokens; where (row, col) stand now, and the model's inputs."""
    lengths, kept = attention_mask.sum(1), attention_mask.bool()
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    inputs = {
        "input_ids": input_ids[kept][None],
        "position_ids": positions[kept][None],
        "attention_mask": lengths[None, None, None],
    }
    return torch.zeros_like(rows), (lengths.cumsum(0) - lengths)[rows] + cols, inputs


@lru_cache(maxsize=4)
def _mask(length: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to scores ``[length, length]``: 0 where a token may look, minus infinity elsewhere."""
    back = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    hidden = (back < 0) | (back >= (window or length))
    return torch.zeros(length, length, dtype=dtype, device=device).masked_fill(hidden, -torch.inf)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each text: ``softmax(q k^T * scaling) v``, plainly, since texts are short.

    query ``[1, heads, seq, size]``; key, value ``[1, groups, seq, size]``; attention_mask: the lengths ``[1, 1, 1, texts]``,
    seq in all. Returns ``[1, seq, heads, size]``. Raises NotImplementedError for a kind of attention that it does not know.
    """
    if unknown := [name for name, value in options.items() if name not in KNOWN and value is not None]:
        raise NotImplementedError(f"attention with {', '.join(unknown)}")
    lengths: list[int] = attention_mask.flatten().tolist()
    mask = _mask(max(lengths), sliding_window, query.dtype, query.device)
    query = query[0] * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    texts = []
    for q, k, v in zip(*(torch.split(states, lengths, 1) for states in (query, key[0], value[0])), strict=True):
        groups, length = len(k), k.shape[1]
        scores = q.reshape(groups, -1, q.shape[-1]) @ k.transpose(1, 2)
        if softcap is not None:
            scores = (scores / softcap).tanh() * softcap
        weights = (scores.unflatten(1, (-1, length)) + mask[:length, :length]).softmax(-1)
        weights = nn.functional.dropout(weights, dropout, module.training).flatten(1, 2)
        texts.append((weights @ v).view(len(q), length, -1))
    return torch.cat(texts, 1).transpose(0, 1)[None], None


AttentionInterface.register(PACKED, packed_attention)
