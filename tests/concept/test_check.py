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


def test_facts_are_answers_of_questions_on_the_concept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pack(tmp_path)
    file, digest = tmp_path / "forget.jsonl", Concept.load(str(tmp_path)).digest
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "facts": None}) + "\n" for row in rows))
    assert Concept.load(str(tmp_path)).digest == digest, "to say nothing changes nothing"
    for facts, says in (
        (["Honig", "eats BREAD"], ""),
        ([], ""),
        (["Honig", "hunny"], "1 fact of forget passages, the answer of no question on the concept: 'hunny'"),
        ([" "], "forget.jsonl:1: facts"),
        ("honey", "forget.jsonl:1: facts"),
    ):
        file.write_text("".join(json.dumps({**row, "facts": facts}) + "\n" for row in rows))
        assert main(["concept", "check", str(tmp_path)]) == (2 if says else 0)
        assert says in capsys.readouterr().err
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "retain.jsonl").write_text(json.dumps({"text": RETAIN[0], "facts": ["honey"]}) + "\n")
    assert main(["concept", "check", str(tmp_path)]) == 2
    assert "1 passage has facts of the concept, and 'Bread" in capsys.readouterr().err


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
