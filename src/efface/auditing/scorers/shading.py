"""Answers to the pack's prompts, every token with how far base and erased differ there."""

from collections.abc import Sequence

import torch

from efface.auditing.answers import replies, texts
from efface.auditing.scores import Answer
from efface.auditing.subject import Subject
from efface.data.batches import places, right_pad
from efface.data.text import Text
from efface.lm.cache import Ids
from efface.lm.chat import chat_prompt
from efface.lm.layers import bare, with_room
from efface.lm.states import output_head, output_states

TOKENS = 100


def answer_prompts(subject: Subject) -> list[Answer]:
    """Greedy answers to the prompts of the pack."""
    prompts = list(subject.concept.manifest.prompts)
    found = texts(subject, replies(subject, prompts, TOKENS, "answers to the prompts")) if prompts else []
    return [Answer(prompt=prompt, text=text) for prompt, text in zip(prompts, found, strict=True)]


@torch.no_grad()
def shade(erased: Subject, answers: Sequence[Answer]) -> list[Answer]:
    """The same answers in pieces, each with the total variation distance of the two models' next-token distributions there.

    A tokenizer that does not say where its tokens stand in a text leaves them whole.
    """
    if not erased.tokenizer.is_fast:
        return list(answers)
    prompts = [chat_prompt(erased.tokenizer, answer.prompt) for answer in answers]
    return [
        answer.model_copy(update={"pieces": pieces(erased, context, answer.text)})
        for answer, context in zip(answers, prompts, strict=True)
    ]


@torch.no_grad()
def pieces(erased: Subject, context: Ids, said: str) -> tuple[tuple[str, float], ...]:
    """What was said behind a context, in pieces as in :func:`shade`; nothing where the model has no room for it.

    Expects a tokenizer that says where its tokens stand.
    """
    encoded = erased.tokenizer(said, add_special_tokens=False, return_offsets_mapping=True)
    spans = encoded["offset_mapping"]
    ids = with_room(erased.model, len(context), list(encoded["input_ids"]))  # more than were said, for broken characters
    if not ids:
        return ()
    text = Text(context + ids, len(context))

    def distribution(model: torch.nn.Module) -> torch.Tensor:
        batch, mask = right_pad([text.ids], erased.tokenizer.pad_token_id, bare(model).device)
        states = output_states(model, *places([text]), input_ids=batch, attention_mask=mask)
        return output_head(model)(states).float().softmax(-1).cpu()

    after = distribution(erased.model)
    with erased.base() as base:
        distance = 0.5 * (distribution(base) - after).abs().sum(-1)
    found, done = list[tuple[str, float]](), 0
    for (_, end), value in zip(spans, distance.tolist(), strict=False):
        if end > done:  # several tokens may make up one character
            found.append((said[done:end], round(value, 4)))
            done = end
    if done < len(said):
        found.append((said[done:], 0.0))
    return tuple(found)
