"""Two answers at once on a screen."""

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from efface.serve import screen

EVIL = "red\x1b[31m"


def words(*said: str) -> Iterator[str]:
    return (" ".join(said[: i + 1]) for i in range(len(said)))


@pytest.mark.parametrize(("width", "beside"), [(80, True), (40, False)])
def test_answers_stand_beside_each_other_where_there_is_room(
    width: int, beside: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(screen, "Console", lambda: console)
    said = screen.side_by_side({"base": words("one", "two", EVIL), "erased": words("three")}, lambda: False)
    assert said == {"base": f"one two {EVIL}", "erased": "three"}
    if beside:
        lines = [line.split() for line in re.sub(r"\x1b\[[?0-9]*[A-Zhl]", "", shown.getvalue()).splitlines()]
        assert ["one", "two", "red\\x1b[31m", "three"] in lines
        assert any(line[-2:] == ["base", "erased"] for line in lines)
    else:
        assert capsys.readouterr().out == "base: one two red\\x1b[31m\nerased: three\n"
    assert "\x1b[31m" not in shown.getvalue()


def test_what_is_stopped_is_kept_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(screen, "Console", lambda: console)
    asked = iter([False, False, True])
    answers = {"base": words("one", "two", "three"), "erased": words("four", "five")}
    assert screen.side_by_side(answers, lambda: next(asked)) == {"base": "one two", "erased": "four"}
