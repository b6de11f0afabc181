"""The main job: a recipe becomes a run folder.

While it works the folder is called ``NAME.partial``; it gets its name in one step when everything is in it. A run that was
killed goes on from ``NAME.partial`` when the same command is given again.
"""

import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from efface.lm.adapters import attach_adapter, read_adapter
from efface.concept.pack import Concept, Split
from efface.data.batches import Example
from efface.data.store import Store, limit, require_writable
from efface.errors import InputError, RunError
from efface.concept.find import concept_names
from efface.runs.folder import CLOCK, LAST_WRITTEN, LOSSES, alone, begin, check_folder, finish, tidy
from efface.cpu.memory import give_back
from efface.methods import complete_recipe, make_method
from efface.lm.load import Loaded, load, weights_hash
from efface.lm.layers import linear_modules, reached
from efface.processes import is_main, processes, rank, require_whole_model, wait
from efface.recipe.recipe import Recipe
from efface.report.page import write_report
from efface.auditing.scores import Audit
from efface.attacks.relearning import ATTACKS
from efface.auditing.files import read_json, write_json
from efface.recipe.record import RunRecord
from efface.auditing.scorers.perplexity import CORPORA, held_out
from efface.auditing.pair import Pair, audit_pair, check
from efface.lm.states import require_head
from efface.training import schedule, train

PACKAGES = ("efface", "torch", "transformers", "peft", "accelerate", "lm-eval")


@dataclass(frozen=True)
class Run:
    """A finished run folder."""

    folder: Path

    @property
    def record(self) -> RunRecord:
        """How the run came about."""
        return read_json(self.folder / "run.json", RunRecord)

    @property
    def audit(self) -> Audit:
        """What was measured on base and erased model."""
        return read_json(self.folder / "audit.json", Audit)

    def load(self, *, trust_remote_code: bool = False) -> Loaded:
        """The base model with this run's adapter on it; parameters and errors as in :meth:`load_hashed`."""
        return self.load_hashed(trust_remote_code=trust_remote_code)[0]

    def load_hashed(self, *, trust_remote_code: bool = False) -> tuple[Loaded, dict[str, str]]:
        """The base model with this run's adapter on it, and the hashes of both as they are here.

        trust_remote_code: run code that comes with the model; a run folder does not decide that, whatever its recipe says.
        Raises RunError for a model or an adapter that is not the run's.
        """
        recipe, expected = self.record.recipe, self.record.hashes
        recipe = recipe.model_copy(update={"trust_remote_code": trust_remote_code})
        loaded = load_model(recipe)
        base = weights_hash(loaded.model)
        if base != expected["model"] and not self._in_another_precision(recipe, loaded):
            raise RunError(f"{self.folder}: the weights of {recipe.model} are not those that the run was made from")
        student = read_adapter(loaded, self.folder / "adapter")
        hashes = {"model": base, "adapter": weights_hash(student)}
        if base == expected["model"] and hashes["adapter"] != expected["adapter"]:
            raise RunError(f"{self.folder}: its adapter is not the one whose hash is in run.json")
        return Loaded(student, loaded.tokenizer, loaded.source, loaded.path), hashes  # type: ignore[arg-type]

    def _in_another_precision(self, recipe: Recipe, loaded: Loaded) -> bool:
        """Whether the run was made from these weights where ``auto`` means another precision, or 4 bits are others."""
        if recipe.dtype != "auto" or recipe.load_in_4bit:
            return recipe.load_in_4bit
        other = "float32" if loaded.model.dtype == torch.bfloat16 else "bfloat16"
        return weights_hash(load_model(recipe.model_copy(update={"dtype": other})).model) == self.record.hashes["model"]


def erase(model: str, concept: str, *, to: str | Path | None = None, overwrite: bool = False, **settings: Any) -> Run:
    """Erase a concept from a model; settings as in a recipe (``train={"steps": 100}``). Returns the finished run."""
    return run_recipe(complete_recipe({"model": model, "concept": concept, **settings}), to, overwrite=overwrite)


def prepare(model: str, concept: str, **settings: Any) -> dict[str, int]:
    """Fill the store of targets ahead of training; settings as in :func:`erase`. Returns the target tokens of each term."""
    return prepare_recipe(complete_recipe({"model": model, "concept": concept, **settings}))


def prepare_recipe(recipe: Recipe) -> dict[str, int]:
    """What :func:`prepare` does, for a recipe. Killed, it goes on with what is in the store when it is called again."""
    require_writable()
    require_whole_model()
    concept, loaded = Concept.load(recipe.concept), load_model(recipe)
    store = target_store(loaded, weights_hash(loaded.model))
    corpora = make_method(recipe).prepare(loaded, concept, store)
    if lost := store.lost():
        room = f"expected room for all of them on the disk and below EFFACE_STORE_GB ({limit() / 1e9:g})"
        raise InputError(f"prepare: {lost} of {len(store.asked)} entries could not be kept; {room}")
    return {term: sum(example.tokens for example in examples) for term, examples in corpora.items()}


def default_folder(recipe: Recipe) -> Path:
    """``runs/CONCEPT-MODEL-PRESET-SEED``, or the method in place of the preset."""
    how = recipe.preset if recipe.method == "elm" else Path(recipe.method).stem
    names = (concept_names(recipe.concept), Path(recipe.model).name, how, f"seed{recipe.seed}")
    return Path("runs") / "-".join(names)


def run_recipe(recipe: Recipe, to: str | Path | None = None, *, overwrite: bool = False, split: Split = "test") -> Run:
    """Do all of it: prepare, train, measure, report. Raises an EffaceError before anything is written if the input is wrong."""
    require_whole_model()
    folder = Path(to) if to is not None else default_folder(recipe)
    check_folder(folder, overwrite)
    partial = folder.with_name(folder.name + ".partial")
    concept = Concept.load(recipe.concept)
    check(recipe.audit, concept)
    if processes() > 1 and recipe.audit.relearn_steps:
        raise InputError("audit.relearn_steps: one process relearns; leave it to 'efface audit RUN --relearn-steps N' afterwards")
    make_method(recipe)
    loaded = load_model(recipe)
    _look_ahead(recipe, concept, loaded)
    hashes = {"model": weights_hash(loaded.model), **input_hashes(recipe, concept)}
    with alone(partial), tidy(partial):
        if is_main():
            started = {"recipe": recipe.model_dump(mode="json", exclude={"audit"}), "hashes": hashes, "processes": processes()}
            begin(partial, started, overwrite)
        wait()
        done, trained = ((partial / name).is_file() for name in (LAST_WRITTEN, LOSSES))
        done = done and Run(partial).record.recipe == recipe  # it may have been measured in another way
        wait()  # every process has looked before the first of them writes
        if not done:
            _erase(recipe, concept, loaded, partial, split, hashes, trained=trained)
        if is_main():
            finish(partial, folder)
    return Run(folder)


def _look_ahead(recipe: Recipe, concept: Concept, loaded: Loaded) -> None:
    """Raises an EffaceError for what would fail after the work began, and says what training will not reach."""
    chosen = linear_modules(loaded.model, recipe.lora.layers, recipe.lora.modules)
    if recipe.lora.modules == "all" and (share := reached(loaded.model, chosen)) < 0.9 and is_main():
        left = "the rest are no linear modules (the experts of a mixture), stay as they are and may keep the concept"
        print(f"lora.modules all reaches {share:.0%} of these layers' weights; {left}", file=sys.stderr)
    for corpus in CORPORA:
        held_out(concept, loaded.tokenizer, corpus)


def input_hashes(recipe: Recipe, concept: Concept) -> dict[str, str]:
    """Of the concept, and of the file that a method of one's own is: what a run that was begun or finished was made from."""
    own = recipe.method.endswith(".py")
    return {"concept": concept.digest, **({"method": sha256(Path(recipe.method).read_bytes()).hexdigest()[:16]} if own else {})}


def target_store(loaded: Loaded, model_hash: str) -> Store:
    """The store of what this model says, at its precision on its device; several processes of one job share the work."""
    model = loaded.model
    limit()  # a wrong limit is said before any work
    context = {
        "model": model_hash,
        "config": sha256(model.config.to_json_string().encode()).hexdigest()[:16],
        "dtype": str(model.dtype),
        "device": model.device.type,
    }
    return Store(context, (rank(), processes()))


def load_model(recipe: Recipe) -> Loaded:
    """The model that a recipe names, as it wants it."""
    options = recipe.model_dump(include={"revision", "dtype", "trust_remote_code", "device_map", "load_in_4bit"})
    loaded = load(recipe.model, **options)
    require_head(loaded.model)
    return loaded


class _Clock:
    """Seconds spent in each stage, those before an interruption included if the stage was finished."""

    def __init__(self, folder: Path) -> None:
        self.file, self.seconds = folder / CLOCK, dict[str, float]()
        if self.file.is_file():
            self.seconds = json.loads(self.file.read_text(encoding="utf-8"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        give_back()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 1)
        if is_main():
            write_json(self.file, self.seconds)


def _erase(
    recipe: Recipe, concept: Concept, loaded: Loaded, folder: Path, split: Split, hashes: dict[str, str], *, trained: bool
) -> None:
    clock, method = _Clock(folder), make_method(recipe)
    with clock.stage("prepare"):
        corpora = method.prepare(loaded, concept, target_store(loaded, hashes["model"]))
    with clock.stage("train"):
        if not trained:
            student = attach_adapter(loaded.model, recipe.lora, recipe.seed)
            losses = train(student, loaded.tokenizer, method, corpora, recipe, folder / "checkpoints", folder / "adapter")
            if is_main():
                write_json(folder / LOSSES, losses)
        elif is_main():
            student = read_adapter(loaded, folder / "adapter")
    if not is_main():
        return
    erased = Loaded(student.eval(), loaded.tokenizer, loaded.source, loaded.path)  # type: ignore[arg-type]
    with clock.stage("audit"):
        measured = audit_pair(Pair(erased, hashes={**hashes, "adapter": weights_hash(student)}), concept, split, recipe.audit, ATTACKS)
    record = RunRecord(
        recipe=recipe,
        versions={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        hashes={**hashes, "adapter": weights_hash(student)},
        tokens=_trained_tokens(recipe, corpora),
        seconds=clock.seconds,
        peak_gib=_peak_gib(),
        losses=json.loads((folder / LOSSES).read_text()),
        processes=processes(),
        sources=concept.sources,
    )
    write_json(folder / "audit.json", measured)
    write_json(folder / "run.json", record)
    write_report(folder, measured, record)  # LAST_WRITTEN is its last file


def _peak_gib() -> float | None:
    """Largest memory of this process so far, in GiB, on the device that computes; None where the system does not say."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


def _trained_tokens(recipe: Recipe, corpora: Mapping[str, Sequence[Example]]) -> dict[str, int]:
    """Target tokens that each term saw over the whole training."""
    planned = schedule(corpora, recipe)
    counts = dict.fromkeys(planned.corpora, 0)
    for i in range(len(planned)):
        for term, examples in planned[i].items():
            counts[term] += sum(example.tokens for example in examples)
    return counts
