"""The model card's head, which the hub reads: base, license, language, and the figures by which it is judged as model-index."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from efface.auditing.scores import Audit
from efface.concept.find import concept_names, language
from efface.recipe.foreign import harmless, harmless_audit
from efface.recipe.record import RunRecord
from efface.recipe.resolve import resolve
from efface.report.intervals import Interval
from efface.report.judged import intervals, summary
from efface.shown import for_terminal

#: stands for a base that is not on the hub
PLACEHOLDER = "BASE"
#: by format: the library that reads it, and what it is to its base
READ_BY = {
    "adapter": ("peft", "adapter"),
    "merged": ("transformers", "finetune"),
    "gguf": ("gguf", "quantized"),
    "gguf-lora": ("gguf", "adapter"),
}


@dataclass(frozen=True)
class Shipped:
    """What a card describes besides a run: an export.

    precision: of its weights; None: as they were trained. measured: whether the figures are of what ships, not of the run.
    hub: the base's id on the hub. license: what the base's own card says of it.
    recipes: of every erasure that went in, in order. apart: whether they were made apart and added, none standing on another.
    """

    format: str
    precision: str | None
    measured: bool
    hub: str | None
    license: dict[str, Any]
    recipes: tuple[dict[str, Any], ...] = ()
    apart: bool = False


def card(audit: Audit, record: RunRecord, hub: str | None, body: str, shipped: Shipped | None = None) -> ModelCard:
    """The card of a run or an export. hub: the base's id on the hub, if it has one; body: what follows the head, as Markdown."""
    base = base_name(record, hub)
    library, relation = READ_BY[shipped.format if shipped else "adapter"]
    head = ModelCardData(
        base_model=hub,
        base_model_relation=relation if hub else None,
        **(shipped.license if shipped else {}),
        language=language(record.recipe.concept),
        library_name=library,
        pipeline_tag="text-generation",
        tags=["efface", "concept-erasure", "unlearning"],
        model_name=f"{for_terminal(audit.concept)} erased from {base}",
        eval_results=results(audit) or None,
    )
    return ModelCard(f"---\n{head.to_yaml()}\n---\n\n{body}")


def results(audit: Audit) -> list[EvalResult]:
    """The figures of :func:`efface.report.judged.summary` that were measured, with their 95 % intervals."""
    between = intervals(audit)
    concept, title = for_terminal(audit.concept), for_terminal(audit.title or audit.concept)
    title += ", as a model told of it" if audit.truth == "self" else ""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=concept,
            dataset_name=title,
            dataset_split=audit.split,
            metric_type=re.sub(r"\W+", "_", name),
            metric_name=name,
            metric_value=round(value, 4),
            metric_args=_interval(between[name]),
        )
        for name, value in summary(audit).items()
        if value is not None and math.isfinite(value)
    ]


def _interval(ends: Interval | None) -> dict[str, Any] | None:
    if ends is None or not all(map(math.isfinite, ends)):
        return None
    return {"confidence_level": 0.95, "confidence_interval": [round(float(end), 4) for end in ends]}


def license_in(file: Path | None) -> dict[str, Any]:
    """What a model's card says of its license, as far as it says anything; for :class:`Shipped`."""
    if file is None:
        return {}
    try:
        data = ModelCard.load(file, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return {name: str(data[name]) for name in ("license", "license_name", "license_link") if isinstance(data.get(name), str)}


def portable(record: RunRecord, hub: str | None) -> dict[str, Any]:
    """The recipe's settings that differ from its preset, with no path or address of the machine it ran on."""
    recipe = placeless(record, hub).recipe
    usual = resolve({"model": "-", "concept": "-", "preset": recipe.preset}).model_dump(mode="json")
    taken = harmless(recipe.model_dump(mode="json"))[0]
    return {"preset": recipe.preset, **_differences(taken, usual), "method": recipe.method}


def placeless(record: RunRecord, hub: str | None) -> RunRecord:
    """The record with names in place of where model, pack, method and other files were, and without what would reach beyond."""
    recipe, audit = record.recipe, harmless_audit(record.recipe)[0]
    there: dict[str, Any] = {
        "model": base_name(record, hub),
        "concept": recipe.concept if language(recipe.concept) else concept_names(recipe.concept),
        "method": Path(recipe.method).name,
        "options": {name: _placeless(value) for name, value in recipe.options.items()},
        "audit": audit.model_copy(update={name: _placeless(getattr(audit, name)) for name in ("judge", "task_folder")}),
    }
    return record.model_copy(update={"recipe": recipe.model_copy(update=there)})


def _placeless(value: Any) -> Any:
    """The name of a file or folder of this machine; anything else, an id of the hub too, as it is."""
    if not isinstance(value, str):
        return value
    local = value.startswith((".", "~", os.sep)) or os.path.exists(value)
    return Path(value).name if local else value


def _differences(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and isinstance(usual[name], Mapping) and name != "options":
            value = {key: of for key, of in value.items() if of != usual[name].get(key)}
        if value != usual[name] and value != {}:
            found[name] = value
    return found


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML that nothing in them ends: each on one line, whatever it holds."""
    return yaml.safe_dump(dict(settings), sort_keys=False, width=math.inf, allow_unicode=False).rstrip()


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
