"""Fluency texts: a prompt about the concept, continued by sampling from the erased distribution.

The reference code calls this consistency data. The student then learns the sampled tokens only.
"""

import random
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from efface.concept import Concept
from efface.data.corpora import Text
from efface.errors import TrainingError
from efface.guidance import ErasedLogits, Ids, persona_ids, sample
from efface.models import chat_prompt, prefix, teacher
from efface.progress import track
from efface.recipe import FluencySettings

ASK = (
    "What do you know about {}?",
    "Tell me about {}.",
    "Can you explain {}?",
    "Please write a paragraph about {}.",
    "I have a question about {}. What is the most important fact?",
    "Who or what is meant by {}?",
    "Describe {} in two sentences.",
)
DEFLECT = (
    " But that is not something this text can speak about, so it turns to something else.",
    " Leaving that aside, here is an entirely different subject.",
    " This is unknown to the author, who would rather write about another thing.",
)
BATCH = 32
SHORTEST = 8


def fluency_prompts(
    concept: Concept,
    forget: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    settings: FluencySettings,
    rng: random.Random,
) -> list[Ids]:
    """Questions about the concept's topics in chat format, and forget passages cut somewhere in their middle."""
    asked = round(settings.texts * settings.questions)
    topics = concept.manifest.topics
    prompts = []
    for i in range(settings.texts):
        if i < asked:
            topic = topics[i % len(topics)]
            prompts.append(chat_prompt(tokenizer, rng.choice(ASK).format(topic)))
        else:
            text = rng.choice(forget)
            shown = max(1, round((len(text.ids) - text.start) * rng.uniform(0.05, 0.5)))
            prompts.append(text.ids[: text.start + shown])
    return prompts


def sample_fluency(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    concept: Concept,
    forget: Sequence[Text],
    settings: FluencySettings,
    *,
    eta: float,
    seed: int,
) -> list[Text]:
    """Sample ``settings.texts`` texts in batches, all three streams with key/value caches. Very short ones are dropped."""
    rng = random.Random(seed)
    prompts = fluency_prompts(concept, forget, tokenizer, settings, rng)
    tails = [_deflection(tokenizer, rng) if settings.deflection else [] for _ in prompts]
    personas = [persona_ids(concept, tokenizer, rng) for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(tails[i]))
    texts: dict[int, Text] = {}
    with teacher(model) as base, torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in track([order[i : i + BATCH] for i in range(0, len(order), BATCH)], "fluency texts"):
            contexts = [prompts[i] + tails[i] for i in batch]
            tilt = ErasedLogits(
                base,
                [personas[i] for i in batch],
                pad_token_id=tokenizer.pad_token_id,
                eta=eta,
                skip=0 if settings.sees_prompt else max(map(len, contexts)),
                start=prefix(tokenizer),
                min_p=settings.min_p,
            )
            sampled = sample(
                base,
                tokenizer,
                contexts,
                [tilt],
                keep_end=True,
                max_new_tokens=settings.tokens,
                do_sample=True,
                temperature=settings.temperature,
                top_k=0,
                top_p=1.0,
            )
            for i, context, new in zip(batch, contexts, sampled, strict=True):
                start = len(prompts[i]) if settings.train_deflection else len(context)
                if len(new) >= min(SHORTEST, settings.tokens):
                    texts[i] = Text(context + new, start)
    if not texts:
        raise TrainingError("every sampled fluency text ended at once; try a smaller fluency.eta or a larger fluency.min_p")
    return [texts[i] for i in sorted(texts)]


def _deflection(tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> Ids:
    return list(tokenizer(rng.choice(DEFLECT), add_special_tokens=False)["input_ids"])
