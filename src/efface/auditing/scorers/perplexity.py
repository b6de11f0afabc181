"""Perplexity: of held-out texts under the model, and of a model's answers under the base (the judge)."""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from efface.auditing.batches import in_batches
from efface.auditing.scores import Score
from efface.auditing.statistics import LEAST
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.data.targets import text_states
from efface.data.text import Text, encode
from efface.lm.chat import chat_prompt
from efface.lm.layers import with_room
from efface.lm.states import output_head
from efface.losses import cross_entropy
from efface.recipe.settings import DataSettings
from efface.targets import SparseTarget

BATCH = 8
HELD_OUT = DataSettings(max_chars=2000, max_tokens=192, min_chars=1)
CORPORA = ("forget", "retain")


def held_out(concept: Concept, tokenizer: PreTrainedTokenizerBase, corpus: str) -> list[Text]:
    """The held-out texts of one corpus, as they are scored. Raises ConceptError for one that is too short."""
    passages = concept.texts(corpus, "held_out")  # type: ignore[arg-type]
    return [encode(passage.text, tokenizer, HELD_OUT) for passage in passages]


def score_perplexity(subject: Subject) -> dict[str, Score]:
    """``perplexity/{corpus}/held_out`` with a 95 % interval from the spread of the texts' mean losses."""
    scores = {}
    for corpus in CORPORA:
        if texts := held_out(subject.concept, subject.tokenizer, corpus):
            scores[f"perplexity/{corpus}/held_out"] = perplexity(losses(subject.model, subject.tokenizer, texts, corpus))
    return scores


def answer_perplexity(
    judge: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], texts: Sequence[str]
) -> Score | None:
    """Perplexity of answers, each after its question, under a judge; None if there is no answer of two tokens."""
    encoded = []
    for question, text in zip(questions, texts, strict=True):
        context = chat_prompt(tokenizer, question)
        ids = with_room(judge, len(context), list(tokenizer(text, add_special_tokens=False)["input_ids"]))
        if len(ids) > 1:
            encoded.append(Text(context + ids, len(context)))
    return perplexity(losses(judge, tokenizer, encoded, "answers"), paired=len(encoded) == len(texts)) if encoded else None


@torch.no_grad()
def losses(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], what: str
) -> list[tuple[float, int]]:
    """Summed next-token loss (nats) and number of predicted tokens of each text, in order."""

    def read(batch: Sequence[Text]) -> list[tuple[float, int]]:
        states = text_states(model, batch, tokenizer.pad_token_id)
        labels = torch.tensor([token for text in batch for token in text.ids[text.start :]], device=states.device)
        counts = [len(text.ids) - text.start for text in batch]
        loss = cross_entropy(states, SparseTarget.one_hot(labels), output_head(model))
        return [(of.sum().item(), len(of)) for of in torch.split(loss, counts)]

    return in_batches(texts, BATCH, f"perplexity, {what}", read)


def perplexity(sums: Sequence[tuple[float, int]], paired: bool = True) -> Score:
    """exp of the mean loss per token; interval: 1.96 standard errors of that ratio over texts (none for fewer than five).

    Its items are the texts' mean losses in nats. paired: whether every text is there, so that two models can be compared.
    """
    total = sum(count for _, count in sums)
    mean = sum(loss for loss, _ in sums) / total
    n = len(sums)
    kept = {"items": tuple(loss / count for loss, count in sums), "tokens": tuple(count for _, count in sums)} if paired else {}
    if n < LEAST:
        return Score(value=_exp(mean), n=n, **kept)
    spread = math.sqrt(sum((loss - mean * count) ** 2 for loss, count in sums) * n / (n - 1)) / total
    return Score(value=_exp(mean), n=n, low=_exp(mean - 1.96 * spread), high=_exp(mean + 1.96 * spread), **kept)


def _exp(nats: float) -> float:
    """A model that is lost altogether has a perplexity too large to write down."""
    return math.exp(min(nats, 700.0))
