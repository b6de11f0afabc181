"""What the frozen teacher says on texts, from the store or computed in length-sorted batches.

An entry of the store keeps the likeliest tokens at every place; a retain text's also has its part in the mean of the teacher's
predictions. The tilted ones are in :mod:`efface.data.tilted_targets`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from efface.data.batches import places, right_pad
from efface.data.store import Store, Tensors
from efface.data.text import Text
from efface.lm.layers import bare, teacher
from efface.lm.states import output_head, output_states, plain_attention
from efface.losses import chunk_size
from efface.targets import SparseTarget

SHARD = 32  # texts of an entry in the store, of similar length
TOKENS = 2048  # of a batch


@dataclass(frozen=True)
class Said:
    """What the frozen model says on some texts: its distribution at every predicted token of each, and their mean ``[vocab]``."""

    targets: list[SparseTarget]
    mean: Tensor


@torch.no_grad()
def retain_targets(model: PreTrainedModel, store: Store, texts: Sequence[Text], pad: int, *, k: int) -> Said:
    """The teacher's k likeliest tokens at every predicted token of every text, and the mean of its whole distributions."""
    head = output_head(model)

    def make(texts: list[Text]) -> Tensors:
        total = torch.zeros(0, dtype=torch.float64)

        def sparse(states: Tensor) -> Tensors:
            nonlocal total
            logprobs = head(states).float().log_softmax(-1)
            target = vars(SparseTarget.from_logprobs(logprobs, k))
            said = logprobs.exp().sum(0).double().cpu()
            total = said if not len(total) else total + said
            return target

        def read(rows: list[Text], _: list[int]) -> Tensors:
            with reading(model) as base:
                return in_chunks(sparse, text_states(base, rows, pad))

        return {**in_batches(texts, read), "sum": total}

    targets, total = dict[int, SparseTarget](), torch.zeros(())
    for shard, entry in _entries(store, "retain", texts, {"k": k, "sum": True}, make):
        total = total + entry["sum"]
        rows = {name: of for name, of in entry.items() if name != "sum"}
        targets |= by_text(SparseTarget(**rows), texts, shard)
    return Said([targets[i] for i in range(len(texts))], (total / total.sum()).float())


def token_logprobs(model: PreTrainedModel, store: Store, texts: Sequence[Text], pad: int) -> list[Tensor]:
    """The teacher's log-probability of every predicted token of every text ``[n]``."""
    head = output_head(model)

    def read(states: Tensor, labels: Tensor) -> Tensors:
        logits = head(states).float()
        return {"logprobs": logits.gather(-1, labels.to(logits.device)[:, None])[:, 0] - logits.logsumexp(-1)}

    def make(rows: list[Text]) -> Tensors:
        labels = torch.tensor([token for row in rows for token in row.ids[row.start :]])
        with reading(model) as base:
            states = text_states(base, rows, pad)
        return in_chunks(read, states, labels.to(states.device))

    return [entry["logprobs"] for entry in from_store(store, "reference", texts, {}, make)]


@torch.no_grad()
def from_store(
    store: Store,
    kind: str,
    texts: Sequence[Text],
    enters: Mapping[str, Any],
    make: Callable[[list[Text]], Tensors],
    first: Callable[[], None] | None = None,
) -> list[Tensors]:
    """Tensors ``[n, …]`` over the n predicted tokens of every text, from the store or made in batches of similar length.

    enters: what decides them besides the texts; make: those of some texts, one after the other; first: called before any is made.
    """
    found: dict[int, Tensors] = {}
    for shard, entry in _entries(store, kind, texts, enters, lambda of: in_batches(of, lambda rows, _: make(rows)), first):
        counts = [len(texts[i].ids) - texts[i].start for i in shard]
        split = {name: torch.split(tensor, counts) for name, tensor in entry.items()}
        found |= {i: {name: of[place] for name, of in split.items()} for place, i in enumerate(shard)}
    return [found[i] for i in range(len(texts))]


def _entries(
    store: Store,
    kind: str,
    texts: Sequence[Text],
    enters: Mapping[str, Any],
    make: Callable[[list[Text]], Tensors],
    first: Callable[[], None] | None = None,
) -> list[tuple[list[int], Tensors]]:
    """Indices of the texts of each entry, and what the store keeps of them; as in :func:`from_store`."""
    shards = by_length(texts)
    parts = [{"texts": [[texts[i].ids, texts[i].start] for i in shard], **enters} for shard in shards]
    if first is not None and store.lacks(kind, parts):
        first()
    made = store.entries(kind, parts, lambda shard: make([texts[i] for i in shards[shard]]))
    return list(zip(shards, made, strict=True))


@contextmanager
def reading(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The teacher while it reads texts."""
    with teacher(model) as base, plain_attention(base):
        yield base


def text_states(model: nn.Module, texts: Sequence[Text], pad: int) -> Tensor:
    """States ``[n, size]`` that predict each text's tokens from its start on, text after text; n of them in all."""
    ids, mask = right_pad([text.ids for text in texts], pad, bare(model).device)
    return output_states(model, *places(texts), input_ids=ids, attention_mask=mask)


def in_chunks(make: Callable[..., Tensors], *tensors: Tensor) -> Tensors:
    """Apply ``make`` to a few rows of all tensors at a time; its results, joined, on the processor.

    Half as many as where a loss is computed, for a target takes several distributions over the vocabulary. Results are written
    where they will stay: kept piece by piece between the large temporary ones, they would break up the heap.
    """
    size, count, joined = chunk_size(tensors[0].device) // 2, len(tensors[0]), dict[str, Tensor]()
    for first in range(0, count, size):
        for name, part in make(*(tensor[first : first + size] for tensor in tensors)).items():
            if name not in joined:
                joined[name] = part.new_empty(count, *part.shape[1:], device="cpu")
            joined[name][first : first + size] = part
    return joined


def by_length(texts: Sequence[Text]) -> list[list[int]]:
    """Indices of the texts of each entry, sorted by length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
    return [order[i : i + SHARD] for i in range(0, len(order), SHARD)]


def by_text(target: SparseTarget, texts: Sequence[Text], shard: Sequence[int]) -> dict[int, SparseTarget]:
    """The target of each text of a shard, by its index."""
    return dict(zip(shard, target.split([len(texts[i].ids) - texts[i].start for i in shard]), strict=True))


def in_batches(texts: Sequence[Text], make: Callable[[list[Text], list[int]], Tensors]) -> Tensors:
    """Apply ``make`` to texts of similar length, and their indices, about TOKENS tokens at a time; results in their order."""
    batches: list[list[int]] = [[]]
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i].ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(texts[i].ids) > TOKENS:
            batches.append([])
        batches[-1].append(i)
    rows: dict[int, list[Tensor]] = {}
    names: list[str] = []
    for batch in batches:
        made = make([texts[i] for i in batch], batch)
        names, counts = list(made), [len(texts[i].ids) - texts[i].start for i in batch]
        rows.update(zip(batch, map(list, zip(*(torch.split(made[name], counts) for name in names), strict=True)), strict=True))
    return {name: torch.cat([rows[i][j] for i in range(len(texts))]) for j, name in enumerate(names)}
