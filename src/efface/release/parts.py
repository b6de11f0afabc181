"""The runs that go into one export: the one that is named and those it stands on, or several that were made apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from efface.concept.find import find_packs, split_names
from efface.errors import InputError, RunError
from efface.recipe.record import RunRecord
from efface.release.identity import require_base
from efface.release.weights import Base, Update, stacked, updates
from efface.report.card import hub_id, portable
from efface.runs.inputs import layers, require_below
from efface.runs.run import Run
from efface.runs.several import require_joinable


@dataclass(frozen=True)
class Parts:
    """Runs in the order in which they are merged. below: those that the named ones stand on."""

    below: tuple[Run, ...]
    named: tuple[Run, ...]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> "Parts":
        """What goes into an export of these runs. Raises an EffaceError for runs that do not go together."""
        runs = tuple(map(Run, folders))
        if not runs:
            raise InputError("export: expected a run folder, or several")
        require_joinable(runs)
        require_below(runs[0].folder, runs[0].record)
        return cls(tuple(Run(Path(layer.run)) for layer in layers(runs[0].record.recipe)), runs)

    @property
    def all(self) -> tuple[Run, ...]:
        """Every one, the first that was made first."""
        return (*self.below, *self.named)

    @property
    def apart(self) -> bool:
        """Whether several were made apart, so that nobody has measured them together."""
        return len(self.named) > 1

    @cached_property
    def record(self) -> RunRecord:
        """The last run's, of the whole model below all of them and of every concept."""
        first, last = self.all[0].record, self.all[-1].record
        update = {"model": first.recipe.model, "revision": first.recipe.revision}
        if len(self.all) > 1:
            update["concept"] = joined([run.record.recipe.concept for run in self.all])
        hashes = {**last.hashes, "model": first.hashes["model"]}
        return last.model_copy(update={"recipe": last.recipe.model_copy(update=update), "hashes": hashes})

    @cached_property
    def changes(self) -> dict[str, Update]:
        """What all adapters together make of the base."""
        return stacked([updates(run.folder / "adapter") for run in self.all])

    def require_whole(self) -> None:
        """Raises an EffaceError for an adapter that is damaged, or of a kind that cannot be merged."""
        for run in self.all:
            if bad := run.damaged():
                raise RunError(f"{run.folder}: its adapter is not the one whose hash is in run.json ({bad})")
        _ = self.changes

    def require_base(self, base: Base) -> None:
        """Raises RunError where a run was not made from the base with the adapters of the runs below."""
        for i, run in enumerate((*self.below, self.named[0])):
            require_base(run, base, stacked([updates(of.folder / "adapter") for of in self.below[:i]]))

    @cached_property
    def recipes(self) -> tuple[dict[str, Any], ...]:
        """Of every run, without a path of this machine."""
        return tuple(portable(run.record, hub_id(run.folder / "adapter")) for run in self.all)

    @property
    def told(self) -> tuple[dict[str, Any], ...]:
        """Recipe and hashes of each; nothing where there is one."""
        if len(self.all) == 1:
            return ()
        return tuple({"recipe": recipe, "hashes": run.record.hashes} for recipe, run in zip(self.recipes, self.all, strict=True))


def joined(concepts: Sequence[str]) -> str:
    """All packs in one word, each once, in the order of their names: so the same questions are asked whichever came first."""
    found = {find_packs(name)[0][0]: name for concept in concepts for name in split_names(concept)}
    return " ".join(found[folder] for folder in sorted(found, key=lambda folder: folder.name))
