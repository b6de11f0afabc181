"""Many visitors of a run at once, and what they are shown."""

from itertools import pairwise, zip_longest

import pytest

from efface.cli import main
from efface.runs.run import Run
from efface.serve.fragments import conversation
from efface.serve.stage import Stage, Turn
from efface.serve.voices import Sampling
from tests.runs.conftest import run as run

EVIL = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} @children \x1b[2J"
SHORT = Sampling(tokens=12)


@pytest.fixture(scope="module")
def stage(run: Run) -> Stage:
    return Stage(run)


def test_all_answer_and_their_answers_are_shaded(stage: Stage) -> None:
    turns = list(stage.ask([], "Who was Orlo?", 30, SHORT))
    assert (turns[0].note, turns[0].said) == ("loading …", {})
    growing = [turn.said["base"] for turn in turns[1:]]
    assert all(after.startswith(before) for before, after in pairwise(growing))
    last = turns[-1]
    assert list(last.said) == ["base", "erased", "guided"]
    assert last.said["base"] != last.said["guided"]
    for name in ("base", "erased"):
        assert "".join(piece for piece, _ in last.pieces[name]) == last.said[name]
    assert any(far > 0 for _, far in last.pieces["base"])
    assert last.pieces["guided"] == ()


def test_visitors_do_not_hear_each_other(stage: Stage) -> None:
    wanted = [("Who was Orlo?", 3.0), ("What is bread?", 0.0), ("Who was Orlo?", 30.0)]
    alone = [list(stage.ask([], question, eta, SHORT))[-1] for question, eta in wanted]
    at_once = list(zip_longest(*(stage.ask([], question, eta, SHORT) for question, eta in wanted)))
    assert [[turn for turn in turns if turn][-1] for turns in zip(*at_once, strict=True)] == alone


def test_what_was_said_before_is_part_of_the_question(stage: Stage) -> None:
    before = [Turn("The dragon?", {"base": "It eats honey.", "erased": "It eats bread."})]
    first, again = (list(stage.ask(turns, "Why?", 0, SHORT))[-1] for turns in ([], before))
    assert first.said != again.said


def test_a_question_that_is_too_long_leaves_a_note(stage: Stage) -> None:
    turn = list(stage.ask([], "why? " * 300, 0, SHORT))[-1]
    assert turn.said == {}
    assert "has 256 positions; ask a shorter one" in turn.note


def test_what_others_wrote_is_never_markup() -> None:
    turn = Turn(EVIL, {"base": EVIL, "erased": EVIL}, {"base": ((EVIL[:9], 0.5), (EVIL[9:], 1.0))}, note=EVIL)
    page = conversation(EVIL, [turn])
    assert page.count("onerror=alert(1)&gt;") == 5
    assert page.count("<img") == 0
    for template in ("${", "{{", "@children", "\x1b"):
        assert template not in page
    assert "rgba(var(--far),0.30)" in page


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "play: expected a run folder, or several"),
        (["nowhere"], "play: 'nowhere' is no finished run folder; expected one with a run.json"),
        (["RUN", "--port", "70000"], "play: --port: expected a number from 0 to 65535, got 70000"),
        (["RUN", "--tokens", "0"], "play: --tokens: expected a number from 1 on, got 0"),
        (["RUN"], "play: expected gradio; try: pip install 'efface[play]'"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    args: list[str], says: str, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("efface.cli.parse.find_spec", lambda _: None)
    assert main(["play", *(str(run.folder) if arg == "RUN" else arg for arg in args)]) == 2
    assert capsys.readouterr().err == f"efface: {says}\n"
