"""The attacks by name, and those in files of the user's own."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from efface.attacks.attack import Attack, AttackScorer, Measure
from efface.attacks.directions import directions
from efface.attacks.prompts import PROMPTS, Prompts
from efface.attacks.quantise import quantise
from efface.attacks.relearning import Relearning, Training
from efface.auditing.own import run_own
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Split
from efface.errors import InputError
from efface.recipe.own import import_file, require_function
from efface.recipe.settings import AuditSettings


def _relearn(settings: AuditSettings) -> Attack:
    return Relearning((Training(settings.relearn_texts, settings.relearn_steps, settings.relearn_lr),))


def _relearn_all(settings: AuditSettings) -> Attack:
    """A smaller rate, full weights, more passages and steps; what ``relearn`` measures is not measured again."""
    texts, steps = settings.relearn_texts, settings.relearn_steps
    low_rank = (Training(texts, steps, 2e-4), Training(50, 50, 1e-3), Training(50, 50, 2e-4))
    return Relearning((*low_rank, *(Training(texts, steps, lr, rank=0) for lr in (1e-4, 1e-5))), control=False)


#: each costs as much as quantising; ``prompts_all`` has the others
FEW_PROMPTS = ("begun answer", "role play", "filler in Latin")
#: by name, what makes the attack for some settings
ATTACKS: Mapping[str, Callable[[AuditSettings], Attack]] = {
    "relearn": _relearn,
    "relearn_all": _relearn_all,
    "prompts": lambda _: Prompts(FEW_PROMPTS),
    "prompts_all": lambda _: Prompts(tuple(variant for variant in PROMPTS if variant not in FEW_PROMPTS)),
    "quantise": lambda _: quantise,
    "directions": lambda _: directions,
}
#: minutes for a small model on a processor
FAST = ("relearn", "prompts", "quantise", "directions")
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
    if Path(name).stem in ATTACKS:
        raise InputError(f"{name}: its figures would be called as those of attack {Path(name).stem}; give the file another name")
    return AttackScorer(Path(name).stem, _own(name), sha256(Path(name).read_bytes()).hexdigest()[:16])


def _own(file: str) -> Attack:
    """The attack in a file."""
    expected = "attack(subject, measure)"
    attack = require_function(getattr(import_file(Path(file), "attack"), "attack", None), file, expected)

    def attacked(subject: Subject, measure: Measure) -> None:
        run_own(file, "attack", subject, lambda: attack(subject, measure))

    return attacked
