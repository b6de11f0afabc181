"""Settings that came with a folder: a run, a search, an audit. What in them runs code or sends something is the user's to say.

Every reader of such settings takes them through :func:`harmless`, before anything is made of them.
"""

from collections.abc import Mapping
from typing import Any

from efface.recipe.own import is_file
from efface.recipe.recipe import Recipe
from efface.recipe.settings import AuditSettings

#: settings that run code or send something, and what only goes with them; so does a method that is a file
REACHING = (
    "trust_remote_code",
    "audit.task_folder",
    "audit.scorers",
    "audit.endpoint",
    "audit.endpoint_model",
)
METHOD = "method"


def harmless(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is taken over of nested settings that came with a folder; and what is not, by name (``audit.endpoint``)."""
    kept, left_out = dict(settings), dict[str, Any]()
    if is_file(settings.get(METHOD)):
        left_out[METHOD] = kept.pop(METHOD)
    for name in REACHING:
        section, _, setting = name.rpartition(".")
        of = kept.get(section) if section else kept
        if isinstance(of, Mapping) and setting in of:
            rest = {key: value for key, value in of.items() if key != setting}
            kept = {**kept, section: rest} if section else rest
            left_out[name] = of[setting]
    of = kept.get("audit")
    attacks = of.get("attacks") if isinstance(of, Mapping) else None
    if isinstance(of, Mapping) and isinstance(attacks, list | tuple) and any(map(is_file, attacks)):
        left_out["audit.attacks"] = tuple(filter(is_file, attacks))
        kept["audit"] = {**of, "attacks": tuple(name for name in attacks if not is_file(name))}
    usual = AuditSettings.model_fields["endpoint_model"].default
    return kept, {name: value for name, value in left_out.items() if value and value != usual}


def harmless_audit(recipe: Recipe) -> tuple[AuditSettings, dict[str, Any]]:
    """How a run that is there was measured, as far as it is taken over; and what of it is not."""
    kept, left_out = harmless({"audit": recipe.audit.model_dump()})
    return AuditSettings.model_validate({**AuditSettings().model_dump(), **kept["audit"]}), left_out  # whole, as it was
