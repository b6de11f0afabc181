"""Permanence: what a little training on a few of the concept's texts brings back (arXiv 2409.18025, 2410.08827, 2510.07626).

The attacker has the weights, adapter merged, and trains a low-rank update of all linear modules, or these modules' full weights,
on a few passages. One training is a whole curve: it is measured along the way. The same with as many passages about other things
is the control, for what comes back with those was hidden, not erased.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from efface.attacks.attack import Attacked, Measure, evenly
from efface.auditing.subject import Subject
from efface.data.batches import next_token_example
from efface.data.text import Text, encode
from efface.errors import TrainingError
from efface.lm.adapters import attach_adapter
from efface.lm.states import some_logits
from efface.methods.method import FineTuning
from efface.recipe.recipe import Recipe
from efface.recipe.settings import DataSettings, LoraSettings, TrainSettings
from efface.training import train

CUT = DataSettings(min_chars=1)
MARKS = (1, 2, 5, 10, 25, 50, 100, 200)
CONTROL = "other texts"


@dataclass(frozen=True)
class Training:
    """One training of an attacker: passages, steps, learning rate; rank 0: full weights."""

    texts: int
    steps: int
    lr: float
    rank: int = 16

    @property
    def variant(self) -> str:
        """Its name."""
        return f"{f'rank {self.rank}' if self.rank else 'full weights'}, {self.lr:g}"


@dataclass(frozen=True)
class Relearning:
    """Curves of several trainings. control: also the last step of the first one on other texts."""

    trainings: tuple[Training, ...]
    control: bool = True

    def __call__(self, subject: Subject, measure: Measure) -> None:
        """Of the base only the ends of every curve are measured."""
        passages = {
            corpus: [row.text for row in subject.concept.texts(corpus, "train")]  # type: ignore[arg-type]
            for corpus in ("forget", "retain")
        }
        begun = set[int]()
        for training in self.trainings:
            shown = evenly(passages["forget"], training.texts)
            if training.texts not in begun:
                begun.add(training.texts)
                measure(Attacked(subject, "before", len(shown), 0, shown))
            _curve(subject, training, shown, measure, training.variant)
        first, shown = self.trainings[0], evenly(passages["forget"], self.trainings[0].texts)
        if self.control and not subject.of_base and (others := evenly(passages["retain"], first.texts)):
            _curve(subject, first, others, measure, f"{CONTROL}, {first.variant}", scored_as=shown)


def _curve(
    subject: Subject,
    training: Training,
    texts: Sequence[str],
    measure: Measure,
    variant: str,
    scored_as: Sequence[str] | None = None,
) -> None:
    """Train, then measure what the model was at each mark. scored_as: the texts that say which questions count as taught."""
    marks = [training.steps] if subject.of_base or scored_as else [*(m for m in MARKS if m < training.steps), training.steps]
    encoded = [encode(text, subject.tokenizer, CUT) for text in texts]
    for steps, model in relearn(subject.model, subject.tokenizer, encoded, training, marks):
        shown = tuple(texts if scored_as is None else scored_as)
        measure(Attacked(replace(subject, model=model, other_base=None), variant, len(texts), steps, shown))


def relearn(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], training: Training, marks: Sequence[int]
) -> Iterator[tuple[int, PeftModel]]:
    """A copy of the model after each of these numbers of steps of AdamW on the texts, all of them in every step.

    One training; the weights that train are kept at every mark, and put back one after the other.
    """
    released = release(model)
    recipe = Recipe(
        model="-",
        concept="-",
        dtype="float32" if released.dtype == torch.float32 else "bfloat16",
        lora=LoraSettings(layers="all", rank=training.rank),
        train=TrainSettings(steps=training.steps, lr=training.lr, batch_size=len(texts), schedule="constant", warmup_steps=0),
    )
    attacked = attach_adapter(released, recipe.lora, recipe.seed)
    snapshots = _Snapshots(recipe, marks)
    with torch.enable_grad(), tempfile.TemporaryDirectory(prefix="efface-relearn-") as folder:
        corpora = {"erase": [next_token_example(text) for text in texts]}
        train(attacked, tokenizer, snapshots, corpora, recipe, Path(folder))
    attacked.eval()
    for steps, weights in snapshots.kept.items():
        for name, parameter in attacked.named_parameters():
            if name in weights:
                parameter.data.copy_(weights[name])
        yield steps, attacked


class _Snapshots(FineTuning):
    """Fine-tuning that keeps what it trains after some of its steps."""

    def __init__(self, recipe: Recipe, marks: Sequence[int]) -> None:
        super().__init__(recipe)
        self.marks, self.kept = set(marks), dict[int, dict[str, Tensor]]()

    def constrain(self, model: PeftModel, batches: Callable[[], Any]) -> Callable[[], None]:
        """Counts the steps."""
        done, trained = 0, {name: of for name, of in model.named_parameters() if of.requires_grad}

        def after() -> None:
            nonlocal done
            done += 1
            if done in self.marks:
                self.kept[done] = {name: of.detach().to("cpu", copy=True) for name, of in trained.items()}

        return after


def release(model: nn.Module) -> PreTrainedModel:
    """A copy as it would be released: the adapter merged into the weights, or gone where it is disabled (the base).

    Raises TrainingError for an adapter that cannot be merged.
    """
    copied = deepcopy(model)
    if not isinstance(copied, PeftModel):
        return copied  # type: ignore[return-value]
    disabled = any(module.disable_adapters for module in copied.modules() if isinstance(module, BaseTunerLayer))
    if disabled:
        merged: PreTrainedModel = copied.unload()  # type: ignore[operator]
    else:
        merged = _merged(copied)
    return merged.requires_grad_(False)


def merged(subject: Subject) -> Subject:
    """The subject with its adapter merged, or gone, for that is read faster; as it is, where there is none or it cannot be."""
    if not isinstance(subject.model, PeftModel):
        return subject
    with suppress(TrainingError):
        model = release(subject.model)
        return replace(subject, model=model, other_base=model if subject.of_base else subject.other_base)
    return subject


def _merged(model: PeftModel) -> PreTrainedModel:
    """The adapter merged into its base. Raises TrainingError for one of a kind that cannot be, or on one of two tied layers."""
    logits = some_logits(model)
    try:
        merged: PreTrainedModel = model.merge_and_unload()  # type: ignore[operator]
        same = bool((some_logits(merged) - logits).abs().max() < 0.05 * logits.abs().max())
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        same = False
    if not same:
        raise TrainingError("this adapter cannot be merged into its base")
    return merged
