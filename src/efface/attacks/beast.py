"""BEAST: a suffix that the model writes itself, by beam search, without a gradient (arXiv 2402.15570).

Every beam is continued by tokens sampled from the model's own prediction, so that the suffix reads as text; those beams go on
behind which the wanted opening is likeliest.
"""

import torch
from torch import Tensor

from efface.attacks.suffix import Wanted
from efface.lm.cache import Ids
from efface.lm.layers import bare
from efface.progress import Bar


def beast(wanted: Wanted, beams: int, tokens: int, seed: int = 0) -> Ids:
    """The suffix of at most so many tokens with the least loss that was met.

    beams: how many go on at every step, and by how many tokens each is continued (``k1 = k2``).
    """
    generator, alive, met = torch.Generator().manual_seed(seed), [list[int]()], list[tuple[float, Ids]]()
    with Bar("beast", tokens) as bar:
        for step in range(tokens):
            drawn = sampled(next_logits(wanted, alive, step), wanted.allowed, beams, generator)
            longer = [[*beam, token] for beam, of in zip(alive, drawn, strict=True) for token in of]
            found = wanted.best(wanted.typed(longer), beams)
            if not found:  # no text goes on from here
                break
            alive = [suffix for _, suffix in found]
            met.append(found[0])
            bar.step(f"{min(met)[0]:.2f} nats")
    return min(met)[1] if met else []


@torch.no_grad()
def next_logits(wanted: Wanted, suffixes: list[Ids], step: int) -> Tensor:
    """What the model says follows each suffix ``[suffixes, vocab]``, behind one of the questions, another one at every step."""
    model, before = wanted.subject.model, wanted.slots[step % len(wanted.slots)].before
    ids = torch.tensor([before + suffix for suffix in suffixes], device=bare(model).device)  # all of one length
    logits: Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
    return logits.float().cpu()


def sampled(logits: Tensor, allowed: Tensor, count: int, generator: torch.Generator) -> list[list[int]]:
    """So many different tokens for every row, drawn at temperature 1 without putting back; none that is barred.

    The largest of ``logits + g`` with Gumbel noise ``g`` are such a draw.
    """
    noise = -torch.log(-torch.log(torch.rand(logits.shape, generator=generator, dtype=torch.float64)))
    keys = (logits.double() + noise).masked_fill(~allowed[: logits.shape[-1]], -torch.inf)
    found = keys.topk(min(count, logits.shape[-1]))
    return [
        [token for token, key in zip(of, values, strict=True) if key > -torch.inf]
        for of, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]
