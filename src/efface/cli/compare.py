"""``efface compare RUN RUN …``, ``efface compare --methods all MODEL CONCEPT``: a table and a plot, a point a run or method."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from efface.auditing.scores import Audit
from efface.cli.parse import parse
from efface.cli.recipe import AuditFlags, audit_settings
from efface.concept.find import concept_names, find_packs
from efface.errors import InputError, TrainingError
from efface.files import make_folder, read_json, write_text
from efface.recipe.recipe import merge, read_recipe
from efface.recipe.resolve import require_known
from efface.recipe.settings import AuditSettings
from efface.report.forms import bare_only
from efface.report.paper import HARRY_POTTER, WMDP
from efface.report.table import Spread, figure, spread
from efface.report.verdict import of_itself
from efface.shown import for_markdown, for_terminal, in_table, say

#: the figures that fit a terminal; the page has all
COLUMNS = ("gone", "forget", "open", "neighbours", "neighbours, open", "general", "retain ppl", "answers ppl", "repeated")

#: those whose 95 % intervals are printed under it
BETWEEN = ("gone", "kept")

#: settings that differ from run to run, or have a flag of their own
OWN = ("model", "concept", "method", "preset", "seed", "options", "dtype", "audit")

HEADS = {"neighbours": "neigh- bours", "neighbours, open": "neigh- bours, open", "repeated": "repea- ted"}  # may be broken


@dataclass(frozen=True)
class Arguments:
    """Put finished runs side by side: how much is erased, how much is kept, how the answers read.

    With --methods: make the runs too, every method on MODEL and CONCEPT with the same number of trained tokens.
    """

    runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN … | MODEL CONCEPT …")]]
    """Run folders, or folders that 'efface audit' wrote; with --methods, a model and a concept."""
    methods: str = ""
    """Methods to compare, separated by commas: names, Python files, 'paper', 'reference', or 'all'."""
    seeds: int = 1
    """Runs of each method (with --methods)."""
    budget: int | None = None
    """Target tokens of each run; none: as many as the first method trains on by itself (with --methods)."""
    recipe: Path | None = None
    """YAML file with settings of all runs: layers, rank, batch, … (with --methods)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the frozen weights (with --methods)."""
    audit: AuditFlags = field(default_factory=dict)
    """What is measured besides the pack's own questions (with --methods)."""
    paper: bool = False
    """Print the published figures too."""
    to: Path | None = None
    """Folder for compare.html, compare.json and compare.md, and with --methods for the runs; none: only print."""


def compare(args: Sequence[str]) -> None:
    """Parse, print, write."""
    given: Arguments = parse(Arguments, args, "compare")
    audit_settings(given.audit, AuditSettings(), "audit.")
    if not given.runs and not given.paper:
        raise InputError("compare: expected at least one run folder; see: efface compare --help")
    to, left_out = given.to, list[str]()
    if given.methods:
        to, found, left_out = _contest(given)
    else:
        runs = [Path(run) for run in given.runs]
        found = dict(zip(_names(runs), [[read_json(run / "audit.json", Audit)] for run in runs], strict=True))
    asked = {(audit.concept, audit.split) for audits in found.values() for audit in audits}
    if len(asked) > 1:
        questions = "; ".join(sorted(f"{concept}, {split}" for concept, split in asked))
        raise InputError(f"compare: expected runs judged by the same questions, got {questions}")
    for what, name in (("concept", "pack"), ("model", "base, in the same precision")):
        hashes = {audit.models[what] for audits in found.values() for audit in audits if what in audit.models}
        if len(hashes) > 1:
            raise InputError(f"compare: expected runs with the same {name}, got those with hashes {', '.join(sorted(hashes))}")
    found = {mark(name, audits): audits for name, audits in found.items()}
    figures = {name: spread(audits) for name, audits in found.items()}
    if figures:
        _print_runs(figures)
    if note := _note(found):
        say(note)
    if left_out:
        say(f"left out: {'; '.join(left_out)}")
    if given.paper:
        _print_paper()
    if to is not None and figures:
        _write(to, figures, found, left_out)


def _note(found: Mapping[str, Sequence[Audit]]) -> str:
    """What holds for all figures: whose words the questions are."""
    return next((said for audits in found.values() for audit in audits if (said := of_itself(audit))), "")


def mark(name: str, audits: Sequence[Audit]) -> str:
    """The name of a row; it says so where the questions of a run were asked as bare stems only."""
    return f"{name} (bare stem only)" if any(map(bare_only, audits)) else name


def _contest(given: Arguments) -> tuple[Path, dict[str, list[Audit]], list[str]]:
    """Make the runs that are not there; the audits of every method, and which runs are left out and why."""
    if len(given.runs) < 2 or given.seeds < 1 or (given.budget is not None and given.budget < 1):
        raise InputError("compare --methods: expected MODEL and CONCEPT, and --seeds and --budget from 1 on")
    model, concept = given.runs[0], " ".join(given.runs[1:])
    find_packs(concept)

    from efface.search.compare import contenders, contest, short

    to = given.to or Path("runs") / f"compare-{concept_names(concept)}-{Path(model).name}"
    shared = read_recipe(given.recipe) if given.recipe else {}
    if own := [name for name in shared if name in OWN]:
        raise InputError(f"{given.recipe}: expected settings that all runs share and that no flag sets, got {', '.join(own)}")
    settings = merge({"dtype": given.dtype, "audit": given.audit}, shared)
    require_known({**settings, "model": model, "concept": concept})
    names = contenders([name.strip() for name in given.methods.split(",")])
    found: dict[str, list[Audit]] = {}
    left_out: list[str] = []
    for name, run in contest(model, concept, names, to, seeds=given.seeds, budget=given.budget, settings=settings):
        if isinstance(run, TrainingError):
            left_out.append(f"a run of {short(name)} ({run})")
            continue
        found.setdefault(short(name), []).append(run.audit)
        _write(to, {name: spread(audits) for name, audits in found.items()}, found, left_out, quietly=True)  # so far
    if not found:
        raise InputError(f"compare: no run is left: {'; '.join(left_out)}")
    return to, found, left_out


def _write(
    to: Path,
    figures: Mapping[str, dict[str, Spread | None]],
    audits: Mapping[str, Sequence[Audit]],
    left_out: Sequence[str] = (),
    quietly: bool = False,
) -> None:
    from efface.report.page import write_comparison

    make_folder(to)
    runs = {name: len(of) for name, of in audits.items()}
    plain = {name: {key: value and _finite(asdict(value)) for key, value in of.items()} for name, of in figures.items()}
    write_text(to / "compare.json", json.dumps(plain, indent=2) + "\n")
    note = _note(audits)
    under = [*([for_markdown(note)] if note else []), *(f"Left out: {for_markdown(why)}." for why in left_out)]
    write_text(to / "compare.md", markdown(figures, runs) + "".join(f"\n{line}\n" for line in under))
    write_text(to / "compare.html", write_comparison(figures, runs, left_out, note))
    if not quietly:
        say(to / "compare.html")


def _finite(figure: Any) -> Any:
    """As JSON can hold it: a cost above all that was tried as ``"inf"``."""
    if isinstance(figure, dict):
        return {key: _finite(value) for key, value in figure.items()}
    if isinstance(figure, tuple):
        return [_finite(value) for value in figure]
    return "inf" if figure == math.inf else figure


def _names(runs: Sequence[Path]) -> list[str]:
    """The runs' own names, or their whole paths where these are the same."""
    names = [run.resolve().name for run in runs]
    return [for_terminal(name) for name in (names if len(set(names)) == len(names) else runs)]


def markdown(figures: Mapping[str, Mapping[str, Spread | None]], runs: Mapping[str, int]) -> str:
    """The table with the range over the runs of each name, and the intervals where items were kept."""
    columns = list(next(iter(figures.values())))
    lines = ["| | runs | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    lines += [
        f"| {for_markdown(name)} | {runs[name]} | "
        + " | ".join("–" if of[key] is None else str(of[key]) for key in columns)
        + " |"
        for name, of in figures.items()
    ]
    return "\n".join(lines) + "\n"


def _print_runs(found: Mapping[str, Mapping[str, Spread | None]]) -> None:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption="Means over the runs. Shares of the base's figures; gone: of the distance to chance; both in the worst form.",
        caption_justify="left",
    )
    for column in ("run", *COLUMNS):
        first = column == "run"
        table.add_column(HEADS.get(column, column), justify="left" if first else "right", no_wrap=first)
    for name, figures in found.items():
        table.add_row(in_table(name), *("–" if (of := figures[key]) is None else figure(of.mean) for key in COLUMNS))
    Console().print(table)
    for name, figures in found.items():
        known = [f"{key} {of}" for key in BETWEEN if (of := figures[key]) is not None and of.interval is not None]
        if known:
            say(f"{name}: {', '.join(known)}")


def _print_paper() -> None:
    heads = ("model", "method", "WMDP-bio", "WMDP-cyber", "MMLU", "MT-Bench", "R-PPL")
    small = ("method", "HP-MCQ", "MMLU", "R-PPL")
    for title, columns, lines in (
        ("arXiv 2410.02760, table 1", heads, WMDP),
        ("Harry Potter, table 4 (Llama-2-7B-chat)", small, HARRY_POTTER),
    ):
        table = Table(*columns, title=title, box=box.SIMPLE_HEAD, padding=0)
        for line in lines:
            table.add_row(*map(str, line))
        Console().print(table)
