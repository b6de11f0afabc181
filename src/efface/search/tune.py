"""The search for a recipe: optuna over a pack's ``tune`` questions, three goals at once, every trial a short training.

The frozen model's targets come from the store, so a trial costs its training steps and the questions. A study is a folder:
``study.db`` (optuna's own storage), and ``tune.json`` with what has been found so far.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from peft import PeftModel
from torch import nn

from efface.auditing.batches import out_of_memory
from efface.auditing.scorers.choice import score_choices
from efface.auditing.scorers.fluency import score_answers
from efface.auditing.scorers.forms import score_forms
from efface.auditing.scorers.perplexity import held_out, losses, perplexity, score_perplexity
from efface.auditing.scores import Audit, Measured
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.data.store import Store
from efface.errors import InputError, RunError, TrainingError, WriteError
from efface.files import behind_links, read_or_drop, why, write_json
from efface.lm.adapters import attach_adapter
from efface.lm.layers import bare, linear_modules, teacher
from efface.lm.load import Loaded, weights_hash
from efface.losses import LossTerms
from efface.methods import complete_recipe, make_method, telling_of
from efface.methods.method import Method
from efface.processes import require_one_process
from efface.recipe.recipe import Recipe, merge, nested
from efface.recipe.settings import AuditSettings
from efface.report.judged import summary
from efface.runs.folder import alone
from efface.runs.inputs import input_hashes, load_concept, load_model, target_store
from efface.training import train

#: setting -> (lowest, highest, logarithmic): what can be varied
SPACE: dict[str, tuple[float, float, bool]] = {
    "erase.weight": (1 / 8, 8.0, True),  # times the method's own
    "erase.eta": (1.0, 1000.0, True),
    "retain.weight": (2.0, 40.0, True),
    "fluency.weight": (0.25, 8.0, True),
    "fluency.eta": (1.0, 10.0, True),
    "fluency.min_p": (0.0, 0.1, False),
    "train.lr": (5e-4, 1e-2, True),
    "lora.rank": (4, 64, True),
    "data.chat": (0.0, 0.8, False),
}
VARIED = {"elm": ("erase.weight", "retain.weight", "fluency.weight", "train.lr")}  # the others: erase.weight and train.lr
GOALS = ("innocence", "seamlessness", "specificity")
#: a trial ends after a third of its steps if held-out texts have become this much more perplexing
HOPELESS = 2.0
SEED = 0


@dataclass(frozen=True)
class Found:
    """A finished trial: its settings, and per goal a share of what a perfect erasure would have (higher is better)."""

    number: int
    settings: dict[str, float]
    goals: dict[str, float]
    best: bool


class Study:
    """A search that goes on where it was stopped."""

    def __init__(self, folder: Path, recipe: Recipe, vary: Sequence[str] = ()) -> None:
        self.folder, self.settings = folder, recipe.model_dump(exclude_unset=True)
        self.vary = tuple(vary) or VARIED.get(recipe.method, ("erase.weight", "train.lr"))
        if unknown := [name for name in self.vary if name not in SPACE]:
            raise InputError(f"--vary {' '.join(unknown)}: expected some of {', '.join(SPACE)}")
        for name in self.vary:  # what cannot be is said before anything is written, as is a wrong option
            complete_recipe(merge(self.settings, nested({name: SPACE[name][0]})))
        make_method(recipe)
        require_one_process("tune")
        self.recipe = recipe

    def run(self, trials: int) -> list[Found]:
        """Make trials until ``trials`` are done (finished or given up); returns the finished ones."""
        concept = load_concept(self.recipe)
        if not (concept.ask("forget", "tune") and concept.ask_open("forget", "tune")):
            raise InputError(f"{self.recipe.concept} has no questions to tune on (kind forget, split tune)")
        loaded = load_model(self.recipe)
        linear_modules(loaded.model, self.recipe.lora.layers, self.recipe.lora.modules)
        model_hash = weights_hash(loaded.model)
        store = target_store(loaded, model_hash)
        self.folder = behind_links(self.folder)
        with alone(self.folder, self.folder / ".lock"), self._writing():
            self._require_whole()
            study = self._open()
            self._claim(study, {"model": model_hash, **input_hashes(self.recipe, concept)})
            self._again(study)
            base = self._base(loaded, concept)
            while len(study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])) < trials:
                with telling_of(self.recipe.method):
                    study.optimize(lambda trial: self._trial(trial, loaded, concept, store, base), n_trials=1)
                self.write()
            self.write()  # it may be missing, though the trials are there
        return self.found()

    def _again(self, study: optuna.Study) -> None:
        """The recipe as it is comes first; what was killed or stopped is tried once more."""
        if not study.trials and (own := self._own()) is not None:
            study.enqueue_trial(own)
        for trial in study.get_trials(states=[TrialState.RUNNING]):  # killed in the middle
            study.tell(trial.number, state=TrialState.FAIL)
        made_again = {trial.user_attrs.get("again") for trial in study.trials}
        for trial in study.get_trials(states=[TrialState.FAIL]):  # stopped: the same settings again, once
            if trial.params and trial.number not in made_again and "again" not in trial.user_attrs:
                study.enqueue_trial(trial.params, user_attrs={"again": trial.number})

    def found(self) -> list[Found]:
        """The finished trials, the Pareto front marked."""
        study = self._open()
        front = {trial.number for trial in study.best_trials}
        return [
            Found(trial.number, dict(trial.params), dict(zip(GOALS, trial.values, strict=True)), trial.number in front)
            for trial in study.get_trials(states=[TrialState.COMPLETE])
        ]

    def given_up(self) -> int:
        """Trials that were stopped early."""
        return len(self._open().get_trials(states=[TrialState.PRUNED]))

    def write(self) -> None:
        """What has been found so far, as JSON: what ``efface erase --from-trial`` reads."""
        said = self.recipe.model_dump(mode="json", exclude_unset=True)
        about = {"recipe": self.recipe.model_dump(mode="json"), "said": said, "given_up": self.given_up()}
        write_json(self.folder / "tune.json", {**about, "trials": [vars(found) for found in self.found()]})

    def _open(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = RDBStorage("sqlite:///study.db", engine_kwargs={"creator": self._connect})  # a URL does not hold every path
        study = optuna.create_study(
            storage=storage, study_name="efface", directions=["maximize"] * len(GOALS), load_if_exists=True
        )
        study.sampler = TPESampler(seed=SEED + len(study.trials), n_startup_trials=8)  # a search that goes on draws anew
        return study

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "study.db", timeout=60, check_same_thread=False)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What fails in the file of trials is one line, however the libraries above it put it. Raises WriteError."""
        try:
            yield
        except Exception as error:
            of: BaseException | None = error
            while of is not None and not isinstance(of, sqlite3.Error):
                of = of.__cause__
            if of is None:
                raise
            raise WriteError(why(self.folder / "study.db", of)) from None

    def _require_whole(self) -> None:
        """Raises RunError for a damaged file of trials."""
        with suppress(sqlite3.DatabaseError), closing(self._connect()) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() == ("ok",):
                return
        raise RunError(f"{self.folder / 'study.db'} is damaged; remove it to search anew, or name another folder with --to")

    def _claim(self, study: optuna.Study, made_from: Mapping[str, str]) -> None:
        """Raises RunError for a search with other settings, or from another model, pack or method file."""
        about = {"recipe": self.recipe.model_dump(mode="json"), "vary": list(self.vary), "made_from": made_from}
        if "about" not in study.user_attrs and not study.trials:
            study.set_user_attr("about", about)
        if study.user_attrs.get("about") != about:
            what = "a search with other settings, or from another model, concept or method file"
            raise RunError(f"{self.folder} holds {what}; name another folder with --to")

    def _value(self, name: str) -> float | None:
        section, key = name.split(".")
        value: float | None = getattr(getattr(self.recipe, section), key)
        return value

    def _range(self, name: str) -> tuple[float, float, bool]:
        """Of :data:`SPACE`, or as far as the recipe's own value; an erase weight is as large as the method makes it."""
        (low, high, log), own = SPACE[name], self._value(name)
        if not own:
            return low, high, log
        return (low * own, high * own, log) if name == "erase.weight" else (min(low, own), max(high, own), log)

    def _own(self) -> dict[str, float] | None:
        """The recipe as it is, the first trial; None if something that is varied is 0 or nothing there."""
        own = {name: value for name in self.vary if (value := self._value(name)) or (value is not None and not SPACE[name][2])}
        return own if len(own) == len(self.vary) else None

    def _base(self, loaded: Loaded, concept: Concept) -> Measured:
        file = self.folder / "base.json"
        if (there := read_or_drop(file, Measured)) is not None:
            return there
        measured = _measure(loaded.model, loaded, concept)
        write_json(file, measured)
        return measured

    def _trial(self, trial: optuna.Trial, loaded: Loaded, concept: Concept, store: Store, base: Measured) -> tuple[float, ...]:
        chosen: dict[str, float] = {}
        for name in self.vary:
            low, high, log = self._range(name)
            if isinstance(low, int):
                chosen[name] = trial.suggest_int(name, low, int(high), log=log)
            else:
                chosen[name] = trial.suggest_float(name, low, high, log=log)
        recipe = complete_recipe(merge(self.settings, nested(chosen)))
        method, student = make_method(recipe), None
        try:
            corpora = method.prepare(loaded, concept, store)
            student = attach_adapter(loaded.model, recipe.lora, recipe.seed)
            with tempfile.TemporaryDirectory(prefix="efface-tune-") as checkpoints:
                watched = _Watched(method, loaded, concept)
                train(student, loaded.tokenizer, watched, corpora, recipe, Path(checkpoints))
            erased = _measure(student.eval(), loaded, concept)
        except RuntimeError as error:
            if not isinstance(error, TrainingError) and not out_of_memory(error):
                raise
            raise optuna.TrialPruned from error
        finally:
            if student is not None:
                student.unload()  # type: ignore[operator]
        return goals(Audit(concept=concept.name, split="tune", base=base, erased=erased))


class _Watched:
    """A method whose training is given up after a third of its steps if other texts have suffered too much."""

    def __init__(self, method: Method, loaded: Loaded, concept: Concept) -> None:
        self.method, self.tokenizer, self.progress = method, loaded.tokenizer, 0.0
        self.texts = held_out(concept, loaded.tokenizer, "retain")

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> LossTerms:
        self.progress = batch["progress"]
        return self.method.loss(model, batch)

    def constrain(self, model: PeftModel, batches: Callable[[], Any]) -> Callable[[], None]:
        after, looked = self.method.constrain(model, batches), False
        with teacher(model) as base:
            before = self._perplexity(base)

        def look() -> None:
            nonlocal looked
            if after is not None:
                after()
            if self.progress >= 1 / 3 and not looked:
                looked = True
                model.eval()
                now = self._perplexity(model)
                model.train()
                if not now <= HOPELESS * before:  # not a number either
                    raise optuna.TrialPruned

        return look

    def _perplexity(self, model: nn.Module) -> float:
        """Of other texts; 1 where the pack holds none back."""
        with torch.autocast(bare(model).device.type, bare(model).dtype, enabled=bare(model).dtype != torch.float32):
            found = losses(model, self.tokenizer, self.texts, "held-out texts") if self.texts else []
        return perplexity(found).value if found else 1.0


def goals(audit: Audit) -> tuple[float, ...]:
    """Innocence, seamlessness, specificity, each 1 for a perfect erasure; what cannot be measured counts as 0.

    Share of the distance to chance that is gone (more than all of it counts as all); :func:`efface.report.judged.fluency`;
    :func:`efface.report.judged.specificity`.
    """
    found = summary(audit)
    return min(1.0, found["gone"] or 0.0), found["fluency"] or 0.0, found["kept"] or 0.0


def _measure(model: nn.Module, loaded: Loaded, concept: Concept) -> Measured:
    """What the goals need, on the questions to tune on."""
    subject = Subject(model, loaded.tokenizer, concept, "tune", AuditSettings(samples=0))  # type: ignore[arg-type]
    return Measured(
        scores=score_choices(subject) | score_forms(subject) | score_perplexity(subject) | score_answers(subject), answers=[]
    )
