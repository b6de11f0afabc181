"""The audit: every scorer on the base and on the erased model, in one process with one set of weights."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from peft import PeftModel
from torch import nn

from efface.auditing.measurable import require_measurable
from efface.auditing.own import own_scorers
from efface.auditing.scorers.choice import score_choices
from efface.auditing.scorers.depth import score_depth
from efface.auditing.scorers.drift import score_drift
from efface.auditing.scorers.fluency import score_answers
from efface.auditing.scorers.forms import score_forms
from efface.auditing.scorers.harness import score_tasks, task_manager
from efface.auditing.scorers.judge import HOW, endpoint, score_judged
from efface.auditing.scorers.open import score_leaks, score_open
from efface.auditing.scorers.perplexity import score_perplexity
from efface.auditing.scorers.recognised import score_recognised
from efface.auditing.scorers.said import said_answers, score_said
from efface.auditing.scorers.shading import answer_prompts, shade
from efface.auditing.scores import Audit, Measured, Partial, Unfinished
from efface.auditing.statistics import difference
from efface.auditing.subject import Scorer, Subject
from efface.concept.pack import Concept, Split
from efface.cpu.memory import give_back
from efface.errors import ModelError, WriteError
from efface.files import make_folder, read_or_drop, write_json
from efface.lm.bundled import cache_dir
from efface.lm.load import Loaded, load, require_model, weights_hash
from efface.recipe.settings import SIZES, AuditSettings
from efface.shown import complain

SCORERS: tuple[Scorer, ...] = (
    score_choices,
    score_forms,
    score_open,
    score_leaks,
    score_said,
    score_recognised,
    score_perplexity,
    score_drift,
    score_answers,
    score_judged,
    score_tasks,
)


#: settings that decide one part of what is measured, whose name they are part of
OF_ONE_PART = {"scorers", "endpoint", "endpoint_model", "attacks", *chain.from_iterable(SIZES.values())}


@dataclass(frozen=True)
class Pair:
    """An erased model and its base: the same weights with the adapter disabled, or other weights (``base``).

    hashes: what identifies base, erased model and pack; with them, figures are kept in the cache and never measured twice.
    """

    erased: Loaded
    base: nn.Module | None = None
    hashes: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.base is not None:
            sizes = [model.get_input_embeddings().weight.shape[0] for model in (self.base, self.erased.model)]  # type: ignore[operator]
            if sizes[0] != sizes[1]:
                raise ModelError(
                    f"base and erased model have vocabularies of {sizes[0]} and {sizes[1]} tokens; expected the same"
                )


def audit_pair(
    pair: Pair, concept: Concept, split: Split = "test", settings: AuditSettings | None = None, more: Sequence[Scorer] = ()
) -> Audit:
    """Measure both models of a pair. Raises InputError before any work for a task or a judge that is not there.

    more: what measures them besides the :data:`SCORERS`.
    """
    settings = settings or AuditSettings()
    check(settings, concept, split)
    judge, own = load(settings.judge) if settings.judge else None, own_scorers(settings.scorers)
    scorers: tuple[Scorer, ...] = (*SCORERS, *own, *more)
    erased = Subject(pair.erased.model, pair.erased.tokenizer, concept, split, settings, pair.base, judge)
    hashes = pair.hashes or {}
    keys = {"base": f"{hashes['model']} {hashes['concept']}"} if hashes else {}
    if "adapter" in hashes:
        keys["erased"] = f"{hashes['adapter']} {adapter_settings(pair.erased.model)} on {keys['base']}"
    with erased.base() as model:
        before = measure(replace(erased, model=model, other_base=model), scorers, keys.get("base"))
    after = measure(erased, scorers, keys.get("erased"))
    both = [measured.model_copy(update={"answers": shade(erased, measured.answers)}) for measured in (before, after)]
    compared = {key: difference(score, after.scores[key]) for key, score in before.scores.items() if key in after.scores}
    return Audit(
        concept=concept.name,
        title=concept.title,
        split=split,
        truth=concept.manifest.truth,
        written={part.title: part.written for part, _ in concept.parts if part.written is not None},
        settings=settings,
        models={"base": pair.erased.source, **hashes},
        base=both[0],
        erased=both[1],
        differences={key: gap for key, gap in compared.items() if gap is not None},
        figures=tuple(figure for scorer in own for figure in scorer.figures),
    )


def check(settings: AuditSettings, concept: Concept | None = None, split: Split = "test") -> None:
    """What can be found wrong before any work."""
    if concept is not None:
        require_measurable(settings, concept, split)
    of_pack = [name for names in concept.manifest.tasks.values() for name in names] if concept else []
    if tasks := [*settings.tasks, *of_pack]:
        task_manager(tasks, settings.task_folder)
    if settings.judge:
        require_model(settings.judge)
    own_scorers(settings.scorers)
    if (judge := endpoint(settings)) is not None:
        judge.ask("Say 1.", patient=False, **HOW)


def measure(subject: Subject, scorers: Sequence[Scorer] = SCORERS, key: str | None = None) -> Measured:
    """All scores, the layers, and the answers to the pack's prompts, for one of the two models.

    key: identifies model and pack. With it every part is kept in the cache as soon as it is there, so that an audit that was
    killed, or failed in a later part, goes on from it; without, everything is measured.
    """
    parts: dict[str, Part] = {scorer.__name__: partial(_scores, scorer) for scorer in scorers}
    if subject.settings.depth:
        parts["depth"] = lambda subject: Measured(scores={}, answers=[], depth=score_depth(subject))
    parts["answers"] = lambda subject: Measured(scores={}, answers=answer_prompts(subject))
    parts["said"] = lambda subject: Measured(scores={}, answers=[], said=said_answers(subject))
    whole = Measured(scores={}, answers=[])
    identity = None if key is None else _identity(subject, key)
    for name, make in parts.items():
        lasting = name not in _fleeting(subject.settings)
        part = kept(f"{identity} {name}", lambda make=make: make(subject)) if identity and lasting else make(subject)  # type: ignore[misc]
        give_back()
        if taken := sorted(whole.scores.keys() & part.scores.keys()):
            complain(f"scorer {name.split()[0]} is left out: {taken[0]} is the score of another scorer; choose another key")
            continue
        whole = Measured(
            scores=whole.scores | part.scores,
            answers=[*whole.answers, *part.answers],
            depth=[*whole.depth, *part.depth],
            said=[*whole.said, *part.said],
        )
    return whole


#: makes one part of what is measured on a model
Part = Callable[[Subject], Measured]


def _scores(scorer: Scorer, subject: Subject) -> Measured:
    found = scorer(subject)
    return (Unfinished if isinstance(found, Partial) else Measured)(scores=found, answers=[])


def _fleeting(settings: AuditSettings) -> set[str]:
    """The parts that may say something else tomorrow."""
    return {*(["score_judged"] if settings.endpoint else []), *(["score_tasks"] if settings.task_folder else [])}


def _identity(subject: Subject, key: str) -> str:
    """Of model, tokenizer, pack, split, settings, precision, device, library versions and every line of efface."""
    model, tokenizer = subject.model, subject.tokenizer
    parts = [key, subject.split, subject.settings.model_dump_json(exclude=OF_ONE_PART)]
    parts += [str(model.dtype), str(model.device.type)]  # type: ignore[union-attr]
    parts += [model.config.to_json_string(), str(tokenizer.chat_template), json.dumps(tokenizer.get_vocab(), sort_keys=True)]  # type: ignore[union-attr, operator]
    parts += [version(name) for name in ("torch", "transformers", "lm-eval")]
    parts += [weights_hash(subject.judge.model)] if subject.judge else []
    source = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.parent.rglob("*.py")))
    return sha256(json.dumps(parts).encode() + source).hexdigest()[:24]


def kept(name: str, make: Callable[[], Measured]) -> Measured:
    """What is in the cache under a name, else what is made and, if it is whole, put there."""
    file = cache_dir() / "audits" / f"{sha256(name.encode()).hexdigest()[:24]}.json"
    if (there := read_or_drop(file, Measured)) is not None:
        return there
    if isinstance(measured := make(), Unfinished):
        return measured
    with suppress(WriteError):  # a cache that cannot be written costs time, not the run
        make_folder(file.parent)
        write_json(file, measured)
    return measured


def adapter_settings(model: nn.Module) -> str:
    """What decides an adapter besides its weights, which their hash does not cover: its scale, its layers."""
    if not isinstance(model, PeftModel):
        return ""
    found = {name: config.to_dict() | {"base_model_name_or_path": None} for name, config in model.peft_config.items()}
    return json.dumps(found, default=lambda of: sorted(map(str, of)) if isinstance(of, set) else str(of), sort_keys=True)
