"""Permanence: what a few training steps on a few of the concept's texts bring back (arXiv 2409.18025, 2510.07626).

The attacker has the weights, adapter merged, and trains a low-rank update of all linear modules on ten passages. The same with
ten passages about other things is the control: what comes back with those was hidden, not erased.
"""

import sys
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from efface.auditing.scorers.choice import alike, chance, hits
from efface.auditing.scorers.harness import METRICS, ask
from efface.auditing.scores import Score
from efface.auditing.statistics import proportion
from efface.auditing.subject import Subject
from efface.data.batches import next_token_example
from efface.data.text import Text, encode
from efface.errors import TrainingError
from efface.lm.adapters import attach_adapter
from efface.methods.method import FineTuning
from efface.recipe.recipe import Recipe
from efface.recipe.settings import AuditSettings, DataSettings, LoraSettings, TrainSettings
from efface.training import train

CUT = DataSettings(min_chars=1)
CORPORA = {"relearned": "forget", "relearned_control": "retain"}


def score_relearning(subject: Subject) -> dict[str, Score]:
    """``relearned/forget/{metric}`` after training on forget passages, ``relearned_control/…`` on retain passages."""
    settings, asked = subject.settings, subject.concept.ask("forget", subject.split)
    if not settings.relearn_steps or not asked:
        return {}
    scores: dict[str, Score] = {}
    for name, corpus in CORPORA.items():
        passages = subject.concept.texts(corpus, "train")  # type: ignore[arg-type]
        some = passages[:: max(1, len(passages) // settings.relearn_texts)][: settings.relearn_texts]
        texts = [encode(passage.text, subject.tokenizer, CUT) for passage in some]
        try:
            attacked = relearn(subject.model, subject.tokenizer, texts, settings)
        except TrainingError as error:  # what else was measured stays
            print(f"relearning is left out, with audit.relearn_lr {settings.relearn_lr:g}: {error}", file=sys.stderr)
            return {}
        found = ask(replace(subject, model=attacked), {"forget": asked})["forget"]
        del attacked  # a copy of the model, and the next one is made before this name is used again
        guessing, groups = chance(asked), alike(asked)
        scores |= {f"{name}/forget/{metric}": proportion(hits(found, metric), guessing, groups) for metric in METRICS}
    return scores


def relearn(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], settings: AuditSettings) -> PeftModel:
    """A copy of the model after so many steps of AdamW on the texts, all of them in every step."""
    released = release(model)
    recipe = Recipe(
        model="-",
        concept="-",
        dtype="float32" if released.dtype == torch.float32 else "bfloat16",
        lora=LoraSettings(layers="all"),
        train=TrainSettings(
            steps=settings.relearn_steps, lr=settings.relearn_lr, batch_size=len(texts), schedule="constant", warmup_steps=0
        ),
    )
    attacked = attach_adapter(released, recipe.lora, recipe.seed)
    with torch.enable_grad(), tempfile.TemporaryDirectory(prefix="efface-relearn-") as folder:
        corpora = {"erase": [next_token_example(text) for text in texts]}
        train(attacked, tokenizer, FineTuning(recipe), corpora, recipe, Path(folder))
    return attacked.eval()


def release(model: nn.Module) -> PreTrainedModel:
    """A copy as it would be released: the adapter merged into the weights, or gone where it is disabled (the base)."""
    copied = deepcopy(model)
    if not isinstance(copied, PeftModel):
        return copied  # type: ignore[return-value]
    disabled = any(module.disable_adapters for module in copied.modules() if isinstance(module, BaseTunerLayer))
    merged: PreTrainedModel = copied.unload() if disabled else copied.merge_and_unload()  # type: ignore[operator]
    return merged.requires_grad_(False)


#: every attack that an audit can make, as scorers of what it leaves
ATTACKS = (score_relearning,)
