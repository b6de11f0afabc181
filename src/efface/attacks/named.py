"""The attacks by name, and those in files of the user's own."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from efface.attacks.attack import Attack, AttackScorer
from efface.attacks.relearning import Relearning, Training
from efface.concept.pack import Concept, Split
from efface.errors import InputError
from efface.recipe.own import import_file
from efface.recipe.settings import AuditSettings


def _relearn(settings: AuditSettings) -> Attack:
    rates = (settings.relearn_lr,) if settings.relearn_lr else (1e-3, 2e-4)
    return Relearning(tuple(Training(settings.relearn_texts, settings.relearn_steps, lr) for lr in rates))


def _relearn_all(settings: AuditSettings) -> Attack:
    """More passages and steps, full weights; what ``relearn`` has measured is not measured again."""
    low_rank = [Training(50, 50, lr) for lr in (1e-3, 2e-4)]
    whole = [Training(settings.relearn_texts, settings.relearn_steps, lr, rank=0) for lr in (1e-4, 1e-5)]
    return Relearning((*whole, *low_rank))


#: by name, what makes the attack for some settings
ATTACKS: Mapping[str, Callable[[AuditSettings], Attack]] = {"relearn": _relearn, "relearn_all": _relearn_all}
#: under five minutes together for the default model on two cores
FAST = ("relearn",)
GROUPS = {"fast": FAST, "all": tuple(ATTACKS)}


def attack_scorers(settings: AuditSettings, concept: Concept, split: Split) -> tuple[AttackScorer, ...]:
    """The attacks that the settings name, as scorers. Raises InputError for one that is not there, or without questions."""
    names = dict.fromkeys(name for given in settings.attacks for name in GROUPS.get(given, (given,)))
    if names and not (concept.ask("forget", split) or concept.ask_open("forget", split)):
        raise InputError(
            f"audit.attacks: {concept.name} has no {split} questions on the concept, so what comes back cannot be told"
        )
    return tuple(_scorer(name, settings) for name in names)


def _scorer(name: str, settings: AuditSettings) -> AttackScorer:
    if name in ATTACKS:
        decides = settings.model_dump_json(include={"relearn_texts", "relearn_steps", "relearn_lr"})
        return AttackScorer(name, ATTACKS[name](settings), decides)
    if Path(name).suffix != ".py":
        raise InputError(f"audit.attacks: no attack {name!r}; expected {', '.join([*GROUPS, *ATTACKS])}, or a Python file")
    attack = getattr(import_file(Path(name), "attack"), "attack", None)
    if not callable(attack):
        raise InputError(f"{name}: expected a function attack(subject, measure)")
    return AttackScorer(Path(name).stem, attack, sha256(Path(name).read_bytes()).hexdigest()[:16])
