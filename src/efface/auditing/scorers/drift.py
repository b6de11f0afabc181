"""Specificity: how far the erased model's distribution is from the base's on held-out texts."""

from collections.abc import Sequence
from functools import partial

import torch

from efface.auditing.batches import in_batches
from efface.auditing.scorers.perplexity import BATCH, held_out
from efface.auditing.scores import Score
from efface.auditing.statistics import average
from efface.auditing.subject import Subject
from efface.data.targets import in_chunks, text_states
from efface.data.text import Text
from efface.lm.states import output_head


@torch.no_grad()
def score_drift(subject: Subject) -> dict[str, Score]:
    """``drift/{corpus}/kl``: mean over texts of the mean KL(base || model) per token, in nats; left out for the base itself."""
    if subject.of_base:
        return {}
    scores = {}
    for corpus in ("retain", "forget"):
        texts = held_out(subject.concept, subject.tokenizer, corpus)
        if values := in_batches(texts, BATCH, f"drift, {corpus}", partial(divergences, subject)):
            scores[f"drift/{corpus}/kl"] = average(values)
    return scores


def divergences(subject: Subject, texts: Sequence[Text]) -> list[float]:
    """Mean KL(base || model) per token of each text, in nats."""
    with subject.base() as base:
        before = text_states(base, texts, subject.tokenizer.pad_token_id)
    after = text_states(subject.model, texts, subject.tokenizer.pad_token_id)

    def kl(one: torch.Tensor, other: torch.Tensor) -> dict[str, torch.Tensor]:
        with subject.base() as base:  # an adapter may be on the output layer too
            p = output_head(base)(one).float().log_softmax(-1)
        q = output_head(subject.model)(other).float().log_softmax(-1)
        return {"kl": (p.exp() * (p - q)).sum(-1)}

    counts = [len(text.ids) - text.start for text in texts]
    return [part.mean().item() for part in torch.split(in_chunks(kl, before, after)["kl"], counts)]
