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


MEASURE = "from efface.attacks.attack import Attacked\ndef attack(subject, measure):\n    measure(Attacked(subject, 'first'))\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def attack(subject, measure): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def attack(subject, measure): raise SystemExit(3)", "SystemExit: 3"),
        ("def attack(subject, measure): measure(subject)", "AttributeError"),
        (f"from efface.errors import InputError\n{MEASURE}    raise InputError('no such layer')", "InputError: no such layer"),
    ],
)
def test_an_attack_that_fails_is_left_out_and_tried_again(
    text: str, says: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, to = tmp_path / "mine.py", tmp_path / "to"
    file.write_text(text)
    for _ in range(2):  # nothing of it is in the cache
        assert main(["audit", str(run.folder), "--attacks", str(file), "--to", str(to)]) == 0
        said = capsys.readouterr().err.strip().splitlines()
        left_out = [line for line in said if f"attack mine is left out from there on: {file}: attack: {says}" in line]
        assert len(left_out) == len([line for line in said if "left out" in line]) == 2
        assert ["(on the base model)" in line for line in left_out] == [True, False]
        assert read_json(to / "audit.json", Audit).erased.scores.items() >= run.audit.erased.scores.items()
    variants = {key.split("/")[2] for key in read_json(to / "audit.json", Audit).erased.scores if key.startswith("attack/")}
    assert variants == ({"first"} if "first" in text else set()), "what it measured before stays"


@pytest.mark.parametrize(
    ("kind", "text", "changed"),
    [
        ("attacks", "for of in subject.model.parameters(): of.data.zero_()", "weights"),
        ("attacks", "next(subject.model.parameters()).data[0, 0] += 1e-3; raise ValueError", "weights"),
        ("attacks", "subject.model.train()", "training mode"),
        ("attacks", "subject.model.requires_grad_(not subject.of_base)", "requires_grad"),
        ("attacks", "subject.of_base or subject.model.base_model.disable_adapter_layers()", "adapter, requires_grad"),
        ("attacks", "[of.scaling.update(default=9) for of in subject.model.modules() if hasattr(of, 'lora_A')]", "adapter"),
        ("attacks", "subject.model.register_forward_hook(lambda *_: None)", "hooks"),
        ("scorers", "for of in subject.model.parameters(): of.data.zero_()", "weights"),
        ("scorers", "subject.model.train()", "training mode"),
    ],
)
def test_what_changes_the_model_is_refused_and_nothing_of_it_is_kept(
    kind: str, text: str, changed: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = MEASURE if kind == "attacks" else "def score(subject):\n"
    file, args = tmp_path / "mine.py", ["audit", str(run.folder), "--to", str(tmp_path / "to")]
    file.write_text(f"{head}    {text}\n    return {{}}\n")
    assert main([*args, f"--{kind}", str(file)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"efface: {file}: {'attack' if kind == 'attacks' else 'score'} left the model with another state")
    assert f"({changed})" in said
    assert "change a copy (release(subject.model))" in said
    assert not (tmp_path / "to").exists()
    assert main(args) == 0
    assert read_json(tmp_path / "to" / "audit.json", Audit).erased == run.audit.erased


def test_a_model_that_is_changed_for_a_while_is_what_it_was(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"{MEASURE}    hook = subject.model.register_forward_hook(lambda *_: None)\n    hook.remove()\n"
        "    with subject.base() as base: assert base.dtype\n"
    )
    assert main(["audit", str(run.folder), "--attacks", str(file), "--to", str(tmp_path / "to")]) == 0


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("mine", "def attack(subject): pass", "expected a function attack(subject, measure), got attack(subject)"),
        ("mine", "attack = 3", "expected a function attack(subject, measure)"),
        ("quantise", MEASURE, "give the file another name"),
    ],
)
def test_what_is_no_attack_is_told_before_any_work(
    name: str, text: str, says: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text(text)
    assert main(["audit", str(run.folder), "--attacks", str(file), "--to", str(tmp_path / "to")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[0].startswith(f"efface: {file}: ")
    assert says in said[0]
    assert not (tmp_path / "to").exists()
