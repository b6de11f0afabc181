"""Training examples, their order, and the batches made of them."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from efface.data.text import Text
from efface.targets import SparseTarget

TERMS = ("erase", "retain", "fluency")


@dataclass(frozen=True)
class Example:
    """A text with the target at each of its n predicted tokens.

    values ``[n, v]``: what else a method wants to know of every token. other: a text that is always read beside this one.
    """

    text: Text
    target: SparseTarget
    values: Tensor | None = None
    other: "Example | None" = None

    def __post_init__(self) -> None:
        assert len(self.target) == len(self.text.ids) - self.text.start

    def __iter__(self) -> "Iterator[Example]":
        yield self
        if self.other is not None:
            yield from self.other

    @property
    def tokens(self) -> int:
        """Predicted tokens."""
        return sum(len(example.target) for example in self)


def next_token_example(text: Text) -> Example:
    """A text that is its own target: every predicted token is a hard label."""
    return Example(text, SparseTarget.one_hot(torch.tensor(text.ids[text.start :])))


Item = dict[str, list[Example]]


class Schedule(Dataset[Item]):
    """Which texts meet in which step: each corpus goes round in an order of its own, shuffled anew (seeded) every time round.

    Item i holds one example of every term that has any, or as many as ``per_item`` says; the order is fixed, so the loader must
    not shuffle.
    """

    def __init__(
        self, corpora: Mapping[str, Sequence[Example]], length: int, seed: int, per_item: Mapping[str, int] | None = None
    ) -> None:
        self.corpora = {term: corpora[term] for term in TERMS if corpora.get(term)}
        self.per_item = {term: (per_item or {}).get(term, 1) for term in self.corpora}
        self.order = {
            term: _rounds(len(rows), length * self.per_item[term], f"{term} {seed}") for term, rows in self.corpora.items()
        }
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        item = {}
        for term, rows in self.corpora.items():
            count = self.per_item[term]
            item[term] = [rows[i] for i in self.order[term][index * count : (index + 1) * count]]
        return item


def weighted(parts: Sequence[tuple[Sequence[Example], int]]) -> Sequence[Example]:
    """The examples of several corpora, repeated as often as it takes for their numbers to stand in the ratio of the weights."""
    if len(parts) == 1:
        return parts[0][0]
    rounds = max(len(rows) / weight for rows, weight in parts)
    return [rows[i % len(rows)] for rows, weight in parts for i in range(round(rounds * weight))]


def _rounds(count: int, length: int, seed: str) -> list[int]:
    rng, order = random.Random(seed), list[int]()
    while len(order) < length:
        order += rng.sample(range(count), count)
    return order[:length]


@dataclass(frozen=True)
class Collator:
    """Stacks the texts of all terms into one right-padded batch, for one forward and one backward pass."""

    pad: int

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """Returns ``input_ids`` and ``attention_mask`` ``[batch, seq]`` and, for each term, where its targets belong.

        A term is a dict: ``rows``, ``cols`` (the logits that predict), ``text`` (index of the text) ``[n]``, the target's
        ``ids``, ``logprobs`` ``[n, k]`` and ``tail`` ``[n]``, and the examples' ``values`` ``[n, v]`` if they have any.
        """
        placed = [(term, part) for term in TERMS for item in items for example in item.get(term, ()) for part in example]
        ids, mask = right_pad([example.text.ids for _, example in placed], self.pad)
        batch: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        for term in TERMS:
            chosen = [(row, example) for row, (of, example) in enumerate(placed) if of == term]
            if chosen:
                batch[term] = _place(chosen)
        return batch


def only_terms(batch: Mapping[str, Any], terms: Sequence[str]) -> dict[str, Any]:
    """A batch of the texts of some terms only."""
    counts = [len(batch[term]["rows"]) for term in terms]
    used, rows = torch.unique(torch.cat([batch[term]["rows"] for term in terms]), return_inverse=True)
    longest = int(batch["attention_mask"][used].sum(1).max())
    cut = {name: batch[name][used, :longest] for name in ("input_ids", "attention_mask")}
    placed = {term: {**batch[term], "rows": of} for term, of in zip(terms, torch.split(rows, counts), strict=True)}
    return {name: value for name, value in batch.items() if name not in TERMS} | cut | placed


def _place(chosen: Sequence[tuple[int, Example]]) -> dict[str, Tensor]:
    target = SparseTarget.cat([example.target for _, example in chosen])
    text, cols = places([example.text for _, example in chosen])
    values = [example.values for _, example in chosen if example.values is not None]
    return {
        **({"values": torch.cat(values)} if values else {}),
        "rows": torch.tensor([row for row, _ in chosen])[text],
        "cols": cols,
        "text": text,
        "ids": target.ids,
        "logprobs": target.logprobs,
        "tail": target.tail,
    }


def right_pad(rows: Sequence[list[int]], pad: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Token ids and mask ``[rows, longest]``."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask


def places(texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """Which text, and where in it, for every state ``[n]`` that predicts a token."""
    spans = [torch.arange(text.start - 1, len(text.ids) - 1) for text in texts]
    return torch.arange(len(texts)).repeat_interleave(torch.tensor(list(map(len, spans)))), torch.cat(spans)
