"""Innocence in depth: what the layers still hold, whatever the model says.

A linear probe on a layer's states tells right statements about the concept from wrong ones, beside the same probe on shuffled
labels; the logit lens reads the right choice off with the model's own output layer; norms show layers that were only drowned out.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from efface.auditing.batches import in_batches
from efface.auditing.scores import Layer, Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Question
from efface.data.batches import right_pad
from efface.lm.chat import behind, prefix
from efface.lm.layers import bare, decoder_layers
from efface.lm.states import last_norm, layer_states, output_head
from efface.progress import track

BATCH = 64
MOST_LAYERS = 32
FOLDS = 5
STRENGTH = 0.01  # C of the logistic regression: there are more dimensions than statements


@torch.no_grad()
def score_depth(subject: Subject) -> list[Layer]:
    """One entry for each decoder layer (at most 32, evenly spread); empty where the pack has too few forget questions."""
    asked = subject.concept.ask("forget", subject.split)
    if not enough(asked):
        return []
    groups = [sorted(question.choices) for question in asked]  # questions that share their choices stay in one fold
    statements = [f"{row.stem} {row.choices[row.answer]}" for row in asked]
    statements += [f"{row.stem} {row.choices[row.answer - 1]}" for row in asked]
    told, stems = last_states(subject, statements), last_states(subject, [row.stem for row in asked])
    right = np.array([True] * len(asked) + [False] * len(asked))
    fold_of = np.array([groups.index(group) for group in groups] * 2)
    shuffled = np.random.default_rng(0).permutation(right)
    chosen = sorted({round(i) for i in np.linspace(0, told.shape[1] - 1, min(MOST_LAYERS, told.shape[1]))})
    return [
        Layer(
            layer=layer,
            probe=probe(told[:, layer].numpy(), right, fold_of),
            null=probe(told[:, layer].numpy(), shuffled, fold_of),
            lens=logit_lens(subject, stems[:, layer], asked),
            norm=average(stems[:, layer].norm(dim=-1).tolist()),
        )
        for layer in track(chosen, "layers")
    ]


def enough(asked: Sequence[Question]) -> bool:
    """Whether there are as many sets of choices as folds."""
    return len({tuple(sorted(question.choices)) for question in asked}) >= FOLDS


def last_states(subject: Subject, texts: Sequence[str]) -> Tensor:
    """Output of every decoder layer at each text's last token: ``[texts, layers, size]``, float32, on the processor."""
    model, start = bare(subject.model), prefix(subject.tokenizer)
    rows = [start + list(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    layers = range(len(decoder_layers(model)[1]))

    def read(batch: Sequence[list[int]]) -> Tensor:
        ids, mask = right_pad(batch, subject.tokenizer.pad_token_id, model.device)
        at, ends = torch.arange(len(batch)), torch.tensor([len(row) - 1 for row in batch])
        states = layer_states(subject.model, at, ends, layers, to_the_end=False, input_ids=ids, attention_mask=mask)
        return torch.stack([of.float().cpu() for of in states], 1)

    return torch.stack(in_batches(rows, BATCH, "states of the layers", read))  # type: ignore[arg-type]


def probe(states: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Score:
    """Cross-validated accuracy of a linear classifier; chance is one half. states ``[n, size]``, labels and groups ``[n]``."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that has not converged is a fit all the same
        guessed = cross_val_predict(classifier, states, labels, groups=groups, cv=GroupKFold(FOLDS))
    return proportion((guessed == labels).tolist(), 0.5, groups.tolist())


def logit_lens(subject: Subject, states: Tensor, asked: Sequence[Question]) -> Score | None:
    """Mean probability of the right choice's first token among those of all choices, read off these states ``[n, size]``.

    Questions whose choices begin alike are left out; None where nothing is left or the model's last norm is not found.
    """
    model, tokenizer = bare(subject.model), subject.tokenizer
    norm = last_norm(model)
    if norm is None:
        return None
    device, dtype = next(norm.parameters()).device, next(norm.parameters()).dtype
    logits = output_head(model)(norm(states.to(device, dtype))).float().cpu()
    values = []
    for row, question in zip(logits, asked, strict=True):
        first = [behind(tokenizer, "a", f" {choice}")[0] for choice in question.choices]
        if len(set(first)) == len(first):
            values.append(row[first].softmax(-1)[question.answer].item())
    guessing = sum(1 / len(question.choices) for question in asked) / len(asked)
    return average(values, guessing) if values else None
