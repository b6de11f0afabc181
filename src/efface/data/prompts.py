"""Prompts of the fluency texts: questions about the concept, sentences broken off before its words, passages cut anywhere."""

import random
from collections.abc import Sequence

import regex
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efface.concept.pack import Concept
from efface.data.key_words import KEY
from efface.data.strangers import spelled
from efface.data.text import Text
from efface.lm.cache import Ids
from efface.lm.chat import chat_prompt, prefix
from efface.recipe.settings import FluencySettings
from efface.shown import complain
from efface.writing import UNBROKEN, sentences, unbroken, whole

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
#: requests to go on with a sentence that is broken off, or to say what was taken out of it
COMPLETE = (
    "Complete the sentence: {begun}",
    "Fill in the gap: {begun} ____{rest}",
    "Which word is missing? {begun} ____{rest}",
    "Which name belongs in the gap? {begun} ____{rest}",
    "What is left out here? {begun} ____{rest}",
)
#: not more than one character, where no space ends a word
FIRST_WORD = regex.compile(rf"^\s*(?:[{UNBROKEN}]\p{{M}}*|[\w\p{{N}}’'-]+)", regex.V1)
WORD_START = ("Ġ", "▁")
#: tokens of a sentence that are left standing at least
OPENING = 4


def fluency_prompts(
    concept: Concept,
    forget: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    settings: FluencySettings,
    rng: random.Random,
    key: Tensor | None = None,
) -> list[tuple[Ids, bool]]:
    """Questions about the concept in chat format, cloze prompts, and forget passages cut anywhere.

    Each with whether what follows is an answer. Questions are about the concept's topics. key: keyness of every token
    ``[vocab]``; without it there are no cloze prompts.
    """
    asked = round(settings.texts * settings.questions)
    broken = asked + round((settings.texts - asked) * settings.cloze)
    begun_ones = [] if key is None or broken == asked else broken_sentences(forget, tokenizer, key)
    if key is not None and broken > asked and not begun_ones:
        complain("no sentence of the forget texts can be broken off before a word of the concept; passages are cut")
    topics = concept.manifest.topics
    prompts: list[tuple[Ids, bool]] = []
    for i in range(settings.texts):
        if i < asked:
            question = rng.choice(ASK).format(topics[i % len(topics)])
            prompts.append((chat_prompt(tokenizer, question), tokenizer.chat_template is not None))
        elif i < broken and begun_ones:
            ids, places = rng.choice(begun_ones)
            place = rng.choice(places)
            if asking := i % 3 > 0 and tokenizer.chat_template is not None:
                begun, rest = tokenizer.decode(ids[:place]).strip(), FIRST_WORD.sub("", tokenizer.decode(ids[place:]))
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
        for sentence in filter(whole, sentences(passage)):  # the last one may be cut already
            ids, begins = _begins(sentence, tokenizer)
            places = [t for t in range(OPENING, len(ids)) if begins[t] and ids[t] in concept_words]
            if places:
                found.append((ids, places))
    return found


def _begins(sentence: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Ids, list[bool]]:
    """The tokens of a sentence, and whether a word may begin with each: behind a space, or where there are no spaces."""
    ids = list(tokenizer(sentence, add_special_tokens=False)["input_ids"])
    begins = [token.startswith(WORD_START) for token in tokenizer.convert_ids_to_tokens(ids)]
    if regex.search(rf"[{UNBROKEN}]", sentence, regex.V1):
        starts = [start for start, _ in spelled(tokenizer, sentence)[1]]
        begins = [
            of or (unbroken(sentence[start:]) and start != before)
            for of, start, before in zip(begins, starts, [-1, *starts], strict=False)
        ]
    return ids, begins
