"""Figures that are measured on what a model said itself: it is said wherever they are shown."""

from pathlib import Path

import pytest

from efface.auditing.scores import Audit, Measured
from efface.auditing.statistics import proportion
from efface.cli import main
from efface.concept.written import Written
from efface.files import write_json
from efface.recipe.record import RunRecord
from efface.recipe.resolve import resolve
from efface.report.page import write_report
from efface.report.terminal import print_audit
from efface.report.verdict import SELF

EVIL = "<b>worse</b>"
RECORD = RunRecord(
    recipe=resolve({"model": "m", "concept": "c"}), versions={}, hashes={"adapter": "a"}, tokens={}, seconds={}, losses=[]
)


def audit(truth: str, writer: str = "m") -> Audit:
    scores = {"choice/forget/acc_norm": proportion([True] * 9 + [False] * 3, 0.25)}
    written = Written(writer=writer, model="m", dropped={"forget": {EVIL: 3, "short": 0}}, kept={"forget": 81, "questions": 8})
    return Audit(
        concept="c",
        title="Zorn",
        split="test",
        base=Measured(scores=scores, answers=[]),
        erased=Measured(scores=scores, answers=[]),
        truth=truth,
        written={"Zorn": written} if truth == "self" else {},
    )


def test_page_card_and_terminal_say_it_and_the_page_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "audit.json", audit("self"))
    write_json(tmp_path / "run.json", RECORD)
    (tmp_path / "adapter").mkdir()
    assert main(["report", str(tmp_path)]) == 0
    page, card = (tmp_path / "report.html").read_text(), (tmp_path / "README.md").read_text()
    assert SELF in page
    assert '<tr><td>forget</td><td class="n">81</td><td>3 &lt;b&gt;worse&lt;/b&gt;</td></tr>' in page
    assert '<tr><td>questions</td><td class="n">8</td><td>nothing</td></tr>' in page
    assert SELF in card
    assert "Zorn, as a model told of it" in card, "in what the hub reads"
    capsys.readouterr()
    print_audit(audit("self"), "x")
    assert SELF in " ".join(capsys.readouterr().out.split())
    main(["gate", str(tmp_path), "--max-forget", "0.3"])
    assert SELF in capsys.readouterr().out


def test_a_pack_by_people_says_nothing_of_it(tmp_path: Path) -> None:
    write_report(tmp_path, audit("people"), RECORD)
    for name in ("report.html", "README.md"):
        assert "said itself" not in (tmp_path / name).read_text()
    assert 'class="written"' not in (tmp_path / "report.html").read_text()


def test_another_writer_is_named_instead(tmp_path: Path) -> None:
    write_report(tmp_path, audit("self", "http://big.example/v1"))
    assert "Measured on what http://big.example/v1 said, not on what is so." in (tmp_path / "report.html").read_text()


def test_runs_side_by_side_say_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "audit.json", audit("self"))
    assert main(["compare", *(str(tmp_path / name) for name in ("one", "two")), "--to", str(tmp_path / "side")]) == 0
    assert capsys.readouterr().out.count(SELF) == 1
    for name in ("compare.html", "compare.md"):
        assert (tmp_path / "side" / name).read_text().count(SELF) == 1
