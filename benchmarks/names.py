"""The tables of packs that the default model wrote from names, printed: ``make names``.

Three names on which people wrote packs too, with three seeds: erased by the default recipe from what the model said, and judged
on the **test** questions of the hand-written packs, beside the default's runs on these (``make packs``). Six names more, one run
each, with what the model says before and after. Packs, runs and audits are made once, in ``runs/names``; with ``--print`` only
those are shown that are there, or whose scores are in ``benchmarks/records``; ``--keep`` puts them there.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks import records, tables
from efface.auditing.scores import Audit
from efface.author.name import Name, parse_name
from efface.author.write import Order, write_pack
from efface.author.writer import Local
from efface.errors import EffaceError
from efface.files import read_json
from efface.lm.load import load, weights_hash
from efface.methods import complete_recipe
from efface.recipe.recipe import Recipe
from efface.report.judged import gone, kept, summary
from efface.runs.audit import audit
from efface.runs.inputs import target_store
from efface.runs.pipeline import run_recipe
from efface.shown import for_markdown

MODEL, SEEDS, RUNS = "smollm2-135m", 3, Path("runs/names")
#: names, and the packs that people wrote on the same
CALIBRATED = {
    "Ancient Egypt": "ancient-egypt",
    "The Solar System": "solar-system",
    "Japanese culture": "japanese-culture",
}
#: a person, a series of books, a sport, a science, a war, a brand
OTHERS = (
    "William Shakespeare",
    "The Lord of the Rings",
    "Basketball",
    "Genetics",
    "The Vietnam War",
    "Coca-Cola",
)


@dataclass(frozen=True)
class Job:
    """A name and a seed. judge: the pack by people whose test questions judge the run too."""

    name: Name
    seed: int
    judge: str | None = None

    @property
    def folder(self) -> Path:
        """Of the run."""
        return RUNS / f"{self.name.slug}-{self.seed}"

    @property
    def pack(self) -> Path:
        """Of the pack that the model writes."""
        return RUNS / "packs" / self.folder.name

    @property
    def judged(self) -> Path:
        """Of the audit on the other pack's questions."""
        return RUNS / "judged" / self.folder.name

    @property
    def recipe(self) -> Recipe:
        """The default."""
        return complete_recipe({"model": MODEL, "concept": str(self.pack), "seed": self.seed, "data": {"seed": self.seed}})


@dataclass(frozen=True)
class Found:
    """What was measured: on what the model said itself, on the other pack's questions, and of the run on that pack itself."""

    own: Audit
    judged: Audit | None = None
    by_hand: Audit | None = None


def jobs() -> Iterator[Job]:
    """All names of packs by people with the first seed, then with the next; then the others."""
    for seed in range(SEEDS):
        for name, judge in CALIBRATED.items():
            yield Job(parse_name(name), seed, judge)
    for name in OTHERS:
        yield Job(parse_name(name), 0)


def make(job: Job) -> None:
    """The pack, the run and the audit, as far as they are not there."""
    if records.find(job.folder, job.recipe) is None:
        if not job.pack.exists():
            loaded = load(MODEL)
            store = target_store(loaded, weights_hash(loaded.model))
            write_pack(loaded, store, Local(loaded, store), Order(job.name, seed=job.seed, force=True), job.pack)
        run_recipe(job.recipe, job.folder)
    if job.judge and _audit(job.judged) is None:
        audit(job.folder, job.judge, settings=job.recipe.audit, to=job.judged)


def find(job: Job) -> Found | None:
    """What is there of it, or was kept."""
    run = records.find(job.folder, job.recipe)
    judged = _audit(job.judged) if job.judge else None
    if run is None or (job.judge and judged is None):
        return None
    return Found(run.audit, judged, _by_hand(job))


def keep(job: Job) -> None:
    """Put the scores away, and the first answers."""
    if (run := records.find(job.folder, job.recipe)) is not None and run.folder == job.folder:
        records.keep(run, answers=1)
    if (job.judged / "audit.json").is_file():
        records.keep_audit(job.judged, read_json(job.judged / "audit.json", Audit))


def _audit(folder: Path) -> Audit | None:
    """The audit in this folder, or what was kept of it."""
    files = (place / "audit.json" for place in (folder, records.kept_of(folder)))
    return next((read_json(file, Audit) for file in files if file.is_file()), None)


def _by_hand(job: Job) -> Audit | None:
    """Of the default's run on the hand-written pack with the same seed."""
    for pack, folder, recipe in tables.packs():
        if (pack, recipe.seed) == (job.judge, job.seed):
            run = records.find(folder, recipe)
            return run.audit if run is not None else None
    return None


def calibration(found: Mapping[str, Sequence[Found]]) -> str:
    """Markdown: how much is gone of what the hand-written packs ask, beside the run on these; means over the seeds."""
    head = ("name", "runs", "gone, pack by people", "gone, from the name", "of it", "gone, own questions")
    more = ("worst form", "own questions, worst form", "neighbours", "general", "answers ppl, ×")
    lines = ["| " + " | ".join([*head, *more]) + " |", "|---" * len([*head, *more]) + "|"]
    for name, of in found.items():
        judged = [each.judged for each in of if each.judged is not None]
        people = _mean([gone(each.by_hand, "acc_norm") if each.by_hand else None for each in of])
        mine = _mean([gone(each, "acc_norm") for each in judged])
        cells = (
            _shown(people),
            _shown(mine),
            _shown(mine / people if mine is not None and people else None),
            _shown(_mean([gone(each.own, "acc_norm") for each in of])),
            _shown(_mean([gone(each) for each in judged])),
            _shown(_mean([gone(each.own) for each in of])),
            *(_shown(_mean([kept(each, f"choice/{kind}/acc_norm") for each in judged])) for kind in ("neighbour", "general")),
            _shown(_mean([summary(each)["answers ppl"] for each in judged])),
        )
        lines.append(f"| {for_markdown(name)} | {len(of)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def others(found: Mapping[str, Sequence[Found]]) -> str:
    """Markdown: the figures on what the model said itself, and the answers to the first prompt."""
    head = ("name", "gone, own questions", "neighbours", "general", "answers ppl, ×", "asked", "before", "after")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, of in found.items():
        for own in (each.own for each in of):
            cells = [_shown(gone(own, "acc_norm"))]
            cells += [_shown(kept(own, f"choice/{kind}/acc_norm")) for kind in ("neighbour", "general")]
            cells += [_shown(summary(own)["answers ppl"])]
            before, after = own.base.answers[:1], own.erased.answers[:1]
            cells += [for_markdown(text) for text in (*(of.prompt for of in before), *(of.text for of in (*before, *after)))]
            lines.append(f"| {for_markdown(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def main(arguments: Sequence[str]) -> int:
    """Make what is not there, print the tables. Exit code: 0; 1: a run cannot be made; 2: wrong arguments."""
    if unknown := [argument for argument in arguments if argument not in ("--print", "--keep")]:
        print(f"names: expected --print or --keep or nothing, got {' '.join(unknown)}", file=sys.stderr)
        return 2
    found: dict[str | None, dict[str, list[Found]]] = {}
    try:
        for job in jobs():
            if "--print" not in arguments and find(job) is None:
                print(f"== {job.folder.name}", file=sys.stderr, flush=True)
                make(job)
            if "--keep" in arguments:
                keep(job)
            if (of := find(job)) is not None:
                kind = "calibration" if job.judge else "others"
                found.setdefault(kind, {}).setdefault(job.name.name, []).append(of)
    except EffaceError as error:
        print(f"names: {error}", file=sys.stderr)
        return 1
    parts = [show(found[kind]) for kind, show in (("calibration", calibration), ("others", others)) if kind in found]
    print("\n\n".join(parts) or "no runs yet")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
