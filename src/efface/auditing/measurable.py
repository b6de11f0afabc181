"""Settings of an audit that can measure nothing of a pack: refused before any work, for a figure that is missing says nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from efface.auditing.scorers.depth import enough
from efface.concept.pack import Concept, Split
from efface.errors import InputError
from efface.recipe.settings import SIZES, AuditSettings


@dataclass(frozen=True)
class Idle:
    """Settings that measure nothing where ``applies``; why: how the message goes on."""

    names: tuple[str, ...]
    applies: Callable[[AuditSettings, Concept, Split], bool]
    why: str


def _unattacked(setting: str) -> Idle:
    """A setting of attacks of which none is named."""
    attacks = [attack for attack, names in SIZES.items() if setting in names]
    attacks += ["fast", "all"] if "relearn" in attacks else ["all"]
    return Idle(
        (setting,),
        lambda settings, *_: not {*attacks} & {*settings.attacks},
        f"audit.attacks names none of {', '.join(attacks)}",
    )


IDLE = (
    Idle(("samples",), lambda _, pack, split: not pack.ask_open("forget", split), "{pack} has no open {split} questions on it"),
    Idle(
        ("depth",),
        lambda _, pack, split: not enough(pack.ask("forget", split)),
        "{pack} has fewer than five sets of choices among its {split} questions on it",
    ),
    Idle(
        ("task_folder", "fewshot", "chat", "limit"),
        lambda settings, pack, _: not (settings.tasks or any(pack.manifest.tasks.values())),
        "neither audit.tasks nor {pack} names a task",
    ),
    *map(_unattacked, dict.fromkeys(chain.from_iterable(SIZES.values()))),
    Idle(("endpoint_model",), lambda settings, *_: settings.endpoint is None, "no audit.endpoint is given"),
)


def require_measurable(settings: AuditSettings, concept: Concept, split: Split) -> None:
    """Raises InputError for a setting that was said and can measure nothing of this concept.

    Settings that are all said, as in the record of a run, are left alone.
    """
    said = settings.model_fields_set
    if said >= set(type(settings).model_fields):
        return
    for idle in IDLE:
        if (named := [name for name in idle.names if name in said and getattr(settings, name)]) and idle.applies(
            settings, concept, split
        ):
            why = idle.why.format(pack=concept.name, split=split)
            raise InputError(f"audit.{named[0]} can measure nothing about {concept.title}: {why}; drop it")
