"""Log-likelihoods of what may follow a context, where everything that texts share is read once.

What all contexts begin with is read into a key/value cache. The choices of a question stand behind each other in one row after
its context, and a mask lets each of them see the context and itself. A model that cannot (a check finds out) reads every choice
behind its whole context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from efface.auditing.batches import at_once
from efface.data.batches import right_pad
from efface.data.targets import in_chunks, text_states
from efface.data.text import Text
from efface.lm.cache import Ids, SharedPrefixes, distance
from efface.lm.layers import bare, text_config
from efface.lm.states import output_head, output_states, plain_attention

TOKENS = 2048  # of a batch
SHORTEST = 8  # prefix that is worth a cache
#: places in a configuration that say how far back a layer looks; our own mask does not tell it so
WINDOWS = ("sliding_window", "attention_chunk_size")


@dataclass(frozen=True)
class Branches:
    """A context and what may follow it, as token ids; none of them is empty."""

    context: Ids
    choices: tuple[Ids, ...]

    @property
    def longest(self) -> int:
        """Tokens of the context with its longest choice."""
        return len(self.context) + max(map(len, self.choices))


@torch.no_grad()
def log_likelihoods(model: nn.Module, rows: Sequence[Branches], pad: int, share: "bool | Together" = True) -> list[list[float]]:
    """Summed log-probability (nats) of every choice behind its context, row by row, in their order.

    share: whether what texts share is read once, else each choice is read behind its whole context; or what has read it already.
    """
    head = output_head(model)

    def predicted(states: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = head(states).float()
        return {"logprobs": logits.gather(-1, labels.to(logits.device)[:, None])[:, 0] - logits.logsumexp(-1)}

    def read(of: Sequence[Branches]) -> list[list[float]]:
        states = together.states(of) if together and together.usable else apart(model, of, pad)
        labels = torch.tensor([token for row in of for choice in row.choices for token in choice])
        logprobs = in_chunks(predicted, states, labels.to(states.device))["logprobs"].double()
        counts = [len(choice) for row in of for choice in row.choices]
        sums = iter([part.sum().item() for part in torch.split(logprobs, counts)])
        return [list(islice(sums, len(row.choices))) for row in of]

    found = dict[int, list[float]]()
    with plain_attention(model):
        together = share if isinstance(share, Together) else Together(model, rows, pad) if share else None
        for batch in batches(rows):
            found |= zip(batch, at_once([rows[i] for i in batch], read), strict=True)
    return [found[i] for i in range(len(rows))]


def batches(rows: Sequence[Branches]) -> list[list[int]]:
    """Indices of rows of similar length, about TOKENS tokens of them a batch."""
    lengths = [len(row.context) + sum(map(len, row.choices)) for row in rows]
    found: list[list[int]] = [[]]
    for i in sorted(range(len(rows)), key=lengths.__getitem__):
        if found[-1] and (len(found[-1]) + 1) * lengths[i] > TOKENS:
            found.append([])
        found[-1].append(i)
    return found


def common(rows: Sequence[Ids]) -> Ids:
    """What all of these begin with."""
    low, high = min(rows), max(rows)
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:n]


def apart(model: nn.Module, rows: Sequence[Branches], pad: int) -> Tensor:
    """States ``[n, size]`` that predict the tokens of every choice of every row, each choice read behind its whole context."""
    return text_states(model, [Text(row.context + choice, len(row.context)) for row in rows for choice in row.choices], pad)


class Together:
    """The same states with all choices of a context in one row, behind a prefix that was read once."""

    def __init__(self, model: nn.Module, rows: Sequence[Branches], pad: int) -> None:
        self.model, self.pad = model, pad
        config = text_config(model)
        window = min((of for name in WINDOWS if (of := getattr(config, name, None))), default=None)
        longest = max(rows, key=lambda row: row.longest)
        self.usable = window is None or longest.longest <= window
        self.prefix = common([row.context for row in rows])
        shared = SharedPrefixes(model, [self.prefix], pad) if self.usable and len(self.prefix) >= SHORTEST else None  # type: ignore[arg-type]
        self.shared = shared if shared and shared.usable else None
        self.usable = self.usable and self._agrees(longest)

    def states(self, rows: Sequence[Branches]) -> Tensor:
        """As :func:`apart`."""
        cut = len(self.prefix) - 1 if self.shared else 0  # the prefix's last token is read again
        ids, segments, positions, at = [], [], [], []
        for row, of in enumerate(rows):
            context = of.context[cut:]
            ids.append(context + [token for choice in of.choices for token in choice[:-1]])
            segments.append([0] * len(context) + [k for k, choice in enumerate(of.choices, 1) for _ in choice[1:]])
            positions.append([*range(len(context)), *(len(context) + t for choice in of.choices for t in range(len(choice) - 1))])
            place = len(context)
            for choice in of.choices:
                at += [(row, len(context) - 1), *((row, place + t) for t in range(len(choice) - 1))]
                place += len(choice) - 1
        device = bare(self.model).device
        tokens, mask = right_pad(ids, self.pad, device)
        inputs = self.shared.before([self.prefix] * len(rows), mask) if self.shared else {}
        inputs["position_ids"] = right_pad(positions, 0, device)[0] + cut
        inputs["attention_mask"] = self._mask(right_pad(segments, -1, device)[0], cut)
        return output_states(self.model, *torch.tensor(at).T, input_ids=tokens, **inputs)

    def _mask(self, segments: Tensor, before: int) -> Tensor:
        """What is added to scores ``[rows, 1, seq, before + seq]``.

        A token sees the prefix, the row's context (segment 0) and its own choice.
        """
        seen = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
        seen = nn.functional.pad(seen.tril(), (before, 0), value=True)
        dtype = bare(self.model).dtype
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]

    @torch.no_grad()
    def _agrees(self, row: Branches) -> bool:
        """Whether the last choice of a row is read as it is read behind its context alone."""
        try:
            head, last = output_head(self.model), len(row.choices[-1])
            one, other = (head(of([row])[-last:]) for of in (self.states, lambda rows: apart(self.model, rows, self.pad)))
            return all(distance(a, b) < 0.1 for a, b in zip(one, other, strict=True))
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
