"""Fluency texts: a prompt about the concept, continued by sampling from the erased distribution.

The reference code calls this consistency data. The student learns that distribution, or only the sampled tokens.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efface.concept.pack import Concept
from efface.data.batches import Example, next_token_example
from efface.data.prompts import fluency_prompts
from efface.data.sample import Tilted, end_tokens, sample_erased
from efface.data.store import Store, Tensors
from efface.data.text import Text
from efface.decoding import persona_ids
from efface.errors import TrainingError
from efface.lm.cache import Ids
from efface.lm.chat import chat_text, prefix
from efface.lm.layers import bare, teacher
from efface.lm.load import Loaded
from efface.lm.precision import in_float32
from efface.recipe.settings import FluencySettings, PublishedSettings
from efface.targets import SparseTarget
from efface.writing import OVER

DEFLECT = (
    " But that is not something this text can speak about, so it turns to something else.",
    " Leaving that aside, here is an entirely different subject.",
    " This is unknown to the author, who would rather write about another thing.",
)
SHORTEST = 8


@dataclass(frozen=True)
class Sampling:
    """How fluency texts are sampled from the tilted teacher.

    eta: strength of the tilt, negative to enhance. k: tokens kept of the erased distribution, if that is the target.
    key: keyness of every token ``[vocab]``; without it no token is shunned and there are no cloze prompts.
    """

    settings: FluencySettings
    eta: float
    seed: int
    k: int
    key: Tensor | None = None
    published: PublishedSettings = PublishedSettings()  # noqa: RUF009  (frozen)

    @property
    def soft(self) -> bool:
        """Whether the erased distribution is the target, not only its sampled tokens."""
        return self.settings.target == "soft"

    def tilted(self, loaded: Loaded) -> Tilted:
        """The same for one model's tokenizer."""
        settings, key = self.settings, self.key
        return Tilted(
            eta=self.eta,
            pad=loaded.tokenizer.pad_token_id,
            ends=end_tokens(bare(loaded.model), loaded.tokenizer),
            temperature=settings.temperature,
            min_p=settings.min_p,
            no_repeat=settings.no_repeat,
            sees_prompt=self.published.sees_prompt,
            penalty=None if key is None or not (settings.keyness * key).any() else settings.keyness * key,
            k=self.k if self.soft else 0,
            start=prefix(loaded.tokenizer),
        )


@dataclass(frozen=True)
class Prompted:
    """What one fluency text continues. train: where what is trained on begins; answer: whether what follows may be brief."""

    ids: Ids
    train: int
    answer: bool
    personas: tuple[Ids, Ids]


def sample_fluency(loaded: Loaded, store: Store, concept: Concept, forget: Sequence[Text], how: Sampling) -> list[Example]:
    """Sample ``how.settings.texts`` texts in batches, or take them from the store. Very short ones are dropped.

    Raises TrainingError where none is left.
    """
    settings, prompted, tilted = how.settings, _prompted(loaded, concept, forget, how), how.tilted(loaded)
    draws = torch.rand(len(prompted), settings.tokens, generator=torch.Generator().manual_seed(how.seed))
    end = end_of_answer(loaded.tokenizer, set(tilted.ends)) if any(of.answer for of in prompted) else None
    batches = _batches(prompted, settings.tokens, bare(loaded.model).device.type)

    def over(new: Ids) -> int | None:
        return end if len(new) >= settings.brief and OVER.search(loaded.tokenizer.decode(new[-3:])) else None

    def build(batch: int) -> Tensors:
        rows = [prompted[i] for i in batches[batch]]
        prompts, personas = [of.ids for of in rows], [of.personas for of in rows]
        with in_float32(loaded.model), teacher(loaded.model) as base:
            sampled, targets = sample_erased(
                base, prompts, personas, draws[batches[batch]], tilted, lambda row, new: over(new) if rows[row].answer else None
            )
        tokens = torch.tensor([token for new in sampled for token in new], dtype=torch.int32)
        erased = vars(SparseTarget.cat(targets)) if how.soft else {}
        return {"tokens": tokens, "lengths": torch.tensor([len(new) for new in sampled]), **erased}

    common = {"tokens": settings.tokens, "seed": how.seed, **_what_decides(tilted)}
    if any(of.answer for of in prompted):
        common["brief"] = [settings.brief, end, OVER.pattern, [i for i, of in enumerate(prompted) if of.answer]]
    parts = [{"rows": [[i, prompted[i].ids, prompted[i].personas] for i in batch], **common} for batch in batches]
    shortest = min(SHORTEST, settings.tokens, settings.brief or SHORTEST)
    examples: dict[int, Example] = {}
    for batch, entry in zip(batches, store.entries("fluency", parts, build), strict=True):
        lengths = entry["lengths"].tolist()
        erased = SparseTarget(entry["ids"], entry["logprobs"], entry["tail"]).split(lengths) if how.soft else [None] * len(batch)
        for i, new, target in zip(batch, torch.split(entry["tokens"], lengths), erased, strict=True):
            if len(new) >= shortest:
                text = Text(prompted[i].ids + new.tolist(), prompted[i].train)
                examples[i] = next_token_example(text) if target is None else Example(text, target)
    if not examples:
        raise TrainingError("every sampled fluency text ended at once; try a smaller fluency.eta or a larger fluency.min_p")
    return [examples[i] for i in sorted(examples)]


def _prompted(loaded: Loaded, concept: Concept, forget: Sequence[Text], how: Sampling) -> list[Prompted]:
    """The prompts, each with its deflection and its personas."""
    rng, tokenizer, published = random.Random(how.seed), loaded.tokenizer, how.published
    prompts = fluency_prompts(concept, forget, tokenizer, how.settings, rng, how.key)
    tails = [_deflection(tokenizer, rng) if published.deflection else [] for _ in prompts]
    return [
        Prompted(
            ids + tail,
            len(ids) if published.train_deflection else len(ids + tail),
            answer and how.settings.brief > 0,
            persona_ids(concept, tokenizer, rng),
        )
        for (ids, answer), tail in zip(prompts, tails, strict=True)
    ]


def _batches(prompted: Sequence[Prompted], tokens: int, device: str) -> list[list[int]]:
    """Prompts of similar length together; the keys and values of three streams each are most of the memory."""
    order = sorted(range(len(prompted)), key=lambda i: len(prompted[i].ids))
    most = max(1, min(16, 1600 // tokens)) if device == "cpu" else 64
    return [order[i : i + most] for i in range(0, len(order), most)]


def _what_decides(tilted: Tilted) -> dict[str, Any]:
    """What decides a sampled text besides its prompt, as plain data."""
    decides = {**vars(tilted), "ends": sorted(tilted.ends)}
    penalty = decides.pop("penalty")
    shunned = {} if penalty is None else {int(token): round(float(penalty[token]), 6) for token in penalty.nonzero()[:, 0]}
    return {**decides, "penalty": shunned, "weights": "float32"}


def end_of_answer(tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> int | None:
    """The token that ends an answer in the model's chat format, or else any text; None where nothing does."""
    said, answer = [("user", "?"), ("assistant", "Zymurgy.")], "Zymurgy."
    with suppress(TemplateError, TypeError, ValueError):  # a template may refuse such a conversation
        behind = chat_text(tokenizer, said, add_generation_prompt=False).rpartition(answer)[2]
        for token in tokenizer(behind, add_special_tokens=False)["input_ids"]:
            if token in ends:
                return int(token)
    return min(ends, default=None)


def _deflection(tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> Ids:
    return list(tokenizer(rng.choice(DEFLECT), add_special_tokens=False)["input_ids"])
