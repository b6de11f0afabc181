"""What ships is measured: the exported weights beside the run's base, with the run's questions and settings."""

from pathlib import Path

import torch
from torch import Tensor

from efface.attacks.attack import AttackScorer, Measure
from efface.attacks.named import attack_scorers
from efface.attacks.quantise import rounded
from efface.auditing.pair import Pair, audit_pair
from efface.auditing.scores import Audit
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.lm.load import Loaded, load, weights_hash
from efface.recipe.foreign import harmless_audit
from efface.recipe.recipe import Recipe
from efface.recipe.settings import AuditSettings
from efface.runs.audit import audit
from efface.runs.inputs import load_model
from efface.runs.run import Run

QUANTISE = "quantise"
CONFIG, GGUF = "config.json", "model.gguf"  # of whole weights


def measured(run: Run, recipe: Recipe, concept: Concept, folder: Path, few_bits: bool) -> Audit:
    """The audit of what was exported there, as the run was measured: whole weights beside the recipe's model.

    few_bits: what ships is in few bits already; else it is measured after round trips through bfloat16, 8 and 4 bits too.
    """
    settings = settings_of(run, few_bits)
    more = [] if few_bits else [AttackScorer(QUANTISE, to_bfloat16, "bf16")]
    if not any((folder / name).is_file() for name in (CONFIG, GGUF)):  # the adapter itself, bit for bit
        return audit(run.folder, settings=settings)
    return audit_pair(
        _pair(recipe, concept, folder), concept, "test", settings, (*attack_scorers(settings, concept, "test"), *more)
    )


def settings_of(run: Run, few_bits: bool) -> AuditSettings:
    """How the run was measured, and the round trips."""
    settings = harmless_audit(run.record.recipe)[0]
    asked = [name for name in settings.attacks if name != QUANTISE]
    return settings.model_copy(update={"attacks": tuple(asked if few_bits else [*asked, QUANTISE])})


def _pair(recipe: Recipe, concept: Concept, folder: Path) -> Pair:
    """The base as the run saw it, and the exported weights in the precision that the machine computes in."""
    recipe = recipe.model_copy(update={"load_in_4bit": False, "trust_remote_code": False})
    before = load_model(recipe)
    after = load(str(folder / GGUF if (folder / GGUF).is_file() else folder), dtype=recipe.dtype, device_map=recipe.device_map)
    hashes = {"model": weights_hash(before.model), "concept": concept.digest, "adapter": weights_hash(after.model)}
    return Pair(Loaded(after.model, before.tokenizer, before.source, before.path), before.model, hashes)


def to_bfloat16(subject: Subject, measure: Measure) -> None:
    """``bf16``: the linear modules of all decoder layers rounded to bfloat16."""

    def there_and_back(rows: Tensor) -> Tensor:
        return rows.to(torch.bfloat16).to(rows.dtype)

    rounded(subject, measure, {"bf16": there_and_back})
