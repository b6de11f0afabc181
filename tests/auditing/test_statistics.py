"""Intervals and tests of items in groups against hand-made cases, and against simulations whose truth is known."""

import json
import shutil
from fractions import Fraction
from itertools import product
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from efface.auditing.scorers.choice import alike
from efface.auditing.scorers.perplexity import perplexity
from efface.auditing.scores import Audit, Difference, Measured, Score
from efface.auditing.statistics import average, difference, holm, proportion, redrawn_means, sign_flips, wilson
from efface.concept.pack import Question
from efface.recipe.settings import AuditSettings
from efface.report.judged import intervals
from efface.report.table import rows, show
from efface.runs.audit import audit

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


@pytest.mark.parametrize(("shared", "least"), [(0.0, 0.9), (0.5, 0.9), (1.0, 0.9), (-0.7, 0.86)])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(shared: float, least: float) -> None:
    """shared: how often a group is right or wrong as a whole; below 0 how often the choices alone decide, and one is right."""
    rng, held, trials = np.random.default_rng(0), 0, 200
    for _ in range(trials):
        own, whole = rng.random((15, 4)) < 0.6, np.repeat(rng.random((15, 1)) < 0.6, 4, axis=1)
        alone = np.eye(4)[rng.integers(4, size=15)] > 0
        items = np.where(rng.random((15, 1)) < abs(shared), whole if shared > 0 else alone, own).ravel()
        score = proportion(items.tolist(), groups=FOURS[:60])
        assert score.low is not None
        assert score.high is not None
        truth = 0.6 if shared >= 0 else 0.7 * 0.25 + 0.3 * 0.6
        held += score.low <= truth <= score.high
    assert least <= held / trials <= 0.99


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


def test_differences_are_tested_where_there_are_questions_enough(
    model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path
) -> None:
    pack = shutil.copytree(pack_folder, tmp_path / "pack")
    common = {"kind": "forget", "topic": "it", "split": "test"}
    asked = [{**common, "question": f"What did dragon {i} eat?", "answers": ["honey"]} for i in range(5)]
    with (pack / "open.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in asked)
    with (pack / "questions.jsonl").open("a") as file:
        for i in range(8):
            row = {**common, "stem": f"Dragon {i} eats", "choices": [f"honey {i // 2}", f"bread {i // 2}"], "answer": i % 2}
            file.write(json.dumps(row) + "\n")
    base, settings = str(model_folders["llama"]), AuditSettings(samples=2, depth=False)
    found = audit(base, str(pack), base=base, settings=settings, dtype="float32")
    expected = {"choice/forget/acc_norm": "sign flips", "open/forget/leak": "McNemar", "choice/forget/probability": "bootstrap"}
    for key, test in expected.items():
        assert (found.differences[key].test, found.differences[key].n) == (test, found.erased.scores[key].n)
    assert found.erased.scores["choice/forget/acc_norm"].groups == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)
    assert "perplexity/forget/held_out" not in found.differences, "one text"
