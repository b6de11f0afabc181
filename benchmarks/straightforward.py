"""The method as one would first write it, to measure against: right, and slow.

One text at a time; every target computed anew over the whole vocabulary in double precision, each time its text comes up; three
losses, three backward passes; sampling in a batch of one, token by token, with a key/value cache for each of the three streams,
and the sampled tokens as what the texts teach.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, get_scheduler

from efface.data.batches import Schedule
from efface.data.text import Text
from efface.lm.layers import bare, teacher
from efface.recipe.recipe import Recipe
from efface.recipe.settings import EraseSettings, FluencySettings

Personas = tuple[list[int], list[int]]


def logits_of(model: nn.Module, ids: list[int], start: int) -> Tensor:
    """Logits ``[n, vocab]`` that predict the tokens of one text from ``start`` on."""
    out: Tensor = model(input_ids=torch.tensor([ids], device=bare(model).device), use_cache=False).logits
    return out[0, start - 1 : -1]


def tilt(base: Tensor, expert: Tensor, novice: Tensor, eta: Tensor | float, temperature: float, top_k: int | None) -> Tensor:
    """The erased distribution, written down once more, in double precision."""
    base, expert, novice = ((logits.double() / temperature).log_softmax(-1) for logits in (base, expert, novice))
    tilted = base + eta * (novice - expert)
    if top_k is not None:
        least = tilted.topk(top_k, dim=-1).values[..., -1:]
        tilted = tilted.masked_fill(tilted < least, -torch.inf)
    return tilted.softmax(-1)


@torch.no_grad()
def erase_target(model: nn.Module, text: Text, personas: Personas, settings: EraseSettings) -> Tensor:
    """Target probabilities ``[n, vocab]`` of a forget text."""
    with teacher(model) as base:
        plain, expert, novice = (logits_of(base, before + text.ids, len(before) + text.start) for before in ([], *personas))
    eta = torch.linspace(1, settings.eta, len(plain))[:, None] if settings.schedule == "ramp" else settings.eta
    return tilt(plain, expert, novice, eta, settings.temperature, settings.top_k)


@torch.no_grad()
def retain_target(model: nn.Module, text: Text) -> Tensor:
    """Target probabilities ``[n, vocab]`` of a retain text."""
    with teacher(model) as base:
        return logits_of(base, text.ids, text.start).double().softmax(-1)


@torch.no_grad()
def sample(model: nn.Module, prompt: list[int], personas: Personas, ends: set[int], settings: FluencySettings) -> Text:
    """One fluency text."""
    new: list[int] = []
    with teacher(model) as base:
        reading = [prompt, *(persona + prompt for persona in personas)]
        caches = [DynamicCache() for _ in reading]
        for _ in range(settings.tokens):
            plain, expert, novice = (
                base(input_ids=torch.tensor([ids], device=base.device), past_key_values=cache, use_cache=True).logits[0, -1]
                for ids, cache in zip(reading, caches, strict=True)
            )
            allowed = plain.softmax(-1) >= settings.min_p * plain.softmax(-1).max()
            mass = tilt(plain, expert, novice, settings.eta or 0.0, 1.0, None) * allowed
            new.append(int(torch.multinomial(mass, 1)))
            if new[-1] in ends:
                break
            reading = [[new[-1]]] * 3
    return Text(prompt + new, len(prompt))


def train(
    model: nn.Module,
    corpora: Mapping[str, Sequence[Text]],
    personas: Mapping[int, Personas],
    recipe: Recipe,
    steps: int,
) -> None:
    """AdamW on the three losses of one text at a time. personas: for the index of each forget text."""
    texts = recipe.train.batch_size * recipe.train.accumulation
    schedule: Any = Schedule(corpora, steps * texts, recipe.seed, recipe.per_item)  # type: ignore[arg-type]
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.train.lr, weight_decay=recipe.train.weight_decay)
    rate = get_scheduler(recipe.train.schedule, optimizer, recipe.train.warmup_steps, steps)
    index = {id(text): i for i, text in enumerate(corpora["erase"])}
    model.train()
    for step in range(steps):
        for item in (schedule[i] for i in range(step * texts, (step + 1) * texts)):
            for term, of in item.items():
                for text in of:
                    loss = text_loss(model, term, text, personas.get(index.get(id(text), -1)), recipe)
                    (getattr(recipe, term).weight * loss / (len(of) * texts)).backward()
        if recipe.train.clip:
            torch.nn.utils.clip_grad_norm_(weights, recipe.train.clip)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()


def text_loss(model: nn.Module, term: str, text: Text, personas: Personas | None, recipe: Recipe) -> Tensor:
    """One of the three losses on one text, its target computed on the spot."""
    if term == "fluency":
        labels = torch.tensor(text.ids[text.start :], device=bare(model).device)
        return nn.functional.cross_entropy(logits_of(model, text.ids, text.start), labels)
    if term == "erase":
        assert personas is not None
        target = erase_target(model, text, personas, recipe.erase)
    else:
        target = retain_target(model, text)
    student = logits_of(model, text.ids, text.start).double().log_softmax(-1)
    return -(target * student).sum(-1).mean()


def job(
    model: nn.Module,
    corpora: Mapping[str, Sequence[Text]],
    prompts: Sequence[list[int]],
    personas: Sequence[Personas],
    ends: set[int],
    recipe: Recipe,
    steps: int,
) -> None:
    """The whole job: sample the fluency texts, then train."""
    fluency = [sample(model, prompt, random.choice(personas), ends, recipe.fluency) for prompt in prompts]
    train(model, {**corpora, "fluency": fluency}, dict(enumerate(personas)), recipe, steps)
