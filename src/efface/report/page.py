"""``report.html`` and the model card: one template each, everything that others wrote is escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from efface.auditing.scores import Audit, Said
from efface.files import write_text
from efface.recipe.record import RunRecord
from efface.report import charts, forms
from efface.report.card import Shipped, as_yaml, base_name, card, hub_id, portable
from efface.report.recovery import attack_rows
from efface.report.table import Spread, figure, rows, share, show, significance
from efface.report.verdict import beside, recovered, verdict
from efface.shown import for_markdown

MOST = 6  # answers of each kind


def environment() -> Environment:
    """The templates; whatever goes into a page is escaped, and what goes into Markdown by the filter ``md``."""
    made = Environment(
        loader=PackageLoader("efface", "report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["md"] = for_markdown
    return made


def write_report(folder: Path, audit: Audit, record: RunRecord | None = None, shipped: Shipped | None = None) -> None:
    """Write ``report.html`` and, for a run or what ships of one, the model card ``README.md`` into a folder."""
    base = record.recipe.model if record else audit.models.get("base", "its base")
    values = {
        "record": record,
        "recipe": record.recipe if record else None,
        "audit": audit,
        "title": audit.title or audit.concept,
        "base": base,
        "rows": list(rows(audit)),
        "show": show,
        "significance": significance,
        "verdict": verdict(audit),
        "asked": forms.table(audit),
        "leaks": forms.leaks(audit),
        "forms": charts.forms(audit),
        "written": filters(audit),
        "attacks": list(attack_rows(audit)),
        "recovered": recovered(audit),
        "beside": beside(audit),
        "recovery": charts.recovery(audit),
        "share": share,
        "pairs": list(zip(audit.base.answers, audit.erased.answers, strict=False)),
        "telling": telling(audit),
        "goals": charts.goals(audit),
        "lost": charts.lost(audit),
        "depth": charts.depth(audit),
        "losses": charts.losses(record.losses) if record else None,
    }
    templates = environment()
    write_text(folder / "report.html", templates.get_template("report.html.j2").render(values))
    if record:
        hub = shipped.hub if shipped else hub_id(folder / "adapter")
        recipes = (shipped.recipes if shipped else ()) or (portable(record, hub),)
        more = {"base": base_name(record, hub), "hub": hub, "shipped": shipped, "recipes": list(map(as_yaml, recipes))}
        body = templates.get_template("card.md.j2").render({**values, **more})
        write_text(folder / "README.md", f"{card(audit, record, hub, body, shipped)}\n")


def telling(audit: Audit) -> dict[str, list[tuple[Said, Said]]]:
    """Answers of base and erased model to the concept's open questions: the six that say most, the six that repeat most."""
    pairs = list(zip(audit.base.said, audit.erased.said, strict=False))
    most = sorted(pairs, key=lambda pair: (pair[1].right, pair[1].concept_words), reverse=True)
    loops = sorted(pairs, key=lambda pair: pair[1].repeated, reverse=True)
    return {
        "say most": [pair for pair in most[:MOST] if pair[1].right or pair[1].concept_words],
        "repeat most": [pair for pair in loops[:MOST] if pair[1].repeated],
    }


def filters(audit: Audit) -> dict[str, list[tuple[str, int | None, str]]]:
    """By the title of a pack that a model wrote: every part, how much of it was kept, and what was dropped of it and why."""
    return {
        title: [
            (part, of.kept.get(part), ", ".join(f"{n} {why}" for why, n in of.dropped.get(part, {}).items() if n))
            for part in dict.fromkeys([*of.kept, *of.dropped])
        ]
        for title, of in audit.written.items()
    }


def comparison_plane(found: Mapping[str, Mapping[str, Spread | None]]) -> Markup | None:
    """Erased against kept, a point a name; None where nothing is known of either."""
    points = {}
    for name, figures in found.items():
        if (erased := figures["gone"]) is not None and (kept := figures["kept"]) is not None:
            points[name] = (erased, kept, figures["fluency"])
    return charts.plane(points) if points else None


def write_comparison(
    found: Mapping[str, Mapping[str, Spread | None]], runs: Mapping[str, int], left_out: Sequence[str] = (), note: str = ""
) -> str:
    """The page of ``efface compare``: runs or methods by name, each with the figures of :func:`efface.report.table.spread`.

    runs: how many a name stands for. left_out: which runs are not there, and why. note: what holds for all figures.
    """
    template, columns = environment().get_template("compare.html.j2"), list(next(iter(found.values())))
    plane = comparison_plane(found)
    return template.render(found=found, runs=runs, left_out=left_out, note=note, columns=columns, plane=plane, figure=figure)
