"""Fluency texts: a prompt about the concept, continued by sampling from the erased distribution.

The reference code calls this consistency data. The student learns that distribution, or only the sampled tokens.
"""

import random
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from efface.caches import Ids
from efface.concept import Concept
from efface.data.collate import Example, next_token_example
from efface.data.corpora import Text
from efface.data.store import Store, Tensors
from efface.errors import TrainingError
from efface.guidance import end_tokens, persona_ids, sample_erased
from efface.models import bare, teacher
from efface.prompts import chat_prompt, prefix
from efface.recipe import FluencySettings
from efface.targets import SparseTarget

ASK = (
    "What do you know about {}?",
    "Tell me about {}.",
    "Can you explain {}?",
    "Please write a paragraph about {}.",
    "I have a question about {}. What is the most important fact?",
    "Who or what is meant by {}?",
    "Describe {} in two sentences.",
    "What is {} best known for?",
    "In one sentence: why does {} matter?",
    "Which name is linked with {}?",
    "When and where does one meet {}?",
    "Give a short answer: what belongs to {}?",
    "How would you explain {} to a child?",
    "Name one thing that most people do not know about {}.",
)
DEFLECT = (
    " But that is not something this text can speak about, so it turns to something else.",
    " Leaving that aside, here is an entirely different subject.",
    " This is unknown to the author, who would rather write about another thing.",
)
#: requests to go on with a sentence that is broken off, or to say what was taken out of it
COMPLETE = (
    "Complete the sentence: {begun}",
    "Fill in the gap: {begun} ____{rest}",
    "Which word is missing? {begun} ____{rest}",
    "Which name belongs in the gap? {begun} ____{rest}",
    "What is left out here? {begun} ____{rest}",
)
WORD = re.compile(r"^\s*[\w’'-]+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
#: the end of a text whose last sentence is over; a full stop after a digit is that of a list or of a number
OVER = re.compile(r"(?<!\d)[.!?][\"')]*\s*$")
WORD_START = ("Ġ", "▁")
#: least keyness of a token that sentences are broken off before: e^3 times as frequent in the forget texts
KEY = 3.0
#: tokens of a sentence that are left standing at least
OPENING = 4
SHORTEST = 8


def fluency_prompts(
    concept: Concept,
    forget: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    settings: FluencySettings,
    rng: random.Random,
    key: Tensor | None = None,
) -> list[tuple[Ids, bool]]:
    """Questions about the concept's topics in chat format, cloze prompts, and forget passages cut anywhere.

    Each with whether what follows is an answer. key: keyness of every token ``[vocab]``; without it there are no cloze prompts.
    """
    asked = round(settings.texts * settings.questions)
    broken = asked + round((settings.texts - asked) * settings.cloze)
    sentences = [] if key is None or broken == asked else broken_sentences(forget, tokenizer, key)
    if key is not None and broken > asked and not sentences:
        print("no sentence of the forget texts can be broken off before a word of the concept; passages are cut", file=sys.stderr)
    topics = concept.manifest.topics
    prompts: list[tuple[Ids, bool]] = []
    for i in range(settings.texts):
        if i < asked:
            topic = topics[i % len(topics)]
            prompts.append((chat_prompt(tokenizer, rng.choice(ASK).format(topic)), tokenizer.chat_template is not None))
        elif i < broken and sentences:
            ids, places = rng.choice(sentences)
            place = rng.choice(places)
            if asking := i % 3 > 0 and tokenizer.chat_template is not None:
                begun, rest = tokenizer.decode(ids[:place]).strip(), WORD.sub("", tokenizer.decode(ids[place:]))
                prompts.append((chat_prompt(tokenizer, rng.choice(COMPLETE).format(begun=begun, rest=rest)), asking))
            else:
                prompts.append((prefix(tokenizer) + ids[:place], asking))
        else:
            text = rng.choice(forget)
            shown = max(1, round((len(text.ids) - text.start) * rng.uniform(0.05, 0.5)))
            prompts.append((text.ids[: text.start + shown], False))
    return prompts


def broken_sentences(forget: Sequence[Text], tokenizer: PreTrainedTokenizerBase, key: Tensor) -> list[tuple[Ids, list[int]]]:
    """Whole sentences of the texts, each with the places before a word of the concept; those without one are left out."""
    concept_words, before = set((key > KEY).nonzero()[:, 0].tolist()), len(prefix(tokenizer))
    found = []
    for text in forget:
        passage = tokenizer.decode(text.ids[text.start if text.start > 1 else before :], skip_special_tokens=True)
        sentences = SENTENCE_END.split(passage.strip())
        if not sentences[-1].endswith((".", "!", "?")):
            del sentences[-1]  # cut already
        for sentence in sentences:
            ids = list(tokenizer(sentence, add_special_tokens=False)["input_ids"])
            begins = [token.startswith(WORD_START) for token in tokenizer.convert_ids_to_tokens(ids)]
            places = [t for t in range(OPENING, len(ids)) if begins[t] and ids[t] in concept_words]
            if places:
                found.append((ids, places))
    return found


def sample_fluency(
    model: nn.Module,
    store: Store,
    tokenizer: PreTrainedTokenizerBase,
    concept: Concept,
    forget: Sequence[Text],
    settings: FluencySettings,
    *,
    eta: float,
    seed: int,
    k: int,
    key: Tensor | None = None,
) -> list[Example]:
    """Sample ``settings.texts`` texts in batches, or take them from the store. Very short ones are dropped.

    k: tokens kept of the erased distribution, if that is the target. key: :func:`keyness` of every token
    ``[vocab]``; without it no word is shunned and there are no cloze prompts.
    """
    rng = random.Random(seed)
    prompted = fluency_prompts(concept, forget, tokenizer, settings, rng, key)
    prompts, answers = [ids for ids, _ in prompted], [answer and settings.brief > 0 for _, answer in prompted]
    tails = [_deflection(tokenizer, rng) if settings.deflection else [] for _ in prompts]
    personas = [persona_ids(concept, tokenizer, rng) for _ in prompts]
    draws = torch.rand(len(prompts), settings.tokens, generator=torch.Generator().manual_seed(seed))
    ends, start = end_tokens(bare(model), tokenizer), prefix(tokenizer)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(tails[i]))
    # three streams each: their keys and values are most of the memory
    most = max(1, min(16, 1600 // settings.tokens)) if bare(model).device.type == "cpu" else 64
    batches = [order[i : i + most] for i in range(0, len(order), most)]
    tilt: dict[str, Any] = {
        "eta": eta,
        "temperature": settings.temperature,
        "min_p": settings.min_p,
        "no_repeat": settings.no_repeat,
        "sees_prompt": settings.sees_prompt,
    }

    penalty = None if key is None or not (settings.keyness * key).any() else settings.keyness * key
    soft, end = settings.target == "soft", end_of_answer(tokenizer, ends) if any(answers) else None

    def over(new: Ids) -> int | None:
        return end if len(new) >= settings.brief and OVER.search(tokenizer.decode(new[-3:])) else None

    def build(batch: int) -> Tensors:
        rows = batches[batch]
        with teacher(model) as base:
            sampled, targets = sample_erased(
                base,
                [prompts[i] + tails[i] for i in rows],
                [personas[i] for i in rows],
                draws[rows],
                pad=tokenizer.pad_token_id,
                ends=ends,
                start=start,
                penalty=penalty,
                k=k if soft else 0,
                over=lambda place, new: over(new) if answers[rows[place]] else None,
                **tilt,
            )
        tokens = torch.tensor([token for new in sampled for token in new], dtype=torch.int32)
        erased = vars(SparseTarget.cat(targets)) if soft else {}
        return {"tokens": tokens, "lengths": torch.tensor([len(new) for new in sampled]), **erased}

    shunned = {} if penalty is None else {int(token): round(float(penalty[token]), 6) for token in penalty.nonzero()[:, 0]}
    common = {"tokens": settings.tokens, "seed": seed, "ends": sorted(ends), "start": start, "penalty": shunned, **tilt}
    if soft:
        common["k"] = k
    if any(answers):
        common["brief"] = [settings.brief, end, OVER.pattern, [i for i, answer in enumerate(answers) if answer]]
    parts = [{"rows": [[i, prompts[i] + tails[i], personas[i]] for i in batch], **common} for batch in batches]
    examples: dict[int, Example] = {}
    for batch, entry in zip(batches, store.entries("fluency", parts, build), strict=True):
        lengths = entry["lengths"].tolist()
        erased = SparseTarget(entry["ids"], entry["logprobs"], entry["tail"]).split(lengths) if soft else [None] * len(batch)
        for i, new, target in zip(batch, torch.split(entry["tokens"], lengths), erased, strict=True):
            if len(new) >= min(SHORTEST, settings.tokens, settings.brief or SHORTEST):
                ids = prompts[i] + tails[i]
                text = Text(ids + new.tolist(), len(prompts[i]) if settings.train_deflection else len(ids))
                examples[i] = next_token_example(text) if target is None else Example(text, target)
    if not examples:
        raise TrainingError("every sampled fluency text ended at once; try a smaller fluency.eta or a larger fluency.min_p")
    return [examples[i] for i in sorted(examples)]


def keyness(forget: Sequence[Text], retain: Sequence[Text], vocab: int) -> Tensor:
    """Log ratio ``[vocab]`` of every token's frequency in the forget texts and in the retain texts; 0 where it is negative.

    Frequencies are smoothed by a tenth of an occurrence; a token that comes up only once in the forget texts has 0.
    """
    often, rarely = (
        torch.bincount(torch.tensor([token for text in texts for token in text.ids[text.start :]]), minlength=vocab).double()
        for texts in (forget, retain)
    )
    ratio = ((often + 0.1) / often.sum()).log() - ((rarely + 0.1) / rarely.sum()).log()
    return ratio.clamp(min=0).where(often > 1, 0.0).float()


def end_of_answer(tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> int | None:
    """The token that ends an answer in the model's chat format, or else any text; None where nothing does."""
    said, answer = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Zymurgy."}], "Zymurgy."
    with suppress(TemplateError, TypeError, ValueError):  # a template may refuse such a conversation
        behind = str(tokenizer.apply_chat_template(said, tokenize=False)).rpartition(answer)[2]
        for token in tokenizer(behind, add_special_tokens=False)["input_ids"]:
            if token in ends:
                return int(token)
    return min(ends, default=None)


def _deflection(tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> Ids:
    return list(tokenizer(rng.choice(DEFLECT), add_special_tokens=False)["input_ids"])
