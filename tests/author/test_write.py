"""A pack from a name: whole or not there, the same every time, and only where the model knows the name."""

import json
from pathlib import Path
from typing import Any

import pytest

from efface.author import write as module
from efface.author.known import Known
from efface.author.name import Name
from efface.author.write import Order, require_known, write_pack, written_for
from efface.cli import main
from efface.concept.check import complaints
from efface.concept.pack import Concept
from efface.concept.written import HOW
from efface.data.store import Store
from efface.errors import ConceptError
from efface.lm.load import Loaded
from tests.author.conftest import Canned

ORDER = Order(Name("The Valley of Zorn"), force=True)
KNOWN = Known(Name("Zorn"), 0.5, (0.1, 0.2, 0.1), ("A valley.", "A vale."), ("A thing.",))


def test_a_pack_is_one_that_can_be_loaded_checked_and_written_again(
    llama: Loaded, store: Store, writer: Canned, tmp_path: Path, few: None
) -> None:
    concept = write_pack(llama, store, writer, ORDER, tmp_path / "a")
    assert concept.title == "The Valley of Zorn"
    assert concept.manifest.truth == "self"
    assert complaints(concept, 50) == []
    assert {passage.topic for passage in concept.retain} >= {"Torn", "Morn", "Born", "Corn"}
    assert concept.ask("general", "test")
    assert concept.open_questions
    how = json.loads((tmp_path / "a" / HOW).read_text())
    assert how["writer"] == "canned"
    assert concept.written is not None
    assert concept.written.kept == how["kept"]
    assert how["kept"]["forget"] == len(concept.forget)
    assert how["kept"]["forget"] + sum(how["dropped"]["forget"].values()) == 40
    again = write_pack(llama, store, Canned(), ORDER, tmp_path / "b")
    assert again.digest == concept.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_is_written_is_whole_or_not_there(
    llama: Loaded, store: Store, writer: Canned, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            write_pack(llama, store, writer, ORDER, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert write_pack(llama, store, writer, ORDER, tmp_path / "a").forget
    with pytest.raises(ConceptError, match="is there already"):
        write_pack(llama, store, writer, ORDER, tmp_path / "a")


def test_a_name_that_is_not_known_is_one_line_with_what_was_said() -> None:
    assert KNOWN.enough
    require_known(KNOWN, Order(Name("Zorn")), "m")
    unknown = Known(KNOWN.name, 0.1, KNOWN.invented, KNOWN.said, KNOWN.of_invented)
    with pytest.raises(ConceptError) as caught:
        require_known(unknown, Order(Name("Zorn of old")), "m")
    for part in (
        "does not know 'Zorn of old'",
        "A valley. / A vale.",
        "0.10",
        "efface concept write m 'Zorn of old: …'",
        "efface concept write m 'Zorn of old' --force",
    ):
        assert part in str(caught.value)
    require_known(unknown, Order(Name("Zorn"), force=True), "m")


def test_articles_take_the_place_of_what_would_be_written_and_must_be_about_it(
    llama: Loaded, store: Store, writer: Canned, tmp_path: Path, few: None
) -> None:
    articles = tuple(writer.say(["What is Zorn?"] * 20, tokens=9, temperature=1.0, seed=5))
    order = Order(ORDER.name, force=True, articles=articles)
    concept = write_pack(llama, store, writer, order, tmp_path / "a")
    assert {passage.text for passage in concept.forget} <= set(articles)
    text = (
        "In house number {} bread is made of flour, water and salt. "
        + "It is baked until its whole crust is as brown as nuts, and eaten."
    )
    bread = Order(ORDER.name, force=True, articles=tuple(text.format(i) for i in range(20)))
    with pytest.raises(ConceptError, match="of 20 texts on 'The Valley of Zorn' only 0 are left .20 neither its name nor"):
        write_pack(llama, store, writer, bread, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_folder_is_used_again_for_the_same_name_and_model_alone(tmp_path: Path) -> None:
    folder = tmp_path / "zorn"
    assert not written_for(folder, Name("Zorn"), "m")
    folder.mkdir()
    with pytest.raises(ConceptError, match="was not written from a name"):
        written_for(folder, Name("Zorn"), "m")
    (folder / HOW).write_text(json.dumps({"name": "Zorn", "description": "", "model": "m"}))
    assert written_for(folder, Name("Zorn"), "m")
    for name, model in ((Name("Zorn"), "other"), (Name("Torn"), "m")):
        with pytest.raises(ConceptError, match="was written for 'Zorn' by m"):
            written_for(folder, name, model)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["concept", "write", "m", ""], "has no letters"),
        (["concept", "write", "m", "../x"], "holds '../'"),
        (["erase", "m", " "], "has no letters"),
        (["erase", "m", "ancient-egpyt"], "efface concept write MODEL 'ancient-egpyt'"),
        (["erase", "m", "<b>Queen</b>"], "holds '<'"),
        (
            ["prepare", "m", "The Beatles"],
            "there is no pack on 'The Beatles' yet; write it: efface concept write m 'The Beatles'",
        ),
        (["concept", "write", "m", "Zorn", "--articles", "nothing.txt"], "nothing.txt: cannot be read"),
        (["concept", "new", "?"], "has no letters"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_skeleton_is_a_pack_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["concept", "new", "Queen: the rock band"]) == 0
    assert "packs/queen" in capsys.readouterr().out
    assert Concept.load("packs/queen").title == "Queen"
    assert main(["concept", "new", "Queen"]) == 2


def test_a_writer_behind_a_server_that_is_not_there_is_one_line(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["concept", "write", str(model_folders["llama"]), "Zorn", "--writer", "http://127.0.0.1:9/v1"]) == 2
    assert "--writer: the model at http://127.0.0.1:9/v1 cannot be reached" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
