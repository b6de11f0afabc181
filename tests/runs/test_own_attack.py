"""An attack of one's own is one file; what goes wrong in it is one line."""

from pathlib import Path

import pytest

from efface.auditing.scores import Audit
from efface.cli import main
from efface.files import read_json
from efface.runs.run import Run
from tests.runs.test_audit import run as run

ATTACK = Path(__file__).parents[2] / "examples" / "my_attack.py"


def test_an_attack_of_ones_own_is_one_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to, key = tmp_path / "audited", "attack/my_attack/noise 0.1/0x0/forget/acc_norm"
    assert main(["audit", str(run.folder), "--attacks", str(ATTACK), "--to", str(to)]) == 0
    assert "my_attack, noise 0.1" in " ".join(capsys.readouterr().out.split())
    found = read_json(to / "audit.json", Audit)
    for measured in (found.base, found.erased):
        assert {k.split("/")[2] for k in measured.scores if k.startswith("attack/my_attack/")} == {"noise 0.03", "noise 0.1"}
        assert measured.scores[key].n == measured.scores["choice/forget/acc_norm"].n
    assert "my_attack, noise 0.1" in (to / "report.html").read_text()
    assert main(["gate", str(to), "--max", key, "1"]) == 0
    assert main(["gate", str(to), "--max", key, "-0.1"]) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def attack(subject, measure): return 1 / 0", "mine.py: attack: ZeroDivisionError: division by zero"),
        ("def attack(subject, measure): raise SystemExit(3)", "mine.py: attack: SystemExit: 3"),
        ("def attack(subject, measure): measure(subject)", "mine.py: attack: AttributeError"),
        ("def attack(subject): pass", "mine.py: attack: TypeError"),
    ],
)
def test_an_attack_that_does_not_work_is_one_line(
    text: str, says: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert main(["audit", str(run.folder), "--attacks", str(tmp_path / "mine.py"), "--to", str(tmp_path / "to")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in said
    assert said.startswith("efface: ")
    assert not (tmp_path / "to").exists()
