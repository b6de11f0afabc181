"""Intervals of derived figures, and where they are said: verdict, table, gate, compare."""

import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from efface.auditing.scores import Audit, Measured, Score
from efface.auditing.statistics import ends, proportion
from efface.cli import main
from efface.report.intervals import DRAWS, resampled, resampled_mean
from efface.report.judged import gone, intervals, judged, kept, specificity, summary
from efface.report.table import rows, spread
from efface.report.terminal import print_audit
from efface.report.verdict import verdict
from tests.auditing.test_statistics import FOURS, audit_of, full, hits

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


def test_the_worst_forms_are_chosen_once_and_have_intervals() -> None:
    """Forms that are as bad on the whole and bad at other questions: the worst of every draw would be worse than either."""
    found = full()
    base, erased = dict(found.base.scores), dict(found.erased.scores)
    for form, right in (("question", [2, 0] * 5), ("few_shot", [0, 2, 2, 0, 2, 1, 2, 0, 2, 0])):
        base[f"form/{form}/forget/acc_norm"] = base["choice/forget/acc_norm"]
        erased[f"form/{form}/forget/acc_norm"] = proportion(hits(right), 0.25, FOURS[:40])
    base["said/system/forget/right"], erased["said/system/forget/right"] = (
        proportion([True] * 30),
        proportion([True] * 9 + [False] * 21),
    )
    found = audit_of(base, erased)
    assert (judged(found)["forget"], judged(found)["open"]) == ("form/few_shot/forget/acc_norm", "said/system/forget/right")
    between, held = intervals(found), {**judged(found), "forget": "form/question/forget/acc_norm"}
    assert between["gone"] == resampled(found, gone, judged(found)) != resampled(found, gone, held)
    for name, key in (("forget", "form/few_shot/forget/acc_norm"), ("open", "said/system/forget/right")):
        assert between[name] == (erased[key].low, erased[key].high)
    labels = [row.label for row in rows(found)]
    assert labels.index("concept, worst form") < labels.index("concept, acc_norm")
    assert "open questions, worst form" in labels
    assert "asked behind three solved examples" in verdict(found)
    assert "30 % [17, 48] of open questions are answered right, in chat under a system prompt (base 100 %)" in verdict(found)


def test_the_verdict_says_whether_names_are_still_explained() -> None:
    """Choices may be at chance while the model goes on talking of the concept."""
    assert "names and topics" not in verdict(full()), "not measured"
    key = "said/forget/defined"
    with_names = [
        of.model_copy(update={"scores": {**of.scores, key: proportion([True] * told + [False] * (20 - told))}})
        for of, told in ((full().base, 18), (full().erased, 11))
    ]
    found = full().model_copy(update={"base": with_names[0], "erased": with_names[1]})
    assert "names and topics are, 55 % [34, 74] of the answers still say a word of the concept (base 90 %)" in verdict(found)


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
    assert " % of the way" in verdict(old)


def test_compare_says_how_sure_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = full()
    runs = [write(tmp_path / name, found) for name in ("one", "two")]
    assert main(["compare", *runs, "--to", str(tmp_path / "out")]) == 0
    low, high = intervals(found)["gone"] or (0, 0)
    between = f"[{low:.2f}, {high:.2f}]"
    assert f"one (bare stem only): gone {summary(found)['gone']:.2f} {between}" in capsys.readouterr().out
    for name in ("compare.md", "compare.html"):
        assert (tmp_path / "out" / name).read_text().count(between) >= 2
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["one (bare stem only)"]["gone"]["interval"] == (
        pytest.approx([low, high])
    )
