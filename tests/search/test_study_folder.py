"""The folder of a search: one command at a time, any name, and a damaged file of it is one line or made again."""

from pathlib import Path
from typing import Any

import pytest

from efface.auditing.scores import Measured
from efface.errors import RunError
from efface.recipe.resolve import resolve
from efface.runs.folder import alone
from efface.search import tune
from efface.search.tune import Study

WHOLE = Measured(scores={}, answers=[])


@pytest.fixture
def study(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A search whose trials cost nothing."""

    def trial(_: Study, trial: Any, *__: Any) -> tuple[float, ...]:
        return (trial.suggest_float("train.lr", 0, 1),) * 3

    monkeypatch.setattr(Study, "_trial", trial)
    monkeypatch.setattr(tune, "_measure", lambda *_: WHOLE)
    return Study(
        tmp_path / "what? a {search} #1 100%", resolve({"model": str(model_folders["llama"]), "concept": str(pack_folder)})
    )


def test_two_searches_do_not_work_in_one_folder(study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def meanwhile(*_: Any) -> Measured:
        with monkeypatch.context() as patch:
            patch.setenv("EFFACE_CACHE", str(tmp_path / "another"))
            with pytest.raises(RunError, match="another command is working in"):
                Study(study.folder, study.recipe).run(1)
        return WHOLE

    monkeypatch.setattr(tune, "_measure", meanwhile)
    assert len(study.run(2)) == 2
    assert {path.name for path in study.folder.iterdir()} == {"study.db", "base.json", "tune.json"}
    assert len(study.run(3)) == 3


def test_a_folder_of_a_search_behind_a_link(study: Study, tmp_path: Path) -> None:
    study.folder.symlink_to(tmp_path / "elsewhere")
    study.run(1)
    assert (tmp_path / "elsewhere" / "tune.json").is_file()
    with alone(tmp_path / "elsewhere", tmp_path / "elsewhere" / ".lock"), pytest.raises(RunError, match="another command"):
        study.run(2)


@pytest.mark.parametrize("damage", ["cut", "zeros", "garbage"])
def test_a_damaged_file_of_trials_is_one_line(damage: str, study: Study) -> None:
    study.run(1)
    file = study.folder / "study.db"
    whole = file.read_bytes()
    file.write_bytes(
        {"cut": whole[:5000], "zeros": whole[:100] + bytes(4000) + whole[4100:], "garbage": b"garbage" * 999}[damage]
    )
    with pytest.raises(RunError, match="study.db is damaged; remove it to search anew, or name another folder with --to"):
        study.run(2)


def test_damaged_figures_of_the_base_are_made_again(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study.run(1)
    file = study.folder / "base.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    study.run(2)
    assert file.read_bytes() == whole
    assert "base.json" in capsys.readouterr().err
