"""The attacks by name, and those in files of the user's own."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from efface.attacks.attack import Attack, AttackScorer, Measure
from efface.attacks.beast import beast
from efface.attacks.directions import directions
from efface.attacks.gcg import TOKENS, gcg
from efface.attacks.leak import Leak
from efface.attacks.prompts import PROMPTS, Prompts
from efface.attacks.quantise import quantise
from efface.attacks.relearning import FEW_MARKS, Relearning, Training
from efface.attacks.suffix import Suffix
from efface.auditing.own import run_own
from efface.auditing.public import public_questions
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Split
from efface.errors import InputError
from efface.recipe.own import import_file, require_function
from efface.recipe.settings import SIZES, AuditSettings


def _relearn(settings: AuditSettings) -> Attack:
    first = Training(settings.relearn_texts, settings.relearn_steps, settings.relearn_lr)
    return Relearning((first,), seeds=settings.relearn_seeds)


def _relearn_all(settings: AuditSettings) -> Attack:
    """A smaller rate, full weights, more passages and steps; what ``relearn`` measures is not measured again."""
    texts, steps = settings.relearn_texts, settings.relearn_steps
    low_rank = (Training(texts, steps, 2e-4), Training(50, 50, 1e-3), Training(50, 50, 2e-4))
    whole = (Training(texts, steps, lr, rank=0) for lr in (1e-4, 1e-5))
    trainings = tuple(replace(training, marks=FEW_MARKS) for training in (*low_rank, *whole))
    return Relearning(trainings, control=False, seeds=settings.relearn_seeds)


def _beast(settings: AuditSettings) -> Attack:
    beams, tokens = settings.beast_beams, settings.beast_tokens
    return Suffix("beast", lambda wanted: beast(wanted, beams, tokens), settings.suffix_questions, tokens)


def _gcg(settings: AuditSettings) -> Attack:
    candidates, steps = settings.gcg_candidates, settings.gcg_steps
    return Suffix("gcg", lambda wanted: gcg(wanted, candidates, steps), settings.suffix_questions, TOKENS)


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
    "leak": lambda settings: Leak(settings.leak_answers),
    "beast": _beast,
    "gcg": _gcg,
}
#: minutes for a small model on a processor
FAST = ("relearn", "prompts", "quantise", "directions")
GROUPS = {"fast": FAST, "all": tuple(ATTACKS)}


def attack_scorers(settings: AuditSettings, concept: Concept, split: Split) -> tuple[AttackScorer, ...]:
    """The attacks that the settings name, as scorers. Raises InputError for one that is not there, or without questions."""
    names = dict.fromkeys(name for given in settings.attacks for name in GROUPS.get(given, (given,)))
    scorers = tuple(_scorer(name, settings) for name in names)
    asked = public_questions(concept, split, settings) if names else ()
    if names and not (
        any(row.kind == "forget" for row in (*asked, *concept.ask("forget", split))) or concept.ask_open("forget", split)
    ):
        raise InputError(
            f"audit.attacks can measure nothing about {concept.title}: {concept.name} has no {split} questions on it, and names "
            "no public task with choices; drop it"
        )
    if not asked:
        return scorers
    of = sha256("".join(row.model_dump_json() for row in asked).encode()).hexdigest()[:16]
    return tuple(replace(scorer, key=f"{scorer.key} {of}".lstrip(), asked=asked) for scorer in scorers)


def _scorer(name: str, settings: AuditSettings) -> AttackScorer:
    if name in ATTACKS:
        decides = settings.model_dump_json(include=set(SIZES.get(name, ())))
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
