"""GCG: a suffix found token by token, where the gradient says which exchange might help (arXiv 2307.15043).

The gradient of the loss with respect to the one-hot rows of the suffix is a first guess of what every other token would change.
Of many such exchanges, drawn from the best of each place, the one with the least loss is kept.
"""

import torch
from torch import Tensor, nn

from efface.attacks.suffix import Slot, Wanted
from efface.data.targets import text_states
from efface.lm.cache import Ids
from efface.lm.layers import bare
from efface.lm.states import output_head, plain_attention
from efface.progress import Bar

TOKENS, TOP = 20, 256


def gcg(wanted: Wanted, candidates: int, steps: int, seed: int = 0) -> Ids:
    """The suffix with the least loss that was met, begun at `` x x x …``. candidates: exchanges tried in every step."""
    generator, now = torch.Generator().manual_seed(seed), wanted.start(TOKENS)
    met = wanted.best([now], 1)
    with Bar("gcg", steps) as bar:
        for _ in range(steps):
            hopeful = promising(gradient(wanted, now), wanted.allowed)
            if found := wanted.best(wanted.typed(exchanged(now, hopeful, candidates, generator)), 1):
                now = found[0][1]
                met = [min(*met, *found)] if met else found
            bar.step(f"{met[0][0]:.2f} nats" if met else "")
    return met[0][1] if met else now


def gradient(wanted: Wanted, suffix: Ids) -> Tensor:
    """Of the loss with respect to the one-hot rows of the suffix ``[tokens, vocab]``, at the suffix."""
    whole = bare(wanted.subject.model)
    embedding = whole.get_input_embeddings()
    by_state = torch.stack([_by_state(wanted, suffix, slot) for slot in wanted.slots]).mean(0)
    with torch.no_grad():
        table = embedding(torch.arange(len(wanted.allowed), device=embedding.weight.device))
        found: Tensor = by_state @ table.float().T  # what an embedding does besides looking up is in both
    return found


def _by_state(wanted: Wanted, suffix: Ids, slot: Slot) -> Tensor:
    """Of one question's loss with respect to the embedded suffix ``[tokens, size]``."""
    model, entered = wanted.subject.model, list[Tensor]()

    def enter(_: nn.Module, __: object, states: Tensor) -> Tensor:
        entered.append(states.detach().requires_grad_())
        return entered[-1]

    hook = bare(model).get_input_embeddings().register_forward_hook(enter)
    try:
        with torch.enable_grad(), plain_attention(model):
            logits = output_head(model)(text_states(model, [slot.text(suffix)], wanted.pad)).float()
            loss = nn.functional.cross_entropy(logits, torch.tensor(slot.opening, device=logits.device))
            (found,) = torch.autograd.grad(loss, entered[:1])
    finally:
        hook.remove()
    return found[0, len(slot.before) : len(slot.before) + len(suffix)].float()


def promising(gradients: Tensor, allowed: Tensor) -> Tensor:
    """The tokens of the least gradient in every place ``[tokens, top]``, none that is barred."""
    count = min(TOP, int(allowed.sum()))
    return gradients.cpu().masked_fill(~allowed, torch.inf).topk(count, largest=False).indices


def exchanged(suffix: Ids, hopeful: Tensor, count: int, generator: torch.Generator) -> list[Ids]:
    """Copies of the suffix with one token exchanged for a promising one of its place."""
    places = torch.randint(len(suffix), (count,), generator=generator)
    ranks = torch.randint(hopeful.shape[1], (count,), generator=generator)
    new = hopeful[places, ranks].tolist()
    found = [[*suffix[:place], token, *suffix[place + 1 :]] for place, token in zip(places.tolist(), new, strict=True)]
    return [row for row in found if row != suffix]
