"""``efface audit RUN [--concept PACK]`` and ``efface audit MODEL --base BASE --concept PACK``."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from efface.auditing.scores import Audit
from efface.cli.parse import parse
from efface.cli.recipe import AuditFlags, audit_settings, complain_of
from efface.concept.find import concept_names, find_packs
from efface.concept.pack import Split
from efface.errors import InputError, RunError
from efface.files import read_json
from efface.recipe.foreign import harmless, harmless_audit
from efface.recipe.record import RunRecord
from efface.recipe.settings import AuditSettings
from efface.runs.folder import is_run
from efface.shown import say


@dataclass(frozen=True)
class Arguments:
    """Measure base and erased model on a pack's questions and whatever tasks of the harness are named."""

    what: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN|MODEL")]]
    """A run folder; or hub id or folder of an erased model: an adapter or merged weights."""
    base: str | None = None
    """The model that it was made from (with a MODEL)."""
    concept: str | None = None
    """Name or folder of the concept pack; with a RUN: another than its own."""
    split: Split = "test"
    """The questions to ask."""
    to: Path | None = None
    """Folder for audit.json and report.html (default: the run's, for its own test questions; else audits/NAME-CONCEPT)."""
    revision: str | None = None
    """Branch, tag or commit of a MODEL on the hub."""
    base_revision: str | None = None
    """The same of its BASE."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights (with a MODEL)."""
    device_map: str | None = None
    """Spread the layers over all devices (with a MODEL): 'auto' (see accelerate)."""
    load_in_4bit: bool = False
    """Measure the weights in 4 bits (with a MODEL; needs bitsandbytes)."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""
    settings: Annotated[AuditFlags, tyro.conf.arg(name="")] = field(default_factory=dict)


#: how a model that is no run is loaded
LOADING = ("revision", "base_revision", "dtype", "device_map", "load_in_4bit", "trust_remote_code")


def audit(args: Sequence[str]) -> None:
    """Parse, measure, print the table."""
    given: Arguments = parse(Arguments, args, "audit")
    run, remembered = is_run(given.what), AuditSettings()
    if run:  # it remembers how it was measured; what is given now comes on top
        remembered, left_out = harmless_audit(read_json(Path(given.what) / "run.json", RunRecord).recipe)
        with suppress(RunError):
            last = read_json(Path(given.what) / "audit.json", Audit).settings
            left_out |= harmless({"audit": last.model_dump(include={"scorers", "attacks"})})[1]
        complain_of(given.what, left_out, {"audit": given.settings}, "audit.")
    settings = audit_settings(given.settings, remembered)
    if not run and (given.base is None or given.concept is None):
        raise InputError(f"audit: {given.what} is no finished run folder; for a model say --base BASE --concept PACK")
    if given.concept is not None:
        find_packs(given.concept)
    to = given.to or _place(given)

    from efface.report.terminal import print_audit
    from efface.runs.audit import audit as measure

    loading: dict[str, Any] = {name: getattr(given, name) for name in LOADING}
    measured = measure(given.what, given.concept, base=given.base, split=given.split, settings=settings, to=to, **loading)
    print_audit(measured, f"{measured.title} erased: {given.what}")
    if to is not None:
        say(to / "report.html")


def _place(given: Arguments) -> Path | None:
    """Where figures are written if nothing is said; None: nowhere."""
    if is_run(given.what) and given.concept in (None, read_json(Path(given.what) / "run.json", RunRecord).recipe.concept):
        return Path(given.what) if given.split == "test" else None
    return Path("audits") / f"{Path(given.what).name}-{concept_names(str(given.concept))}"
