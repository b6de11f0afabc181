"""The audit of what is there: a finished run, or a model that somebody else erased."""

from pathlib import Path
from typing import Literal, TypedDict, Unpack

from efface.attacks.named import attack_scorers
from efface.auditing.measurable import require_measurable
from efface.auditing.pair import Pair, audit_pair
from efface.auditing.scores import Audit
from efface.concept.pack import Concept, Split
from efface.errors import InputError, ModelError, RunError
from efface.files import make_folder, read_json, require_writable, write_json
from efface.lm.adapters import read_adapter
from efface.lm.load import Loaded, is_adapter, load, weights_hash
from efface.lm.states import require_head
from efface.processes import require_one_process
from efface.recipe.foreign import harmless_audit
from efface.recipe.settings import AuditSettings
from efface.report.page import write_report
from efface.runs.folder import is_run
from efface.runs.lengths import of_audit, require_room
from efface.runs.run import Run
from efface.shown import for_terminal


class Loading(TypedDict, total=False):
    """How models that are no run are loaded, as in :func:`efface.lm.load.load`. base_revision: of the base alone."""

    dtype: str
    trust_remote_code: bool
    revision: str | None
    base_revision: str | None
    device_map: str | None
    load_in_4bit: bool


def audit(
    what: str | Path,
    concept: str | None = None,
    *,
    base: str | None = None,
    split: Split = "test",
    settings: AuditSettings | None = None,
    to: str | Path | None = None,
    **loading: Unpack[Loading],
) -> Audit:
    """Measure a run again, or any erased model (adapter or merged weights) beside its base.

    what: a run folder; or, with ``base`` and ``concept``, a hub id or folder of an adapter or of a whole model.
    concept: with a run, another pack than its own, such as that of an erasure that it stands on.
    to: folder for ``audit.json`` and ``report.html``; None: only return the figures.
    loading: how a model is loaded (a run remembers it, and is only told whether code that comes with the model may run).
    Of a run's own settings those that run code or send something are left out (:mod:`efface.recipe.foreign`).
    Raises an EffaceError in one line for what does not fit together.
    """
    require_one_process("audit")
    if is_run(what):
        if base is not None:
            raise InputError(f"{what} is a run and names its base itself; drop --base")
        _require_remembered(what, loading)
        run = Run(Path(what))
        record = run.record
        pack = Concept.load(concept or record.recipe.concept, record.recipe.data.min_chars)
        settings = settings or harmless_audit(record.recipe)[0]
        require_measurable(settings, pack, split)
        own = _is_own(run, concept)
        _require_place(to, record.hashes["adapter"], what if own else None, pack, split, "adapter")
        attacks = attack_scorers(settings, pack, split)
        loaded, hashes = run.load_hashed(trust_remote_code=loading.get("trust_remote_code", False))
        pair, loaded_record = Pair(loaded, hashes={**record.hashes, **hashes, "concept": pack.digest}), record if own else None
        named = {"base": for_terminal(record.recipe.model), "erased": for_terminal(what)}
    else:
        if base is None or concept is None:
            raise InputError(f"{what} is no run folder; for a model say --base BASE --concept PACK")
        pack, loaded_record = Concept.load(concept), None
        require_measurable(settings or AuditSettings(), pack, split)
        named = {"base": _named(base, "base_revision", loading), "erased": _named(what, "revision", loading)}
        _require_place(to, named["erased"], None, pack, split, "erased")
        attacks = attack_scorers(settings or AuditSettings(), pack, split)
        pair = read_pair(str(what), base, pack, **loading)
    require_room(pair.erased, of_audit(settings or AuditSettings(), pack, split, pair.erased.tokenizer))
    measured = audit_pair(pair, pack, split, settings, attacks)
    if loaded_record is None:
        measured = measured.model_copy(update={"models": {**measured.models, **named}})
    if to is not None:
        folder = make_folder(Path(to))
        write_json(folder / "audit.json", measured)
        write_report(folder, measured, loaded_record)
    return measured


def _require_remembered(what: str | Path, loading: Loading) -> None:
    """Raises InputError for what a run says itself."""
    for name, value in loading.items():
        if value and (name, value) != ("dtype", "auto") and name != "trust_remote_code":
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{what} is a run and remembers how its model is loaded; drop {flag}")


def _named(name: str | Path, revision: Literal["revision", "base_revision"], loading: Loading) -> str:
    """What stands for a model in the figures: its name, revision and, where that is what was measured, in 4 bits."""
    at, bits = loading.get(revision), " in 4 bits" if loading.get("load_in_4bit") else ""
    return for_terminal(f"{name}{f'@{at}' if at else ''}{bits}")


def _is_own(run: Run, concept: str | None) -> bool:
    """Whether a run is measured on the pack that it was made with."""
    return concept in (None, run.record.recipe.concept)


def _require_place(
    to: str | Path | None, of: str, run: str | Path | None, concept: Concept, split: Split, whose: Literal["adapter", "erased"]
) -> None:
    """Raises an EffaceError where nothing can be written, or other figures be replaced.

    of: what the figures call the model, under ``whose``. run: whose own folder may be written.
    """
    if to is None:
        return
    require_writable(folder := Path(to))
    if not (folder / "audit.json").is_file() or (run is not None and folder.resolve() == Path(run).resolve()):
        return
    there = read_json(folder / "audit.json", Audit)
    if is_run(folder) or (there.concept, there.split, there.models.get(whose)) != (concept.name, split, of):
        raise RunError(f"{folder} holds another audit; name another folder with --to")


def read_pair(erased: str, base: str, concept: Concept, **loading: Unpack[Loading]) -> Pair:
    """An erased model and its base: one set of weights for an adapter, two for merged weights.

    Raises ModelError where they do not fit: another tokenizer, another vocabulary, an adapter of another model.
    """
    options = {name: value for name, value in loading.items() if name not in ("revision", "base_revision")}
    before = load(base, revision=loading.get("base_revision"), **options)  # type: ignore[arg-type]
    require_head(before.model)
    hashes, revision = {"model": weights_hash(before.model), "concept": concept.digest}, loading.get("revision")
    if is_adapter(erased, revision):
        student = read_adapter(before, erased, revision)
        loaded = Loaded(student, before.tokenizer, base, before.path)  # type: ignore[arg-type]
        return Pair(loaded, hashes={**hashes, "adapter": weights_hash(student)})
    after = load(erased, revision=revision, **options)  # type: ignore[arg-type]
    if after.tokenizer.get_vocab() != before.tokenizer.get_vocab():
        raise ModelError(f"{erased} and {base} have different tokenizers; expected a model that was made from this base")
    return Pair(after, before.model, {**hashes, "adapter": weights_hash(after.model)})
