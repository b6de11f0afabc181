"""Several runs at once: their adapters on one base, each switched on alone, or all together, which adds their updates."""

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel

from efface.errors import InputError, RunError
from efface.lm.adapters import add_adapter
from efface.lm.load import Loaded
from efface.runs.run import Run

#: who answers besides the base and the single runs
TOGETHER = "together"


def require_joinable(runs: Sequence[Run]) -> None:
    """Raises an EffaceError for runs that do not go together: of other bases, the same one twice, trained as a whole."""
    if len(runs) < 2:
        return
    if len({run.folder.resolve() for run in runs}) < len(runs):
        raise InputError(f"expected different runs, got one twice: {', '.join(str(run.folder) for run in runs)}")
    first = runs[0].record
    for run in runs:
        record = run.record
        if record.hashes["model"] != first.hashes["model"]:
            raise RunError(
                f"{run.folder} was made from another base than {runs[0].folder}, or in another precision; expected the same"
            )
        if record.recipe.lora.rank == 0:
            raise RunError(f"{run.folder} trained modules as a whole, which cannot be added to another's; expected a low rank")


def load_several(runs: Sequence[Run]) -> tuple[Loaded, dict[str, tuple[str, ...]]]:
    """One base with the adapters of all runs, and by name who can answer: with which of the adapters.

    None for ``base``; for a single run ``erased``; for several the folder's name of each, and all of them ``together``.
    Raises an EffaceError as :func:`require_joinable` and :meth:`Run.load`.
    """
    require_joinable(runs)
    loaded = runs[0].load()
    if len(runs) == 1:
        return loaded, {"base": (), "erased": ("default",)}
    student, who = loaded.model, {"base": (), _name(runs[0], runs): ("default",)}
    assert isinstance(student, PeftModel)
    for number, run in enumerate(runs[1:], 1):
        if bad := run.damaged():
            raise RunError(f"{run.folder}: its adapter is not the one whose hash is in run.json ({bad})")
        add_adapter(student, run.folder / "adapter", f"run{number}")
        who[_name(run, runs)] = (f"run{number}",)
    return loaded, who | {TOGETHER: tuple(adapter for adapters in who.values() for adapter in adapters)}


def _name(run: Run, runs: Sequence[Run]) -> str:
    """What a run is called: the name of its folder, or all of its path where that is another's name."""
    names = ["base", TOGETHER, *(Path(of.folder).resolve().name for of in runs)]
    name = run.folder.resolve().name
    return name if names.count(name) == 1 else str(run.folder)
