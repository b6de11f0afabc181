"""A run is made again from its record, and compared: the same adapter bit for bit, or what differs and how far the figures do."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from efface.auditing.scores import Audit
from efface.errors import InputError, RunError
from efface.files import read_json
from efface.recipe.foreign import METHOD, harmless, harmless_audit
from efface.recipe.own import is_file
from efface.recipe.recipe import Recipe
from efface.recipe.record import RunRecord
from efface.report.intervals import Interval
from efface.report.judged import intervals, summary
from efface.runs.folder import RECORD, is_run
from efface.runs.pipeline import run_recipe
from efface.runs.run import Run

Grade = Literal["inputs", "program", "arithmetic", "measuring"]
#: how much what differs can matter, most first
GRADES: dict[Grade, str] = {
    "inputs": "other inputs: it is not the same run",
    "program": "another program: it may do something else",
    "arithmetic": "the same computation rounded otherwise: small differences grow while it trains",
    "measuring": "hardly matters: it has no part in the training",
}
COMPUTE = ("torch", "transformers", "peft", "accelerate")
UNKNOWN = "not recorded"
TRUST = "trust_remote_code"


@dataclass(frozen=True)
class Original:
    """What is made again. audit: its figures, where they lie beside the record."""

    place: Path
    record: RunRecord
    audit: Audit | None

    @property
    def again(self) -> Path:
        """Where it is made again if nothing is said: beside it."""
        folder = self.place.resolve()
        return folder.with_name(f"{folder.name}-again")


@dataclass(frozen=True)
class Difference:
    """Something that was not what it is now."""

    what: str
    then: str
    now: str
    grade: Grade


@dataclass(frozen=True)
class Figure:
    """A figure by which runs are judged, in both. within: whether the new one lies in the interval; None: that cannot be said."""

    name: str
    then: float | None
    between: Interval | None
    now: float | None

    @property
    def within(self) -> bool | None:
        """Without an interval only the same figure says anything."""
        if self.then is None or self.now is None:
            return None
        if math.isclose(self.then, self.now, rel_tol=1e-9, abs_tol=1e-12):
            return True
        return None if self.between is None else self.between[0] <= self.now <= self.between[1]


@dataclass(frozen=True)
class Reproduction:
    """A run beside the one that was made from its record."""

    run: Run
    adapters: tuple[str, str]
    differences: tuple[Difference, ...]
    figures: tuple[Figure, ...]

    @property
    def same(self) -> bool:
        """Whether both adapters are the same, bit for bit."""
        return self.adapters[0] == self.adapters[1]

    @property
    def holds(self) -> bool:
        """The same adapter; or, from the same inputs, figures within the intervals."""
        judged = [figure.within for figure in self.figures if figure.within is not None]
        return self.same or (all(of.grade != "inputs" for of in self.differences) and bool(judged) and all(judged))


def original(what: Path) -> Original:
    """The run that a folder or a record holds. Raises RunError in one line."""
    record = what / RECORD if what.is_dir() else what
    if not record.is_file():
        begun = next((path for path in (what.with_name(f"{what.name}.partial"), what / ".partial") if path.is_dir()), None)
        unfinished = f"; {begun} is unfinished: give its command again" if begun else ""
        raise RunError(f"{what} is no finished run; expected a run folder or its {RECORD}{unfinished}")
    figures = record.with_name("audit.json")
    return Original(record.parent, read_json(record, RunRecord), read_json(figures, Audit) if figures.is_file() else None)


def recipe_again(of: Original, said: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe to run, and what of the record's is left out because it would run code or send something.

    said: ``model``, ``concept``, ``method`` in place of the record's, and ``trust_remote_code``. Raises InputError for a method
    that is a file, which is run, unless it is named.
    """
    kept, left_out = harmless(of.record.recipe.model_dump())
    named = {name: value for name, value in said.items() if value}
    if METHOD in left_out and METHOD not in named:
        raise InputError(
            f"{of.place}: its method is a file and would be run, {left_out[METHOD]}; if you trust it, say so with --method"
        )
    if METHOD in named and METHOD not in left_out:
        raise InputError(f"--method: {of.place} was made with {kept[METHOD]}, which is no file; drop it")
    whole = harmless_audit(of.record.recipe)[0].model_dump()
    return Recipe.model_validate({**kept, **named, "audit": whole}), {
        name: value for name, value in left_out.items() if name not in named
    }


def _require_model(of: Original, recipe: Recipe) -> None:
    """Raises InputError where the model is a path, and nothing is there."""
    path = Path(recipe.model)
    if not path.exists() and (path.is_absolute() or recipe.model.startswith(".") or recipe.model.endswith(".gguf")):
        raise InputError(f"{of.place}: no model {recipe.model!r}; say where it is with --model")


def reproduce(of: Original, recipe: Recipe, to: Path | None = None) -> Reproduction:
    """Make the run again in a folder, unless it is there, and compare. Raises an EffaceError in one line."""
    folder = to or of.again
    if folder.resolve() == of.place.resolve():
        raise RunError(f"--to {folder}: expected another folder than that of the run itself")
    if is_run(folder):
        run = Run(folder)
        if _apart_from_places(run.record.recipe) != _apart_from_places(recipe):
            raise RunError(f"{folder} holds a run of another recipe; name another folder with --to")
        if bad := run.damaged():
            raise RunError(f"{folder}: its adapter is not the one whose hash is in run.json ({bad})")
    else:
        _require_model(of, recipe)
        run = run_recipe(recipe, folder, split=of.audit.split if of.audit else "test")
    return compare(of, run)


def _apart_from_places(recipe: Recipe) -> dict[str, Any]:
    """The settings that decide what is trained; whether model, pack and method are the same their hashes tell."""
    method = METHOD if is_file(recipe.method) else recipe.method
    return {**recipe.model_dump(exclude={"model", "concept", "audit", TRUST}), METHOD: method}


def compare(of: Original, run: Run) -> Reproduction:
    """A run beside one that was made from its record."""
    now = run.record
    return Reproduction(
        run,
        (of.record.hashes["adapter"], now.hashes["adapter"]),
        tuple(differences(of.record, now)),
        tuple(_figures(of.audit, run.audit)) if of.audit else (),
    )


def _figures(then: Audit, now: Audit) -> Iterator[Figure]:
    before, between, after = summary(then), intervals(then), summary(now)
    for name, value in before.items():
        if value is not None or after[name] is not None:
            yield Figure(name, value, between[name], after[name])


def differences(then: RunRecord, now: RunRecord) -> list[Difference]:
    """What two records say otherwise, besides the adapter; what can matter most first."""
    found = [*_of_inputs(then, now), *_of_versions(then, now), *_of_machines(then, now)]
    return sorted(found, key=lambda of: list(GRADES).index(of.grade))


def _unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys((*then, *now)):
        if then.get(name) != now.get(name):
            yield name, str(then.get(name, UNKNOWN)), str(now.get(name, UNKNOWN))


def _of_inputs(then: RunRecord, now: RunRecord) -> Iterator[Difference]:
    for name, was, is_ in _unlike(then.hashes, now.hashes):
        if name == "model" and _in_another_precision(then, now):
            yield Difference("model, of which another precision has another hash", was, is_, "arithmetic")
        elif name != "adapter":
            yield Difference(f"{name} (hash)", was, is_, "inputs")
    for name, was, is_ in _unlike(then.sources, now.sources):
        yield Difference(f"corpus {name}", was, is_, "inputs")


def _in_another_precision(then: RunRecord, now: RunRecord) -> bool:
    """Whether ``auto`` meant another precision then."""
    both = then.machine is not None and now.machine is not None and then.machine.dtype != now.machine.dtype
    return both and then.recipe.dtype == "auto"


def _of_versions(then: RunRecord, now: RunRecord) -> Iterator[Difference]:
    grades: dict[str, Grade] = {"efface": "program", **dict.fromkeys(COMPUTE, "arithmetic")}  # type: ignore[dict-item]
    for name, was, is_ in _unlike(then.versions, now.versions):
        yield Difference(name, was, is_, grades.get(name, "measuring"))


def _of_machines(then: RunRecord, now: RunRecord) -> Iterator[Difference]:
    if then.processes != now.processes:
        yield Difference("processes", str(then.processes), str(now.processes), "arithmetic")
    if then.machine is None or now.machine is None:
        if then.machine != now.machine:
            was, is_ = (of.machine.device if of.machine else UNKNOWN for of in (then, now))
            yield Difference("machine", was, is_, "arithmetic")
        return
    for name, was, is_ in _unlike(then.machine.model_dump(exclude={"switches"}), now.machine.model_dump(exclude={"switches"})):
        yield Difference(name, was, is_, "arithmetic")
    for name, was, is_ in _unlike(then.machine.switches, now.machine.switches):
        yield Difference(name, was, is_, "arithmetic")
