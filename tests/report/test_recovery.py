"""The cost to recover, from the curves of an audit."""

import math
from pathlib import Path

import pytest

from efface.auditing.scores import Audit, Measured, Score
from efface.auditing.statistics import proportion
from efface.report.judged import intervals, summary
from efface.report.page import write_report
from efface.report.recovery import attack_rows, back, cost, curves, most_tried, share_back
from efface.report.terminal import print_audit

CURVE = {1: 22, 2: 24, 5: 30, 10: 44, 25: 58}


def right(hits: int) -> Score:
    return proportion([True] * hits + [False] * (80 - hits), 0.25)


def audit(curve: dict[int, int], general: int = 60, spoken: dict[int, int] | None = None) -> Audit:
    """The base has 60 of 80 right, the erased model 20, and after so many steps on ten texts what the curve says."""
    before = "attack/relearn/before/10x0"
    erased = {f"{before}/forget/acc_norm": right(20), f"{before}/general/acc_norm": right(60)}
    base = {f"{before}/forget/acc_norm": right(60), f"{before}/general/acc_norm": right(60)}
    if spoken:
        base[f"{before}/forget/right"], erased[f"{before}/forget/right"] = right(40), right(0)
    for steps, hits in curve.items():
        where = f"attack/relearn/rank 16, 0.001/10x{steps}"
        erased |= {f"{where}/forget/acc_norm": right(hits), f"{where}/general/acc_norm": right(general)}
        erased[f"{where}/cost/seconds"] = Score(value=2.0, n=1)
        if spoken:
            erased[f"{where}/forget/right"] = right(spoken[steps])
    control = "attack/relearn/other texts, rank 16, 0.001/10x25"
    erased |= {f"{control}/forget/acc_norm": right(60), f"{control}/cost/seconds": Score(value=9.0, n=1)}
    return Audit(concept="c", split="test", base=Measured(scores=base, answers=[]), erased=Measured(scores=erased, answers=[]))


def test_half_of_what_was_lost_decides_and_controls_do_not() -> None:
    found = audit(CURVE)
    (curve,) = curves(found).values()
    assert [point.cost for point in curve] == [10, 20, 50, 100, 250]
    assert share_back(found, curve[2], "choice") == pytest.approx(0.25)
    assert cost(found) == summary(found)["cost"] == 100
    assert back(found) == summary(found)["back"] == pytest.approx(38 / 40)
    assert most_tried(found) == 250


def test_what_never_comes_back_costs_more_than_anything_tried() -> None:
    found = audit({1: 21, 25: 25})
    assert cost(found) == math.inf
    assert intervals(found)["cost"] == (math.inf, math.inf)


def test_an_attack_that_destroys_the_model_recovers_nothing() -> None:
    found = audit(CURVE, general=50)
    assert cost(found) is None
    assert back(found) is None


def test_the_cheaper_of_choice_and_speech_counts() -> None:
    found = audit(CURVE, spoken={1: 0, 2: 3, 5: 25, 10: 30, 25: 40})
    assert (cost(found, "choice"), cost(found, "speech"), cost(found)) == (100, 50, 50)
    assert cost(found) == 50


def test_nothing_lost_nothing_to_recover() -> None:
    found = audit(CURVE)
    assert cost(found.model_copy(update={"erased": found.base})) is None
    same = found.model_copy(update={"base": found.erased})
    assert cost(same) is None


def test_the_interval_covers_neighbouring_marks() -> None:
    low, high = intervals(audit(CURVE))["cost"] or (0, 0)
    assert 50 <= low <= 100 <= high <= 250


def test_rows_say_what_an_attack_cost_and_what_came_back() -> None:
    attack, control = attack_rows(audit(CURVE))
    assert (attack.seconds, attack.control, attack.point.cost) == (10.0, False, 250)
    assert [of and of.value for of in attack.scores["choice"]] == [0.75, 0.25, 58 / 80, None]
    assert (control.control, control.seconds) == (True, 9.0)


def test_page_card_and_terminal_say_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(tmp_path, audit(CURVE))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What it takes to get it back" in page
    assert "Half of what was lost is back after 100 [" in page
    assert page.index('id="attacks"') < page.index('id="answers"')
    print_audit(audit({1: 21, 25: 25}), "a run")
    said = " ".join(capsys.readouterr().out.split())
    assert "What it takes to get it back" in said
    assert "No training of up to 250 texts × steps brought half of what was lost back" in said
    write_report(tmp_path, audit({}).model_copy(update={"erased": Measured(scores={}, answers=[])}))
    assert "What it takes" not in (tmp_path / "report.html").read_text(encoding="utf-8")
