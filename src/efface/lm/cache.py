"""Key/value caches: one that grows without copying, and one that starts with a prefix computed once.

Both keep every position, also for layers that look back only so far: the model's own mask hides from such a layer what it
must not see.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from efface.errors import ModelError
from efface.shown import complain

Ids = list[int]
#: tokens that a buffer has room for behind its first ones
ROOM = 64
ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values ``[batch, heads, seq, size]`` as views of larger buffers, so that a new token is written, not appended."""

    keys: Tensor
    values: Tensor
    room: tuple[Tensor, Tensor] | None = None

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind the old ones; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.get_seq_length()
        length = old + key_states.shape[-2]
        if self.room is None or length > self.room[0].shape[-2]:
            before = (self.keys, self.values) if old else (key_states[..., :0, :], value_states[..., :0, :])
            self.room = (_with_room(before[0], length + self.more), _with_room(before[1], length + self.more))
        for buffer, new in zip(self.room, (key_states, value_states), strict=True):
            buffer[..., old:length, :] = new
        self.keys, self.values = (buffer[..., :length, :] for buffer in self.room)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        if self.room is not None:
            length, rows = self.get_seq_length(), beam_idx.to(self.room[0].device)
            self.room = (self.room[0][rows], self.room[1][rows])
            self.keys, self.values = (buffer[..., :length, :] for buffer in self.room)


def _with_room(states: Tensor, length: int) -> Tensor:
    """A buffer of this length that begins with ``states``."""
    batch, heads, old, size = states.shape
    buffer = states.new_empty(batch, heads, length, size)
    buffer[..., :old, :] = states
    return buffer


def roomy_cache(model: PreTrainedModel, more: int = ROOM) -> DynamicCache:
    """An empty cache for this model, its attention layers with room; other kinds of layers as transformers makes them.

    more: tokens that there is room for behind those that come first.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(more) if type(layer) in ATTENTION else layer for layer in cache.layers]
    return cache


@torch.no_grad()
def require_cache(model: PreTrainedModel, ids: Ids) -> None:
    """Raises ModelError for a model that does not read on from the keys and values of a text where it stopped.

    What it says then is what it says of the last token alone, or nearer to that than to what it says of the whole text.
    ids: of any text, two tokens or more.
    """
    row, mask = torch.tensor([ids], device=model.device), torch.ones(1, len(ids), dtype=torch.long, device=model.device)
    try:
        cache = roomy_cache(model)
        model(input_ids=row[:, :-1], attention_mask=mask[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        place = torch.full((1, 1), len(ids) - 1, device=model.device)
        options = {"attention_mask": mask, "position_ids": place, "past_key_values": cache}
        on = model(input_ids=row[:, -1:], use_cache=True, logits_to_keep=1, **options).logits[0, -1]
        whole, alone = (model(input_ids=of, use_cache=False, logits_to_keep=1).logits[0, -1] for of in (row, row[:, -1:]))
        usable = distance(on, whole) < max(0.1, distance(alone, whole) / 2)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        usable = False
    if not usable:
        kind = type(model).__name__
        raise ModelError(f"{kind} cannot go on with a text from keys and values, as guided sampling does; set fluency.weight 0")


def distance(one: Tensor, other: Tensor) -> float:
    """Between the distributions of two rows of logits ``[vocab]``: 0 for the same, at most 2."""
    return float((one.float().softmax(-1) - other.float().softmax(-1)).abs().sum())


def left_pad(rows: Sequence[Ids], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths, padded on the left: token ids and mask ``[rows, longest]``."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


class SharedPrefixes:
    """Prefixes read once; any batch of texts can then stand behind any of them.

    A prefix is cached without its last token, which is read again with each text, because it predicts the text's first token.
    Where a model's attention does not allow it (a check on construction finds out), ``usable`` is False.
    """

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel, prefixes: Sequence[Ids], pad: int) -> None:
        self.model = model
        self.index = {tuple(row): i for i, row in enumerate(dict.fromkeys(map(tuple, prefixes)))}
        rows = [list(row[:-1]) for row in self.index]
        self.longest = max(map(len, rows))
        device = model.device
        ids, self.mask = left_pad(rows, pad, device)
        self.lengths = self.mask.sum(1)
        self.filled = roomy_cache(model)
        self.usable = self.longest > 0
        if self.usable:
            try:
                at = (self.mask.cumsum(-1) - 1).clamp(min=0)
                options = {"attention_mask": self.mask, "position_ids": at, "past_key_values": self.filled}
                model(input_ids=ids, use_cache=True, logits_to_keep=1, **options)
                self.usable = self._agrees()
            except torch.OutOfMemoryError:
                raise
            except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
                self.usable = False
            if not self.usable:
                complain("this model cannot share prefixes; they are read again with every text")

    def before(self, prefixes: Sequence[Ids], mask: Tensor) -> dict[str, Any]:
        """What the model needs besides the token ids to read texts behind these prefixes, one a row.

        mask: ``[batch, seq]`` of the texts, each of which begins with its prefix's last token.
        """
        which = torch.tensor([self.index[tuple(row)] for row in prefixes], device=self.mask.device)
        cache = roomy_cache(self.model)
        for i, layer in enumerate(self.filled.layers):
            rows = which.to(layer.keys.device)
            cache.update(layer.keys[rows], layer.values[rows], i)
        positions = self.lengths[which, None] + torch.arange(mask.shape[1], device=mask.device)
        return {
            "attention_mask": torch.cat([self.mask[which], mask], dim=1),
            "position_ids": positions,
            "past_key_values": cache,
        }

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Whether the shortest prefix, the most padded one, and a text behind it are read as they are without a cache."""
        model, row = self.model, list(sorted(self.index, key=len)[0])
        text = [row[-1], *row]
        behind = self.before([row], torch.ones(1, len(text), dtype=torch.long, device=model.device))
        one = model(input_ids=torch.tensor([text], device=model.device), logits_to_keep=1, **behind).logits[0, -1]
        other = model(input_ids=torch.tensor([row[:-1] + text], device=model.device), use_cache=False, logits_to_keep=1)
        return distance(one, other.logits[0, -1]) < 0.1
