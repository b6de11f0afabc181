"""An audit in parts: what was measured is kept, and a scorer of one's own is one of them."""

from pathlib import Path
from typing import Any

import pytest

from efface.auditing import pair
from efface.auditing.scores import Audit
from efface.cli import main
from efface.concept.pack import Concept
from efface.files import read_json
from efface.runs.audit import audit
from efface.runs.run import Run
from tests.runs.test_audit import run as run

TAKEN = "FIGURES = (Figure(key='open/forget/leak', goal='a', label='b', wanted='up'),)"
SIDEWAYS = "FIGURES = (Figure(key='a/b/c', goal='a', label='b', wanted='sideways'),)"
SCORE = "from efface.auditing.scores import Figure, Score\n"
SCORER = Path(__file__).parents[2] / "examples" / "my_scorer.py"


def test_figures_are_kept_for_each_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("_scores", "score_depth", "answer_prompts", "said_answers"):
        monkeypatch.setattr(f"efface.auditing.pair.{part}", lambda *_: pytest.fail("measured again"))
    again = audit(run.folder)
    assert again.erased.scores == run.audit.erased.scores
    assert again.base.scores == run.audit.base.scores
    assert again.base.scores != again.erased.scores


def test_an_audit_that_failed_goes_on_from_the_part_that_failed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path))
    scores, made = pair._scores, list[str]()

    def fails(scorer: Any, subject: Any) -> Any:
        if scorer.__name__ == "score_drift":
            raise KeyboardInterrupt
        made.append(scorer.__name__)
        return scores(scorer, subject)

    monkeypatch.setattr(pair, "_scores", fails)
    with pytest.raises(KeyboardInterrupt):
        audit(run.folder)
    before = list(made)
    assert "score_choices" in before
    monkeypatch.setattr(pair, "_scores", lambda scorer, subject: made.append(scorer.__name__) or scores(scorer, subject))
    assert audit(run.folder).erased.scores == run.audit.erased.scores
    once = [name for name in made[len(before) :] if name in before]
    assert len(once) <= len(before), "what the base has is not measured again"
    assert made[len(before)] == "score_drift"


def test_a_scorer_of_ones_own_is_one_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to, key = tmp_path / "audited", "hedges/forget/rate"
    assert main(["audit", str(run.folder), "--scorers", str(SCORER), "--to", str(to)]) == 0
    assert "answers that hedge" in capsys.readouterr().out
    found = read_json(to / "audit.json", Audit)
    asked = Concept.load(run.record.recipe.concept).ask_open("forget", "test")
    assert found.erased.scores[key].n == found.base.scores[key].n == len(asked)
    assert [figure.key for figure in found.figures] == [key]
    assert "answers that hedge" in (to / "report.html").read_text()
    rate = found.erased.scores[key].value
    assert main(["gate", str(to), "--max", key, str(rate), "--min", key, "0"]) == 0
    assert main(["gate", str(to), "--max", key, str(rate - 0.1)]) == 1
    assert main(["gate", str(to), "--max", key, str(rate - 0.1), "--max", "choice/forget/acc", "1"]) == 1, "both count"
    assert main(["audit", str(to)]) == 2  # no run
    assert main(["gate", str(to), "--max", "no/such/figure", "1"]) == 1
    assert "not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FIGURES = ()", "expected a function score(subject)"),
        ("def score(): return {}", "expected a function score(subject), got score()"),
        ("def score(subject): return {}\nFIGURES = ('key',)", "expected FIGURES to be a tuple"),
        ("import nowhere", "cannot be imported: ModuleNotFoundError"),
        ("raise ValueError('two\\nlines')", "cannot be imported: ValueError: two"),
        (
            f"{SCORE}{TAKEN}\ndef score(subject): return {{}}",
            "open/forget/leak is a figure of every audit",
        ),
        (
            f"{SCORE}{SIDEWAYS}",
            "cannot be imported: ValidationError",
        ),
    ],
)
def test_what_is_no_scorer_is_told_before_any_work(
    text: str, says: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert main(["audit", str(run.folder), "--scorers", str(tmp_path / "mine.py"), "--to", str(tmp_path / "to")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in said
    assert said.startswith("efface: ")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def score(subject): return 1 / 0", "mine.py: score: ZeroDivisionError: division by zero"),
        ("def score(subject): return [1.0]", "mine.py: score: expected a dict of Score, got list"),
        ("def score(subject): return {'a/b/c': 1.0}", "expected a Score by key (test/kind/metric), got 'a/b/c': float"),
        ("def score(subject): raise SystemExit(3)", "mine.py: score: SystemExit: 3"),
        (f"{SCORE}def score(subject): return {{3: Score(value=1, n=1)}}", "got 3: Score"),
        (f"{SCORE}def score(subject): return {{'a/b/c': Score(value=float('nan'), n=1)}}", "expected a finite value"),
        (f"{SCORE}def score(subject): return {{'a/b/c': Score(value=1, n=3, items=(1,))}}", "has 1 items, expected n (3)"),
        (f"{SCORE}def score(subject): return {{'choice/forget/acc': Score(value=0, n=1)}}", "is the score of another scorer"),
    ],
)
def test_a_scorer_that_fails_is_left_out(
    text: str, says: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    for _ in range(2 if "1 / 0" in text else 1):  # nothing of it is in the cache
        assert main(["audit", str(run.folder), "--scorers", str(tmp_path / "mine.py"), "--to", str(tmp_path / "to")]) == 0
        left_out = [line for line in capsys.readouterr().err.splitlines() if "scorer mine is left out: " in line]
        assert len(left_out) == 2
        assert all(says in line for line in left_out)
    assert read_json(tmp_path / "to" / "audit.json", Audit).erased.scores == run.audit.erased.scores
