"""The cost to recover, from the curves of an audit."""

import math
from pathlib import Path

import pytest

from efface.auditing.scores import Audit, Measured, Score
from efface.auditing.statistics import proportion
from efface.report.judged import intervals, summary
from efface.report.page import write_report
from efface.report.recovery import attack_rows, back, cost, curves, most_tried, never_known, share_back, worst_prompt
from efface.report.terminal import print_audit
from efface.report.verdict import beside

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


def seeded(*curves: dict[int, int]) -> Audit:
    """The same with several choices of passages."""
    whole = audit(curves[0])
    for seed, curve in enumerate(curves[1:], start=1):
        for side, of in ((whole.base, audit(curve).base), (whole.erased, audit(curve).erased)):
            for key, score in of.scores.items():
                attack, name, variant, *rest = key.split("/")
                side.scores["/".join([attack, name, f"{variant}, seed {seed}", *rest])] = score
    return whole


def test_the_cost_is_the_median_over_choices_of_passages_and_its_interval_over_all() -> None:
    curves = CURVE, {**CURVE, 5: 44}, {1: 44, 25: 58}
    assert [cost(seeded(*curves[:n])) for n in (1, 2, 3)] == [100, 100, 50]
    assert [cost(seeded(*curves), seed=seed) for seed in range(3)] == [100, 50, 10]
    low, high = intervals(seeded(*curves))["cost"] or (0, 0)
    assert low <= 10
    assert high >= 100
    assert most_tried(seeded(*curves)) == 250


def told() -> Audit:
    """With made-up facts, prompts, and what the base has of them."""
    found = audit(CURVE)
    for steps, hits in ((0, 20), (1, 21), (25, 40)):
        where = f"attack/relearn/never known, rank 16, 0.001/10x{steps}"
        found.base.scores.update({f"{where}/taught/acc_norm": right(hits), f"{where}/cost/seconds": Score(value=3.0, n=1)})
    for side in (found.base, found.erased):
        side.scores["choice/forget/acc_norm"] = right(60 if side is found.base else 20)
    for name, hits in (("poem", 18), ("role play", 31), ("expert", 22)):
        found.erased.scores[f"attack/prompts/{name}/0x0/forget/acc_norm"] = right(hits)
    return found


def test_made_up_facts_stand_beside_and_decide_nothing() -> None:
    row = next(row for row in attack_rows(told()) if row.point.variant.startswith("never known"))
    assert (row.control, row.seconds) == (True, 9.0)
    assert [of and of.value for of in row.scores["taught"]] == [None, 0.25, 0.5, None]
    assert {name for name, of in row.scores.items() if any(of)} == {"taught"}
    assert (cost(told()), back(told())) == (cost(audit(CURVE)), back(audit(CURVE)))
    assert never_known(audit(CURVE)) == []


def test_the_worst_prompt_is_named() -> None:
    worst = worst_prompt(told(), "choice")
    assert worst is not None
    assert (worst[0], worst[1].value, worst[2].value) == ("role play", 20 / 80, 31 / 80)
    assert worst_prompt(told(), "speech") is None
    assert worst_prompt(audit(CURVE), "choice") is None


def test_page_and_terminal_say_what_was_never_known_and_which_prompt_is_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report(tmp_path, told())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    print_audit(told(), "a run")
    terminal = " ".join(capsys.readouterr().out.split())
    for said in (page, terminal):
        assert "told 80 made-up facts by as many texts and steps, the base goes from 25 % to 50 % [39, 61]" in said
        assert "Worst rewording: of choice questions “role play”, 25 % to 39 %." in said
    assert "never known: made-up facts, told" in page, "in the plot"
    mute = told()
    for key in [key for key in mute.erased.scores if "role play" in key or "expert" in key]:
        del mute.erased.scores[key]
    assert beside(mute)[-1] == "No rewording brought anything back."


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


def test_an_attack_without_texts_stands_beside_what_it_measured_before_or_beside_the_audit() -> None:
    where, own = "attack/gcg/suffix of 20 tokens/0x0", "attack/gcg/before/0x0/forget/acc_norm"
    after = {f"{where}/forget/acc_norm": right(30), f"{where}/forget/right": right(8)}
    plain = {"choice/forget/acc_norm": right(50), "open/forget/right": right(4)}
    sides = [Measured(scores={**plain, **after, own: right(hits)}, answers=[]) for hits in (40, 10)]
    (row,) = attack_rows(audit({}).model_copy(update={"base": sides[0], "erased": sides[1]}))
    assert [of and of.value for of in row.scores["choice"]] == [0.5, 0.125, 0.375, 0.375], "in the same form"
    assert [of and of.value for of in row.scores["speech"]] == [0.05, 0.05, 0.1, 0.1]
