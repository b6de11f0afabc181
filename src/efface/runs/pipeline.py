"""The main job: a recipe becomes a run folder.

While it works the folder is called ``NAME.partial``; it gets its name in one step when everything is in it. A run that was
killed goes on from ``NAME.partial`` when the same command is given again.
"""

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from efface.attacks.named import attack_scorers
from efface.auditing.pair import Pair, audit_pair, check
from efface.auditing.scores import Audit
from efface.concept.find import concept_names
from efface.concept.pack import Concept, Split
from efface.data.batches import Example
from efface.data.store import limit, require_writable
from efface.errors import InputError, RunError
from efface.files import changed, checksums, drop, read_or_drop, write_json, writing
from efface.lm.adapters import attach_adapter, name_base, read_adapter
from efface.lm.load import Loaded, weights_hash
from efface.methods import complete_recipe, make_method, telling_of
from efface.processes import is_main, processes, require_whole_model, wait
from efface.recipe.recipe import Recipe
from efface.recipe.record import RunRecord, Training
from efface.report.page import write_report
from efface.runs.folder import LAST_WRITTEN, RECORD, TRAINED, alone, begin, find_place, finish, tidy
from efface.runs.inputs import input_hashes, layers, load_concept, load_model, look_ahead, target_store
from efface.runs.lengths import of_recipe, require_room
from efface.runs.machine import machine
from efface.runs.run import Run
from efface.runs.stage import Clock, Stage, run_stages
from efface.training import schedule, train

PACKAGES = ("efface", "torch", "transformers", "peft", "accelerate", "lm-eval")


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
    concept = load_concept(recipe)
    loaded = load_model(recipe)
    require_room(loaded, of_recipe(recipe, concept, loaded))
    store = target_store(loaded, weights_hash(loaded.model))
    method = make_method(recipe)
    with telling_of(recipe.method):
        corpora = method.prepare(loaded, concept, store)
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
    partial = find_place(folder, overwrite).partial
    if below := [layer.run for layer in layers(recipe) if Path(layer.run).resolve() == folder.resolve()]:
        raise RunError(f"{folder} is what the run stands on ({below[0]}); name another folder with --to")
    concept = load_concept(recipe)
    check(recipe.audit, concept, split)
    limit()
    if attack_scorers(recipe.audit, concept, split) and processes() > 1:
        raise InputError("audit.attacks: one process attacks; leave it to 'efface audit RUN --attacks …' afterwards")
    make_method(recipe)
    loaded = load_model(recipe)
    look_ahead(recipe, concept, loaded, split)
    hashes = {"model": weights_hash(loaded.model), **input_hashes(recipe, concept)}
    with alone(partial), tidy(partial):
        place = find_place(folder, overwrite)  # another command may have finished it meanwhile
        if is_main():
            begin(place, recipe, hashes, overwrite)
        wait()
        job = _Job(recipe, concept, loaded, partial, split, hashes)
        with telling_of(recipe.method):
            run_stages(job.stages(), loaded, job.clock)
        if is_main():
            with writing(place.folder):
                finish(place)
    return Run(folder)


@dataclass(frozen=True)
class _Job:
    """One recipe in its folder: the stages, and what they hand to each other besides the model."""

    recipe: Recipe
    concept: Concept
    base: Loaded
    folder: Path
    split: Split
    hashes: dict[str, str]

    def stages(self) -> list[Stage]:
        """Prepare, train, audit, report. What was measured in another way is measured again."""
        return [
            Stage("prepare", self.prepare, lambda: self.training() is not None),
            Stage("train", self.train, lambda: self.training() is not None, again=self.trained),
            Stage("audit", self.audit, self.measured, alone=True),
            Stage("report", self.report, lambda: self.measured() and self.reported(), alone=True),
        ]

    @cached_property
    def clock(self) -> Clock:
        """Of this job."""
        return Clock(self.folder)

    @cached_property
    def method(self) -> Any:
        """The recipe's method, which remembers what it prepared."""
        return make_method(self.recipe)

    @cached_property
    def corpora(self) -> dict[str, Sequence[Example]]:
        """Examples of every term, made by the frozen base or from the store."""
        found: dict[str, Sequence[Example]]
        found = self.method.prepare(self.base, self.concept, target_store(self.base, self.hashes["model"]))
        return found

    def prepare(self, model: Loaded) -> Loaded:
        """Examples of every term."""
        _ = self.corpora
        return model

    def train(self, model: Loaded) -> Loaded:
        """The adapter; its marker is written when it is saved."""
        recipe, folder = self.recipe, self.folder
        student = attach_adapter(model.model, recipe.lora, recipe.seed)
        losses = train(student, model.tokenizer, self.method, self.corpora, recipe, folder / "checkpoints", folder / "adapter")
        if is_main():
            name_base(folder / "adapter", model.hub)
            files = checksums(folder, (folder / "adapter").iterdir())
            tokens, on = _trained_tokens(recipe, self.corpora), machine(model.model)
            write_json(folder / TRAINED, Training(losses=losses, tokens=tokens, files=files, machine=on))
        return Loaded(student.eval(), model.tokenizer, model.source, model.path)  # type: ignore[arg-type]

    def training(self) -> Training | None:
        """What the training left, if it is done and its adapter is whole; the record of a whole run has it too."""
        kinds: dict[str, type[Training] | type[RunRecord]] = {TRAINED: Training, RECORD: RunRecord}
        for name, kind in kinds.items():
            if (found := read_or_drop(self.folder / name, kind)) is None:
                continue
            if (bad := changed(self.folder, found.files)) is None:
                return Training(losses=found.losses, tokens=found.tokens, files=found.files, machine=found.machine)
            drop(self.folder / name, f"{self.folder / bad} is missing or damaged")
        return None

    def trained(self, model: Loaded) -> Loaded:
        """The same model, from the adapter that was saved."""
        student = read_adapter(model, self.folder / "adapter")
        return Loaded(student.eval(), model.tokenizer, model.source, model.path)  # type: ignore[arg-type]

    def audit(self, model: Loaded) -> Loaded:
        """What base and erased model are measured to be."""
        hashes = {**self.hashes, "adapter": weights_hash(model.model)}
        attacks = attack_scorers(self.recipe.audit, self.concept, self.split)
        measured = audit_pair(Pair(model, hashes=hashes), self.concept, self.split, self.recipe.audit, attacks)
        write_json(self.folder / "audit.json", measured)
        return model

    def measured(self) -> bool:
        """Whether the audit that is there was made as the recipe wants it."""
        there = read_or_drop(self.folder / "audit.json", Audit)
        return there is not None and (there.settings, there.split) == (self.recipe.audit, self.split)

    def reported(self) -> bool:
        """Whether record and page are there."""
        return read_or_drop(self.folder / RECORD, RunRecord) is not None and (self.folder / LAST_WRITTEN).is_file()

    def report(self, model: Loaded) -> Loaded:
        """The record and the page; LAST_WRITTEN is the page's last file."""
        training = self.training()
        assert training is not None, "it is the stage before"
        record = RunRecord(
            recipe=self.recipe,
            versions={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
            hashes={**self.hashes, "adapter": weights_hash(model.model)},
            tokens=training.tokens,
            seconds=self.clock.seconds,
            peak_gib=_peak_gib(),
            losses=training.losses,
            files=training.files,
            processes=processes(),
            machine=training.machine,
            sources=self.concept.sources,
            stands_on=layers(self.recipe),
        )
        write_json(self.folder / RECORD, record)
        write_report(self.folder, Run(self.folder).audit, record)
        return model


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
