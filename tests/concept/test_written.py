"""How a model wrote a pack, as the pack says it."""

import json
from pathlib import Path

import pytest

from efface.cli import main
from efface.concept.pack import Concept
from efface.concept.written import HOW, Written
from efface.errors import ConceptError
from tests.conftest import write_pack

HOW_IT_CAME = {"writer": "w", "model": "m", "dropped": {"forget": {"short": 2}}, "kept": {"forget": 3}, "seed": 0}


def test_it_is_read_with_the_pack_and_is_no_part_of_it(tmp_path: Path) -> None:
    write_pack(tmp_path, truth="self")
    without = Concept.load(str(tmp_path))
    assert without.written is None
    (tmp_path / HOW).write_text(json.dumps(HOW_IT_CAME))
    concept = Concept.load(str(tmp_path))
    assert concept.written == Written(writer="w", model="m", dropped={"forget": {"short": 2}}, kept={"forget": 3})
    assert concept.digest == without.digest


def test_several_packs_are_what_a_model_said_if_one_of_them_is(tmp_path: Path) -> None:
    for name, truth in (("a", "self"), ("b", "people")):
        (tmp_path / name).mkdir()
        write_pack(tmp_path / name, name=name, title=name, truth=truth)
    assert Concept.load(f"{tmp_path / 'a'} {tmp_path / 'b'}").manifest.truth == "self"


@pytest.mark.parametrize("content", ["{", "[]", '{"writer": "w"}', '{"writer": "w", "model": "a\\nb"}'])
def test_a_damaged_one_is_one_line(content: str, tmp_path: Path) -> None:
    write_pack(tmp_path)
    (tmp_path / HOW).write_text(content)
    with pytest.raises(ConceptError, match=r"how\.json.*can be used without this file") as caught:
        Concept.load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_show_and_check_say_whose_words_the_answers_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for truth, said in (("self", True), ("people", False)):
        write_pack(tmp_path, truth=truth)
        for verb in ("show", "check"):
            main(["concept", verb, str(tmp_path)])
            assert ("what a model said, not what is so" in capsys.readouterr().out) == said
