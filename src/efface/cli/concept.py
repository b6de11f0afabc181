"""``efface concept list|show|check``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from efface.cli.parse import Nothing, parse
from efface.concept.check import complaints
from efface.concept.find import builtin_packs, find_pack
from efface.concept.pack import Concept, Manifest, read_manifest
from efface.concept.sources import Source
from efface.errors import ConceptError
from efface.recipe.settings import DataSettings
from efface.shown import in_table, say


@dataclass(frozen=True)
class Pack:
    """A concept pack."""

    name: tyro.conf.Positional[str]
    """Name of a built-in pack, or the folder of one."""


@dataclass(frozen=True)
class Check(Pack):
    """A concept pack and, to score its choices without their questions, a model."""

    model: str | None = None
    """Hub id, folder, GGUF file or alias."""


@dataclass(frozen=True)
class Tasks(Pack):
    """A concept pack, and where its task files go."""

    to: Path = Path("tasks")
    """Folder to write them to."""


def list_packs(args: Sequence[str]) -> None:
    """List the built-in concept packs, one a line."""
    parse(Nothing, args, "concept list", description=list_packs.__doc__)
    for name, folder in builtin_packs().items():
        say(f"{name:20} {_line(read_manifest(folder).description)}")


def show(args: Sequence[str]) -> None:
    """Show what a pack holds: its manifest in words, then counts."""
    name = parse(Pack, args, "concept show", description=show.__doc__).name
    manifest, console = read_manifest(find_pack(name)), Console()
    console.print(f"[bold]{in_table(manifest.title)}[/] ({manifest.name}): {in_table(_line(manifest.description))}")
    for what in ("aliases", "keywords", "topics", "prompts"):
        console.print(f"[bold]{what}[/]: {in_table(', '.join(map(_line, getattr(manifest, what))))}", highlight=False)
    for what in ("forget", "retain"):
        for source in getattr(manifest, what):
            if isinstance(source, Source):
                console.print(f"[bold]{what}[/]: {in_table(source.label)} {in_table(_line(source.obtain))}", highlight=False)
    for kind, tasks in manifest.tasks.items():
        console.print(f"[bold]{kind} tasks[/]: {in_table(', '.join(tasks))}", highlight=False)
    if all(isinstance(source, str) for source in manifest.forget + manifest.retain):
        console.print(_counts(Concept.load(name)))
    _say_truth(manifest)


def tasks(args: Sequence[str]) -> None:
    """Write a pack's choice questions as task files, and print their names: lm_eval --tasks NAME --include_path DIR."""
    given: Tasks = parse(Tasks, args, "concept tasks", description=tasks.__doc__)
    manifest = read_manifest(find_pack(given.name))
    if not manifest.questions:
        public = sorted({name for names in manifest.tasks.values() for name in names})
        instead = f"; its public tasks: {', '.join(public)}" if public else ""
        raise ConceptError(f"{given.name} has no choice questions of its own{instead}")
    concept = Concept.load(given.name)

    from efface.auditing.scorers.harness import export_tasks

    for name in export_tasks(concept, given.to):
        say(name)


def check(args: Sequence[str]) -> None:
    """Read every file of a pack, and report what would not hold in training or audit."""
    given: Check = parse(Check, args, "concept check", description=check.__doc__)
    concept = Concept.load(given.name)
    if found := complaints(concept, DataSettings().min_chars):
        raise ConceptError(f"{given.name}: {'; '.join(found)}")
    Console().print(_counts(concept))
    if given.model:
        _check_choices(concept, given.model)
    _say_truth(concept.manifest)
    say("no errors")


def _check_choices(concept: Concept, model: str) -> None:
    from efface.auditing.scorers.choice import score_choices, score_without_question
    from efface.auditing.subject import Subject
    from efface.lm.load import load
    from efface.report.table import show as figure

    loaded = load(model)
    scores: dict[str, Any] = {}
    for split in ("tune", "test"):
        subject = Subject(loaded.model, loaded.tokenizer, concept, split)  # type: ignore[arg-type]
        scores |= {f"{key} ({split})": score for key, score in score_choices(subject).items()}
    scores |= score_without_question(subject)
    table = Table("questions", "n", "accuracy [95 %]", title=in_table(f"choices under {model}; choice_only: no question"))
    for key, score in scores.items():
        table.add_row(in_table(key), str(score.n), figure(score, percent=True))
    Console().print(table)


def _say_truth(manifest: Manifest) -> None:
    if manifest.truth == "self":
        say("truth: self. Its answers are what a model said, not what is so")


def _line(text: str) -> str:
    """A text of several lines as one."""
    return " ".join(text.split())


def _counts(concept: Concept) -> Table:
    table = Table("what", "kind", "split", "count")
    counted: Counter[tuple[str, str, str]] = Counter()
    counted.update(("passages", kind, row.split) for kind in ("forget", "retain") for row in getattr(concept, kind))
    counted.update(("choice questions", row.kind, row.split) for row in concept.questions)
    counted.update(("open questions", row.kind, row.split) for row in concept.open_questions)
    for key, count in counted.items():
        table.add_row(*key, str(count))
    return table
