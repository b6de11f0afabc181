"""What ``efface concept check`` finds: every file right, and yet not to be trained on."""

import json
from pathlib import Path

import pytest

from efface.cli import main
from efface.concept.check import complaints
from efface.concept.find import builtin_packs
from efface.concept.pack import Concept
from tests.conftest import FORGET, RETAIN, write_pack

WHOLE = [name for name, folder in sorted(builtin_packs().items()) if (folder / "forget.jsonl").is_file()]


@pytest.mark.parametrize(
    ("forget", "retain", "says"),
    [
        ([(RETAIN[0], "train")], [], "1 passage stands in forget and in retain, and cannot be both: 'Bread"),
        ([(RETAIN[3], "train")], [], "1 passage stands in forget and in retain"),
        ([(FORGET[0].upper().replace(" ", "  "), "held_out")], [], "1 passage stands in forget under train and under held_out"),
        ([], [(RETAIN[0], "held_out"), (RETAIN[1], "held_out")], "2 passages stand in retain under train and under held_out"),
        ([], [(RETAIN[1], "train")], "1 passage stands in retain more than once: 'The train"),
        ([("Too short.", "train")], [], "1 passage is shorter than 50 characters: 'Too short.'"),
        ([("Too short.", "train"), (RETAIN[0], "train")], [], "50 characters: 'Too short.'; 1 passage stands in forget and"),
    ],
)
def test_what_would_not_hold_is_one_line(
    forget: list[tuple[str, str]], retain: list[tuple[str, str]], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pack(tmp_path)
    for name, rows in (("forget", forget), ("retain", retain)):
        with (tmp_path / f"{name}.jsonl").open("a") as file:
            file.writelines(json.dumps({"text": text, "split": split}) + "\n" for text, split in rows)
    assert main(["concept", "check", str(tmp_path)]) == 2
    out = capsys.readouterr()
    assert says in out.err
    assert out.err.count("\n") == 1
    assert "no errors" not in out.out


@pytest.mark.parametrize("name", WHOLE)
def test_the_built_in_packs_have_nothing_of_it(name: str) -> None:
    assert complaints(Concept.load(name), 50) == []


def test_several_packs_must_agree_on_what_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_pack(tmp_path / name, name=name)
    (tmp_path / "two" / "retain.jsonl").write_text((tmp_path / "one" / "forget.jsonl").read_text())
    assert main(["concept", "check", f"{tmp_path / 'one'} {tmp_path / 'two'}"]) == 2
    assert "4 passages stand in forget and in retain" in capsys.readouterr().err
