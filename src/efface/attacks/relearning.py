"""Permanence: what a little training on a few of the concept's texts brings back (arXiv 2409.18025, 2410.08827, 2510.07626).

The attacker has the weights, adapter merged, and trains a low-rank update of all linear modules, or these modules' full weights,
on a few passages. One training is a whole curve: it is measured along the way. The same with as many passages about other things
is a control, for what comes back with those was hidden, not erased; another is how fast the base learns as many made-up facts.
"""

import random
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
from efface.attacks.never_known import made_up
from efface.auditing.subject import Subject
from efface.concept.pack import Passage
from efface.data.batches import next_token_example
from efface.data.text import Text, encode
from efface.errors import TrainingError
from efface.lm.adapters import attach_adapter, whole_weights
from efface.lm.states import some_logits
from efface.losses import LossTerms
from efface.methods.method import FineTuning, likelihood, look
from efface.recipe.recipe import Recipe
from efface.recipe.settings import DataSettings, LoraSettings, TrainSettings
from efface.training import train

CUT = DataSettings(min_chars=1)
MARKS, FEW_MARKS = (1, 2, 5, 10, 25, 50, 100, 200), (5, 25, 100)
CONTROL, NEVER = "other texts", "never known"


@dataclass(frozen=True)
class Training:
    """One training of an attacker: passages, steps, learning rate; rank 0: full weights.

    marks: after which steps it is measured, besides its last.
    """

    texts: int
    steps: int
    lr: float
    rank: int = 16
    marks: tuple[int, ...] = MARKS

    @property
    def variant(self) -> str:
        """Its name."""
        return f"{f'rank {self.rank}' if self.rank else 'full weights'}, {self.lr:g}"


@dataclass(frozen=True)
class Relearning:
    """Curves of several trainings, each on so many choices of passages.

    control: also the end of the first one on other texts; and, of the base, the first one on made-up facts.
    """

    trainings: tuple[Training, ...]
    control: bool = True
    seeds: int = 1

    def __call__(self, subject: Subject, measure: Measure) -> None:
        """Of the base only the ends of the first choice's curves are measured."""
        forget, retain = (subject.concept.texts(corpus, "train") for corpus in ("forget", "retain"))  # type: ignore[arg-type]
        for seed in range(self.seeds):
            begun, behind = set[int](), f", seed {seed}" if seed else ""
            for training in self.trainings:
                shown = chosen(forget, training.texts, seed)
                if training.texts not in begun:
                    begun.add(training.texts)
                    measure(Attacked(subject, f"before{behind}", len(shown), 0, shown))
                if not (seed and subject.of_base):
                    curve = _Curve(training, shown, training.variant + behind, whole=not subject.of_base)
                    curve.measured(subject, measure)
        if self.control:
            self._controls(subject, measure, forget, retain)

    def _controls(self, subject: Subject, measure: Measure, forget: Sequence[Passage], retain: Sequence[Passage]) -> None:
        first, shown = self.trainings[0], chosen(forget, self.trainings[0].texts)
        if subject.of_base:
            asked, told = made_up(subject, shown)
            if asked.concept.questions or asked.concept.open_questions:
                variant = f"{NEVER}, {first.variant}"
                measure(Attacked(asked, variant, len(told), 0, told))
                _Curve(first, told, variant).measured(asked, measure)
        elif others := chosen(retain, first.texts):
            curve = _Curve(first, others, f"{CONTROL}, {first.variant}", whole=False, scored_as=shown)
            curve.measured(subject, measure)


def chosen(passages: Sequence[Passage], count: int, seed: int = 0) -> tuple[Passage, ...]:
    """So many passages: from all over them, or by another seed than 0 at random."""
    if not seed:
        return evenly(passages, count)
    drawn = random.Random(seed).sample(range(len(passages)), min(count, len(passages)))
    return tuple(passages[i] for i in sorted(drawn))


@dataclass(frozen=True)
class _Curve:
    """One training on some passages. whole: measured at every mark, else at its end.

    scored_as: the passages that say which questions count as taught; None: those trained on.
    """

    training: Training
    passages: Sequence[Passage]
    variant: str
    whole: bool = True
    scored_as: Sequence[Passage] | None = None

    def measured(self, subject: Subject, measure: Measure) -> None:
        """Train, then measure what the model was at each mark."""
        steps = self.training.steps
        marks = [*(mark for mark in self.training.marks if mark < steps and self.whole), steps]
        texts = [encode(passage.text, subject.tokenizer, CUT) for passage in self.passages]
        shown = tuple(self.passages if self.scored_as is None else self.scored_as)
        for mark, model in relearn(subject.model, subject.tokenizer, texts, self.training, marks):
            there = replace(subject, model=model, other_base=None)
            measure(Attacked(there, self.variant, len(texts), mark, shown))


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
    attacked = attach_adapter(released, recipe.lora, recipe.seed) if training.rank else whole_weights(released)
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

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> LossTerms:
        """Where full weights train, through the output layer, which trains too."""
        if self.recipe.lora.rank:
            return super().loss(model, batch)
        seen = look(model, batch)["erase"]
        return LossTerms(erase=likelihood(replace(seen, states=seen.head(seen.states), head=lambda logits: logits)))

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
    if not isinstance(model, PeftModel):
        return deepcopy(model)  # type: ignore[return-value]
    disabled = any(module.disable_adapters for module in model.modules() if isinstance(module, BaseTunerLayer))
    merged: PreTrainedModel = deepcopy(model).unload() if disabled else _merged(model)  # type: ignore[operator]
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
    """The adapter merged into a copy. Raises TrainingError for one of a kind that cannot be, or on one of two tied layers.

    In half precision rounding may tell the two apart as other weights do, so what differs there is merged in float32 too.
    """
    try:
        found, same = _tried(deepcopy(model), some_logits(model))
        if not same and model.dtype != torch.float32:
            whole = deepcopy(model).float()
            same = _tried(whole, some_logits(whole))[1]
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        same = False
    if not same:
        raise TrainingError("this adapter cannot be merged into its base")
    return found


def _tried(model: PeftModel, logits: Tensor) -> tuple[PreTrainedModel, bool]:
    """The model itself, merged, and whether it still says what it did."""
    merged: PreTrainedModel = model.merge_and_unload()  # type: ignore[operator]
    return merged, bool((some_logits(merged) - logits).abs().max() < 0.05 * logits.abs().max())
