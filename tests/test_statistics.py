"""Intervals, tests and limits against hand-made cases, and against simulations whose truth is known."""

import json
from fractions import Fraction
from itertools import product
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from efface.cli import main
from efface.concept import Question
from efface.groups import ends, holm, redrawn_means, sign_flips, wilson
from efface.report.intervals import DRAWS, resampled, resampled_mean
from efface.report.table import gone, intervals, judged, kept, rows, show, specificity, spread, summary, verdict
from efface.report.terminal import print_audit
from efface.results import Audit, Difference, Measured, Score, average, proportion
from efface.scorers.choice import alike
from efface.scorers.paired import difference
from efface.scorers.perplexity import perplexity

FOURS = [i // 4 for i in range(80)]


def width(score: Score) -> float:
    assert score.low is not None
    assert score.high is not None
    return score.high - score.low


def audit_of(base: dict[str, Score], erased: dict[str, Score]) -> Audit:
    return Audit(
        concept="c",
        split="test",
        base=Measured(scores=base, answers=[]),
        erased=Measured(scores=erased, answers=[]),
        differences={key: gap for key in erased if key in base and (gap := difference(base[key], erased[key])) is not None},
    )


def hits(right: list[int]) -> list[bool]:
    """So many right in each group of four."""
    return [place < count for count in right for place in range(4)]


def full() -> Audit:
    """One right of four by the choices alone after erasure, in groups; everything else little changed."""
    rng = np.random.default_rng(3)
    before, after = hits([4, 3, 2, 2, 1, 4, 3, 2, 3, 2]), hits([1, 1, 1, 2, 1, 1, 0, 1, 1, 1])
    quiz, groups = {"forget": (before, after), "neighbour": (before, before), "general": (before, before)}, FOURS[:40]
    base, erased = (
        {f"choice/{kind}/acc_norm": proportion(of[side], 0.25, groups) for kind, of in quiz.items()} for side in (0, 1)
    )
    counts = [int(count) for count in rng.integers(20, 60, 20)]
    for side, nats in ((base, 2.0), (erased, 2.1)):
        noise = rng.normal(0, 0.1, 20)
        for key in ("answers/forget/perplexity", "perplexity/retain/held_out"):
            side[key] = perplexity([(count * (nats + n), count) for count, n in zip(counts, noise, strict=True)])
        side["answers/forget/repeated_4grams"] = average(list(rng.random(20) / 10))
        side["open/forget/right"] = proportion([True] * 2 + [False] * 18)
    return audit_of(base, erased)


# groups


def test_questions_that_share_their_choices_are_one_group() -> None:
    def question(choices: tuple[str, ...], answer: int) -> Question:
        return Question(kind="forget", topic="t", split="test", stem=f"{choices} {answer} is", choices=choices, answer=answer)

    asked = [question(("a", "b"), 0), question(("b", "a"), 0), question(("a", "c"), 1)]
    first, second, other = alike(asked)
    assert first == second != other
    several = alike([question(("yes", "no"), answer) for answer in (0, 0, 1, 0, 1)])
    assert len(set(several)) == 3, "a set that is asked again begins a group: two pairs, and one left over"
    assert several[0] == several[2] != several[1] == several[4]


def test_groups_that_always_have_one_right_are_narrow_and_groups_that_rise_as_one_are_wide() -> None:
    opposed, alone, together = hits([1] * 19 + [2]), hits([1] * 19 + [2]), hits([4, 0, 0, 0] * 5)
    narrow, plain, wide = (proportion(*given) for given in ((opposed, 0.25, FOURS), (alone, 0.25), (together, 0.25, FOURS)))
    assert 0 < width(narrow) < width(plain) / 2 < width(plain) * 1.5 < width(wide)
    assert width(average([float(hit) for hit in opposed], groups=FOURS)) == pytest.approx(width(narrow))
    assert (narrow.units, narrow.n, plain.groups) == (20, 80, None)
    assert proportion(alone, 0.25, list(range(80))) == plain, "every item in a group of its own is no group"


def test_the_standard_error_is_that_of_the_groups_means() -> None:
    counts = np.random.default_rng(0).integers(0, 5, 60)
    items = [float(hit) for hit in hits(counts.tolist())]
    means, groups = redrawn_means(items, [i // 4 for i in range(240)])
    assert groups == 60
    assert means.std() == pytest.approx(np.std(counts / 4) / sqrt(60), rel=0.03)


def test_where_no_draw_differs_it_is_wilsons_for_the_groups() -> None:
    for hit in (True, False):
        score = proportion([hit] * 80, 0.25, FOURS)
        assert (score.low, score.high) == wilson(float(hit), 20)
        assert width(score) > 0.1


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(shared: float) -> None:
    """shared: how often a group is right or wrong as a whole; the items alone would cover 60 % at 1."""
    rng, held, trials = np.random.default_rng(0), 0, 200
    for _ in range(trials):
        own, whole = rng.random((15, 4)) < 0.6, np.repeat(rng.random((15, 1)) < 0.6, 4, axis=1)
        items = np.where(rng.random((15, 1)) < shared, whole, own).ravel()
        score = proportion(items.tolist(), groups=FOURS[:60])
        assert score.low is not None
        assert score.high is not None
        held += score.low <= 0.6 <= score.high
    assert 0.9 <= held / trials <= 0.99


# differences


def test_sign_flips_by_hand() -> None:
    for sums in ([3, -1, 2, 2], [1, 1, 1, -1, 0], [2, -2], []):
        flips = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=len(sums))]
        assert sign_flips(sums) == pytest.approx(sum(flip >= abs(sum(sums)) for flip in flips) / len(flips))
    assert sign_flips([1] * 2 + [-1] * 9) == pytest.approx(float(2 * Fraction(1 + 11 + 55, 2**11))), "McNemar"


def test_the_test_of_a_difference_respects_groups() -> None:
    base, erased = hits([4] * 6 + [1] * 14), hits([0] * 6 + [1] * 14)
    alone, grouped = (difference(proportion(base, groups=of), proportion(erased, groups=of)) for of in (None, FOURS))
    assert alone is not None
    assert grouped is not None
    assert (alone.test, grouped.test) == ("McNemar", "sign flips")
    assert alone.p == pytest.approx(2 * 0.5**24)
    assert grouped.p == pytest.approx(2 * 0.5**6), "six groups fell, not 24 questions"
    assert grouped.high - grouped.low > alone.high - alone.low
    shift = difference(average(FOURS, groups=FOURS), average([x + 1 for x in FOURS], groups=FOURS))
    assert shift is not None
    assert (shift.low, shift.value, shift.high) == (1, 1, 1)
    assert difference(proportion(base, groups=FOURS), proportion(base)) is None, "not the same groups"


def test_nothing_is_said_of_fewer_than_five() -> None:
    for few in (average([1.0, 2.0, 4.0, 3.0]), proportion([True, False, True, True]), perplexity([(8.0, 4), (9.0, 4)])):
        assert (few.low, few.high) == (None, None)
        assert difference(few, few) is None
    for few in (proportion(hits([1, 2, 1, 0]), groups=FOURS[:16]), average(hits([1, 2, 1, 0]), groups=FOURS[:16])):
        assert (few.units, few.n, few.low) == (4, 16, None)
        assert difference(few, few) is None
    assert proportion([True] * 4 + [False]).low is not None
    one = average([1.0])
    assert (one.low, difference(one, one)) == (None, None)
    old = Score(value=0.5, n=4, low=0.1, high=0.9)
    assert show(old, True) == "50.0 %"
    few = audit_of({"open/forget/right": old}, {"open/forget/right": old})
    gap = Difference(value=0.0, n=4, low=0.0, high=0.0, p=1.0, test="McNemar")
    few = few.model_copy(update={"differences": {"open/forget/right": gap}})
    assert [row.difference for row in rows(few)] == [None]
    assert intervals(few)["open"] is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_rows_show_p_values_adjusted_for_their_number() -> None:
    found = full()
    shown = {row.label: row.difference for row in rows(found)}
    raw = found.differences["choice/forget/acc_norm"].p
    lowest = shown["concept, acc_norm"]
    assert lowest is not None
    tested = [gap for gap in shown.values() if gap is not None]
    assert raw == min(found.differences[key].p for key in found.differences)
    assert lowest.p == pytest.approx(raw * len(tested))
    assert all(gap.p == 1.0 for label, gap in shown.items() if gap is not None and "neighbours" in label)


# derived figures


def test_the_interval_of_a_ratio_of_means_by_hand() -> None:
    """Against the linearised standard error, with many groups, where both agree."""
    rng = np.random.default_rng(5)
    base = rng.binomial(4, 0.8, 400)
    erased = np.minimum(base, rng.binomial(4, 0.6, 400))
    of = [i // 4 for i in range(1600)]
    key = "choice/general/acc_norm"
    found = audit_of({key: proportion(hits(base.tolist()), 0.25, of)}, {key: proportion(hits(erased.tolist()), 0.25, of)})
    ratio = erased.sum() / base.sum()
    spread = sqrt(((erased - ratio * base) ** 2).sum()) / base.sum()
    interval = resampled(found, lambda audit: kept(audit, key), judged(found))
    assert interval is not None
    assert interval == pytest.approx((ratio - 1.96 * spread, ratio + 1.96 * spread), abs=0.3 * spread)
    assert intervals(found)["general"] == interval


def test_both_models_items_are_drawn_together() -> None:
    same = proportion(hits([4, 1, 2, 3, 0, 4, 2]), 0.25, FOURS[:28])
    found = audit_of({"choice/general/acc_norm": same}, {"choice/general/acc_norm": same})
    assert intervals(found)["general"] == (1.0, 1.0), "whatever is drawn, as many are right"


def test_every_figure_has_an_interval_around_it() -> None:
    found = full()
    values, between = summary(found), intervals(found)
    for name, value in values.items():
        interval = between[name]
        assert (interval is None) == (value is None), name
        if value is not None and interval is not None:
            assert interval[0] <= value <= interval[1], name
    assert intervals(found) == between, "the same draws every time"
    alone = found.erased.scores["open/forget/right"]
    assert between["open"] == (alone.low, alone.high)
    apart = audit_of(
        {key: score.model_copy(update={"groups": None}) for key, score in found.base.scores.items()},
        {key: score.model_copy(update={"groups": None}) for key, score in found.erased.scores.items()},
    )
    assert between["gone"] is not None
    low, high = intervals(apart)["gone"] or (0, 0)
    assert between["gone"][1] - between["gone"][0] < high - low


def test_a_figure_is_of_all_its_scores_or_has_no_interval() -> None:
    found = full()
    bare = found.erased.scores["perplexity/retain/held_out"].model_copy(update={"items": None, "tokens": None})
    older = found.erased.scores["perplexity/retain/held_out"].model_copy(update={"tokens": None})
    for score in (bare, older):
        scores = {**found.erased.scores, "perplexity/retain/held_out": score}
        without = intervals(found.model_copy(update={"erased": Measured(scores=scores, answers=[])}))
        assert without["retain ppl"] is without["kept"] is None
        assert without["general"] == intervals(found)["general"]


def test_a_base_that_may_be_at_chance_has_no_interval() -> None:
    base, erased = (proportion(hits(right), 0.25, FOURS[:24]) for right in ([0, 4, 0, 1, 0, 4], [1] * 6))
    found = audit_of({"choice/forget/acc_norm": base}, {"choice/forget/acc_norm": erased})
    assert gone(found) is not None
    assert intervals(found)["gone"] is None


def test_none_right_is_not_none_for_sure() -> None:
    base, erased = proportion([True] * 10 + [False] * 10), proportion([False] * 20)
    found = audit_of({"open/neighbour/right": base}, {"open/neighbour/right": erased})
    assert summary(found)["neighbours, open"] == 0
    interval = intervals(found)["neighbours, open"]
    assert interval is not None
    assert 0 <= interval[0] < 0.02 < 0.1 < interval[1] < 0.5


def test_what_is_judged_is_chosen_once() -> None:
    """In every draw the accuracy of the real items is used, and no other is looked at."""
    found, chosen = full(), {"forget": "choice/forget/acc_norm", "neighbour": "other", "general": "choice/general/acc_norm"}
    interval = resampled(found, specificity, chosen)
    assert interval is not None
    assert resampled(found, specificity, {**chosen, "general": "other"}) != interval
    assert resampled(found, lambda audit: kept(audit, "other"), chosen) is None


def test_a_mean_over_runs_is_as_sure_as_its_questions() -> None:
    found = full()
    alone, twice = spread([found])["gone"], spread([found, found])["gone"]
    assert alone is not None
    assert twice is not None
    assert alone.interval == twice.interval == intervals(found)["gone"], "the same questions, drawn alike in both runs"
    without = found.model_copy(update={"base": Measured(scores={}, answers=[])})
    assert resampled_mean([found, without], gone, [judged(found), judged(without)]) is None


def test_draws_in_which_a_figure_does_not_exist_count_at_both_ends() -> None:
    drawn = np.arange(DRAWS, dtype=float)
    drawn[:100] = np.nan
    assert ends(drawn, 100) == (-np.inf, np.inf)
    drawn = np.arange(DRAWS, dtype=float)
    low, high = ends(drawn, 100)
    assert 15 <= low <= 25
    assert low + high == pytest.approx(DRAWS, abs=2)


# what is said


def test_verdict_and_table_say_how_sure_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = full()
    low, high = intervals(found)["gone"] or (0, 0)
    value = summary(found)["gone"] or 0
    said = verdict(found)
    assert said.startswith(f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of the way from the base to chance is gone")
    monkeypatch.setenv("COLUMNS", "80")
    print_audit(found, "title")
    assert said.split(" of ")[0] in capsys.readouterr().out


def write(folder: Path, audit: Audit) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "audit.json").write_text(audit.model_dump_json())
    return str(folder)


def test_a_confident_gate_decides_on_the_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = full()
    run, high = write(tmp_path / "run", found), found.erased.scores["choice/forget/acc_norm"].high or 0
    value, low = summary(found)["gone"] or 0, (intervals(found)["gone"] or (0, 0))[0]
    forget = found.erased.scores["choice/forget/acc_norm"].value
    for limit, between, over in (
        ("--max-forget", (forget + high) / 2, high + 0.01),
        ("--min-gone", (low + value) / 2, low - 0.01),
    ):
        assert main(["gate", run, limit, str(between)]) == 0
        assert main(["gate", run, limit, str(between), "--confident"]) == 1
        assert main(["gate", run, limit, str(over), "--confident"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{forget:.3f} [" in lines[0]
    assert f"bound {high:.3f} (expected <= " in lines[1]
    assert lines[1].startswith("FAIL")
    assert f"bound {low:.3f} (expected >= " in lines[5]


def test_without_an_interval_a_confident_gate_is_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"choice/forget/acc_norm": Score(value=0.25, n=4, chance=0.25), "open/forget/right": Score(value=0, n=9)}
    run = write(tmp_path / "run", audit_of(scores, scores))
    limits = ["--max-forget", "0.9", "--max-open", "0.9", "--max-leak", "0.9"]
    assert main(["gate", run, *limits[:4]]) == 0
    assert main(["gate", run, *limits, "--confident"]) == 1
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(": ")[1].split(" (")[0] for line in lines] == ["0.250, no interval", "0.000, no interval", "not measured"]


def test_older_records_are_read_and_have_the_intervals_they_had(tmp_path: Path) -> None:
    found = json.loads(full().model_dump_json())
    for who in ("base", "erased"):
        for score in found[who]["scores"].values():
            del score["groups"], score["tokens"], score["items"]
    old = Audit.model_validate_json(json.dumps(found))
    assert summary(old) == summary(full())
    between = intervals(old)
    assert between["gone"] is between["kept"] is between["fluency"] is None
    assert between["forget"] == intervals(full())["forget"]
    assert "% of the way" in verdict(old)


def test_compare_says_how_sure_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = full()
    runs = [write(tmp_path / name, found) for name in ("one", "two")]
    assert main(["compare", *runs, "--to", str(tmp_path / "out")]) == 0
    low, high = intervals(found)["gone"] or (0, 0)
    between = f"[{low:.2f}, {high:.2f}]"
    assert f"one: gone {summary(found)['gone']:.2f} {between}" in capsys.readouterr().out
    for name in ("compare.md", "compare.html"):
        assert (tmp_path / "out" / name).read_text().count(between) >= 2
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["one"]["gone"]["interval"] == pytest.approx([low, high])
