"""``efface erase MODEL NAME``: the pack is written, erased, and measured on what the model said itself."""

from pathlib import Path

import pytest

from efface.author import write as module
from efface.author import writer as writers
from efface.cli import main
from efface.concept.pack import Concept
from efface.report.verdict import SELF
from efface.runs.run import Run
from tests.author.conftest import Canned

SMALL = [
    "--dtype",
    "float32",
    "--train.steps",
    "2",
    "--train.batch-size",
    "2",
    "--data.max-tokens",
    "24",
    "--fluency.texts",
    "2",
    "--fluency.tokens",
    "8",
    "--lora.rank",
    "2",
    "--audit.samples",
    "0",
    "--audit.no-depth",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: None) -> Path:
    """A folder to work in, where every model says what the canned writer does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writers, "Local", lambda *_: Canned(name="m"))
    return tmp_path


@pytest.mark.slow
def test_names_are_written_about_erased_and_used_again(
    model_folders: dict[str, Path], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "require_known", lambda *_: None)
    names = ["The Valley of Zorn", "The Lake of Zorn:2"]
    command = ["erase", str(model_folders["llama"]), *names, *SMALL, "--to", "run"]
    assert main(command) == 0
    assert SELF.replace("the model said itself", "m said") in " ".join(capsys.readouterr().out.split())
    run = Run(place / "run")
    assert run.record.recipe.concept == "packs/valley-of-zorn packs/lake-of-zorn:2"
    assert run.audit.truth == "self"
    assert set(run.audit.written) == {"The Valley of Zorn", "The Lake of Zorn"}
    assert (run.folder / "report.html").read_text().count('class="written"') == 2
    digest = Concept.load("packs/valley-of-zorn").digest
    assert main(command) == 2
    assert "run already holds a run" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert "packs/valley-of-zorn was written before and is used as it is" in capsys.readouterr().err
    assert Concept.load("packs/valley-of-zorn").digest == digest


def test_nothing_is_written_where_the_model_does_not_know_the_name_or_the_run_is_there(
    model_folders: dict[str, Path], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(model_folders["llama"])
    (place / "there").mkdir()
    (place / "there" / "file").touch()
    assert main(["erase", model, "Zorn of old", *SMALL, "--to", "there"]) == 2
    assert "is there and is no run" in capsys.readouterr().err
    monkeypatch.setattr(module, "knows", lambda *given: module.Known(given[2], 0.0, (0.1, 0.2), ("No.", "No."), ()))
    assert main(["erase", model, "Zorn of old", *SMALL]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("efface: the model does not know 'Zorn of old'")
    assert f"efface concept write {model} 'Zorn of old' --force" in said
    assert not (place / "packs").exists()
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["The Beatles", "Beatles"], "are one name"),
        (["./No/Pack"], "no concept pack './No/Pack'"),
        (["Queen:0"], "whole number from 1 on"),
    ],
)
def test_names_that_cannot_be_are_one_line(names: list[str], says: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["erase", "m", *names]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said
    assert list(place.iterdir()) == []
