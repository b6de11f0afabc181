"""``report.html`` and the model card: one template each, everything a model wrote is escaped."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from efface.concept import Concept
from efface.report.table import rows, show, verdict
from efface.results import Audit, RunRecord, write_text


def write_report(folder: Path, record: RunRecord, audit: Audit, concept: Concept) -> None:
    """Write ``report.html`` and ``README.md`` into a run folder."""
    values = {
        "record": record,
        "recipe": record.recipe,
        "audit": audit,
        "concept": concept.manifest,
        "rows": list(rows(audit)),
        "show": show,
        "verdict": verdict(audit),
        "pairs": list(zip(audit.base.answers, audit.erased.answers, strict=True)),
    }
    environment = Environment(
        loader=PackageLoader("efface", "report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for template, name in (("report.html", "report.html"), ("card.md", "README.md")):
        write_text(folder / name, environment.get_template(f"{template}.j2").render(values))
