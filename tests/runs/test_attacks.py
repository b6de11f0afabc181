"""The searched attacks from the command line: rows beside the base, kept one by one, decided by their own settings alone."""

from pathlib import Path

import pytest

from efface.attacks.attack import AttackScorer
from efface.auditing.scores import Audit
from efface.cli import main
from efface.files import read_json
from efface.runs.run import Run
from tests.runs.test_audit import run as run

SMALL = ["--beast-beams", "2", "--beast-tokens", "2", "--suffix-questions", "1", "--leak-answers", "4"]


def test_they_stand_on_the_page_and_are_not_made_twice(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, began = ["audit", str(run.folder), "--to", str(tmp_path), "--attacks", "leak", "beast", *SMALL], list[str]()
    monkeypatch.setattr(
        AttackScorer,
        "__call__",
        lambda self, subject, plain=AttackScorer.__call__: began.append(self.name) or plain(self, subject),
    )
    assert main(audit) == 0
    assert began == ["leak", "beast"] * 2, "base and erased model"
    said = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = read_json(tmp_path / "audit.json", Audit)
    for text in (said, page):
        assert "leak, any of 4 answers" in text
        assert "beast, suffix of" in text
    for measured in (found.base, found.erased):
        assert measured.scores["attack/leak/any of 4 answers/0x0/forget/right"].n == 1
        assert "attack/beast/before/0x0/forget/acc_norm" in measured.scores
    assert main([*audit[:-1], "3"]) == 0
    assert began == ["leak", "beast"] * 2 + ["leak"] * 2, "beast is in the cache, and the number of answers is not its own"
