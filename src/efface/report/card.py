"""The model card's head, which the hub reads: base, language, and the figures by which the run is judged as its model-index."""

import json
import math
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from efface.auditing.scores import Audit
from efface.concept.find import language
from efface.recipe.record import RunRecord
from efface.report.judged import summary
from efface.shown import for_terminal


def card(audit: Audit, record: RunRecord, hub: str | None, body: str) -> ModelCard:
    """The card of a run. hub: the base's id on the hub, if it has one; body: what follows the head, as Markdown."""
    base = base_name(record, hub)
    head = ModelCardData(
        base_model=hub,
        language=language(record.recipe.concept),
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["efface", "concept-erasure", "unlearning"],
        model_name=f"{for_terminal(audit.concept)} erased from {base}",
        eval_results=results(audit) or None,
    )
    return ModelCard(f"---\n{head.to_yaml()}\n---\n\n{body}")


def results(audit: Audit) -> list[EvalResult]:
    """The figures of :func:`efface.report.judged.summary` that were measured."""
    concept, title = for_terminal(audit.concept), for_terminal(audit.title or audit.concept)
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=concept,
            dataset_name=title,
            dataset_split=audit.split,
            metric_type=re.sub(r"\W+", "_", name),
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, value in summary(audit).items()
        if value is not None and math.isfinite(value)
    ]


def base_name(record: RunRecord, hub: str | None) -> str:
    """The base as a card names it: its id on the hub, else the last part of its path."""
    return hub or Path(record.recipe.model).name


def hub_id(adapter: Path) -> str | None:
    """The id of the base on the hub, as the adapter's configuration names it; None for a path, or where it does not say."""
    try:
        name = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        validate_repo_id(name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if name is None or Path(name).exists() else str(name)
